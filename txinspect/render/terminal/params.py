"""The table of `params`."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.params import ParamsReport
from txinspect.render.content import params as content
from txinspect.render.terminal.frame import drawn, fitted_table
from txinspect.render.terminal.tensors import checked


def draw(report: ParamsReport, console: Console) -> RenderableType:
    """The tensors, what was measured in all, checks."""
    way = content.giving_way(report)
    table = fitted_table(lambda left_out: content.table(report, left_out), console.width, way)
    parts: list[RenderableType] = [table, Text()] if table.rows else []  # of two models all tensors may be equal
    return Group(*parts, *map(drawn, content.totals(report)), *checked(report.checks))
