"""The table of `tokenize`."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.tokenize import TokenizeReport
from txinspect.records import InputRecord
from txinspect.render.content import tokenize as content
from txinspect.render.terminal.frame import Frame, drawn
from txinspect.render.terminal.heading import beside, said


def draw(report: TokenizeReport, console: Console) -> RenderableType:
    """One row per token, then the shapes and the characters per token."""
    input = report.input
    return Group(*_conversation(input), Text(), Frame(content.table(input)), Text(), drawn(content.summary(input)))


def _conversation(input: InputRecord) -> list[RenderableType]:
    """The text that a template made of messages, line by line, who says it beside."""
    lines = [
        (role if index == 0 else "", line)
        for role, text in said(input)
        for index, line in enumerate(text.removesuffix("\n").split("\n"))
    ]
    return [Text(), beside(lines, content.ENDS, "line")] if lines else []
