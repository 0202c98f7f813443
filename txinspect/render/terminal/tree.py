"""The table of `tree`."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.tree import TreeReport, TreeView
from txinspect.render.content import tree as content
from txinspect.render.terminal.frame import Frame, drawn

WIDE = 110
"""Columns of a terminal from which shapes have a column of their own."""


def draw(report: TreeReport, console: Console, view: TreeView = TreeView()) -> RenderableType:
    """The tree down to a depth, and the totals."""
    table = Frame(content.table(report, view, wide=console.width >= WIDE))
    return Group(Text(), table, Text(), *map(drawn, content.totals(report)))
