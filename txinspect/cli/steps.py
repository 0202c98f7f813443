"""A report in steps, one at a time where a person sits at the terminal: Enter shows the next, q ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from txinspect.cli import appearance
from txinspect.cli.environment import current, is_terminal
from txinspect.cli.terminal import unechoed

if TYPE_CHECKING:
    from txinspect.records import Report

PROMPT = "Enter: next, q: end "

_NEXT, _END = b"\r\n ", b"qQ\x1b\x04"
"""Keys; end of input is \\x04, Ctrl-D."""


def of(report: Report) -> list[Report]:
    """The steps of a report that are shown one at a time; none where all of it is shown at once."""
    here = current()
    if not (is_terminal(here.stdin) and is_terminal(here.stdout)) or here.term == "dumb":
        return []
    return list(getattr(report, "one_by_one", [])) if appearance.asked().pager else []


def show(parts: Sequence[Report], draw: Callable[[Report], None], say: Callable[[str], None]) -> None:
    """Show steps until one of them ends the tour, or the last is shown."""
    for part in parts:
        draw(part)
        if part is not parts[-1] and not _goes_on(say):
            return


def _goes_on(say: Callable[[str], None]) -> bool:
    """Whether a person wants the next step: they are asked in a line, which is then taken away."""
    stdin = current().stdin
    assert stdin is not None
    say(PROMPT)
    try:
        with unechoed(stdin.fileno()):
            while True:
                key = os.read(stdin.fileno(), 1)
                if not key or key in _END:
                    return False
                if key in _NEXT:
                    return True
    except OSError:  # a terminal that is gone
        return False
    finally:
        say("\r" + " " * len(PROMPT) + "\r")
