"""`python -m txinspect`, and the `txinspect` script."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; an interrupt ends it quietly, even while it is still being imported."""
    try:
        from txinspect.cli import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
