"""The tables of `logits`."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.logits import LogitsReport
from txinspect.render.content import logits as content
from txinspect.render.terminal import tensors
from txinspect.render.terminal.frame import Frame, drawn
from txinspect.render.terminal.reading import input_lines

BAR = 20
"""Columns for the bar of a probability at most."""


def draw(report: LogitsReport, console: Console) -> RenderableType:
    """The finding, the tables, the score."""
    bars = min(BAR, max(4, console.width - 58))
    parts: list[RenderableType] = [*input_lines(report.input), *map(drawn, content.findings(report))]
    for table, score in content.tables(report):
        parts += [Text(), Frame(table, bars), *([drawn(score)] if score else [])]
    return Group(*parts, *tensors.extras(report, console.width))
