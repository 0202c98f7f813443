"""The table of `tokenize`."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.tokenize import TokenizeReport
from txinspect.render.content import tokenize as content
from txinspect.render.terminal.frame import Frame, drawn
from txinspect.render.terminal.reading import grid


def draw(report: TokenizeReport, console: Console) -> RenderableType:
    """One row per token, then the shapes and the characters per token."""
    input = report.input
    parts: list[RenderableType] = []
    if conversation := content.conversation(input):
        parts += [Text(), grid(conversation)]
    return Group(*parts, Text(), Frame(content.table(input)), Text(), drawn(content.summary(input)))
