"""`python -m txinspect`, and the `txinspect` script."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Have the command line answered by the process that stays, where one runs, else run it here."""
    # A command is over before garbage matters, and looking for cycles takes a fifth of what importing torch and
    # transformers takes.
    gc.disable()
    words, variables = sys.argv[1:], dict(os.environ)
    try:
        from txinspect.serving import client

        code = client.ask(words)
        if code is not None:
            sys.exit(code)
        from txinspect.cli.starting import run
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        run(words)
    finally:
        client.start_next(words, variables)


if __name__ == "__main__":
    main()
