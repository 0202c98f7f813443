"""Help pages: Typer draws them, and they go the way of every drawing."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from typing import Any, cast

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
    here = environment.current()
    page = _Page(here.stdout)
    with environment.replaced(here._replace(stdout=cast(Any, page), variables=appearance.variables())):
        draw()
    drawn = page.getvalue()
    # Typer asks the environment once, when it is imported.
    never = appearance.asked().color == "never"
    streams.draw(re.sub(r"\x1b\[[0-9;]*m", "", drawn) if never else drawn)
