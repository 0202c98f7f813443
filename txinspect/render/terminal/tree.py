"""The table of `tree`."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.tree import TreeReport, TreeView
from txinspect.render.content import tree as content
from txinspect.render.terminal.frame import Frame, drawn

WIDE, NARROW = 110, 70
"""Columns of a terminal from which shapes have a column of their own, and below which bytes have none."""


def draw(report: TreeReport, console: Console, view: TreeView = TreeView()) -> RenderableType:
    """The tree down to a depth, and the totals."""
    wide = console.width >= WIDE
    sums = content.SUMS if wide else ("params", "bytes") if console.width >= NARROW else ("params",)
    table = Frame(content.table(report, view, wide=wide, sums=sums))
    return Group(Text(), table, Text(), *map(drawn, content.totals(report)))
