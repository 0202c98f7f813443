"""The tables of `stages`."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.stages import StagesReport
from txinspect.render.content import stages as content
from txinspect.render.terminal.frame import Frame, drawn, fitted_table


def draw(report: StagesReport, console: Console) -> RenderableType:
    """The stages that the model has, then what to know of them, then those that are absent; how many in all."""
    present = fitted_table(lambda left_out: content.present(report, left_out), console.width, content.GIVING_WAY)
    has_axes = any(column.title == "axes" for column in present.table.columns)
    parts: list[RenderableType] = [Text(), present]
    for table in (None if has_axes else content.axes(report), content.notes(report), content.absent(report)):
        parts += [] if table is None else [Text(), Frame(table)]
    return Group(*parts, Text(), drawn(content.total(report)))
