"""What stands on a page, in a line: the page itself is a file."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType

from txinspect.commands.page import PageReport
from txinspect.render.content import page as content
from txinspect.render.terminal.frame import drawn
from txinspect.render.terminal.reading import input_lines


def draw(report: PageReport, console: Console) -> RenderableType:
    """The text, and what stands on the page."""
    text = input_lines(report.input) if report.input is not None else []
    return Group(*text, *map(drawn, content.parts(report)))
