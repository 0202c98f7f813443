"""One command line, from its first word to the exit code: in a process of its own, or in a child of one that stays."""

from __future__ import annotations

import os
import signal
import sys

from txinspect.cli import environment


def run(words: list[str]) -> None:
    """Run a command line, and exit; an interrupt ends it quietly, even while it is still being imported."""
    _end_cleanly()
    try:
        environment.open_stderr()
        from txinspect.cli.lookalikes import use_lookalikes

        use_lookalikes()
        from txinspect.cli.app import app

        app(words, prog_name="txinspect", obj={"run": run})
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
