"""Help pages: Typer draws them, and they go the way of every drawing."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

from txinspect.cli import appearance, environment, streams


class _Page(StringIO):
    """A help page as it is drawn; it has what Rich asks of stdout."""

    encoding: str = "utf-8"

    def __init__(self, stdout: Any) -> None:
        super().__init__()
        self._is_terminal = environment.is_terminal(stdout) or appearance.is_coloured(stdout)
        self.encoding = environment.encoding(stdout)

    def isatty(self) -> bool:
        """Whether it may have colours, as far as Rich asks."""
        return self._is_terminal


def show(draw: Callable[[], object]) -> None:
    """What Typer writes to stdout while it draws a help page, with colours and in a pager as other drawings are."""
    page = _Page(environment.current().stdout)
    with redirect_stdout(page), appearance.told_by_variables():
        draw()
    drawn = page.getvalue()
    # Typer asks the environment once, when it is imported.
    never = appearance.asked().color == "never"
    streams.draw(re.sub(r"\x1b\[[0-9;]*m", "", drawn) if never else drawn)
