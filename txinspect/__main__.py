"""`python -m txinspect`, and the `txinspect` script."""

from __future__ import annotations

import gc
import os
import signal
import sys


def main() -> None:
    """Run the command line; an interrupt ends it quietly, even while it is still being imported."""
    # A command is over before garbage matters, and looking for cycles takes a fifth of what importing torch and
    # transformers takes.
    gc.disable()
    _end_cleanly()
    try:
        from txinspect.cli import environment

        environment.open_stderr()
        from txinspect.cli.lookalikes import use_lookalikes

        use_lookalikes()
        from txinspect.cli.app import app

        app(prog_name="txinspect")
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        # What a shell is told to complete is written by Typer, outside of the error boundary.
        print(f"txinspect: standard output could not be written: {error.strerror}", file=environment.current().stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)


def _end_cleanly() -> None:
    """Let a hang-up and a request to end take away temporary files, as an interrupt does; one that is ignored, as by
    nohup, stays ignored."""

    def end(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # once is enough
        sys.exit(128 + number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


if __name__ == "__main__":
    main()
