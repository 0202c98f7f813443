"""The tables of `stages`."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.stages import StagesReport
from txinspect.render.content import stages as content
from txinspect.render.terminal.frame import Frame

WIDE = 120
"""Columns of a terminal from which the axes have a column of their own."""


def draw(report: StagesReport, console: Console) -> RenderableType:
    """The stages that the model has, then those that are absent, each reason once."""
    parts: list[RenderableType] = [Text(), Frame(content.present(report, wide=console.width >= WIDE))]
    if absent := content.absent(report):
        parts += [Text(), Frame(absent)]
    return Group(*parts)
