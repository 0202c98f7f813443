"""The block diagram."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.diagram import DiagramReport, DiagramView
from txinspect.render.content import diagram as content
from txinspect.render.content import mermaid
from txinspect.render.terminal.frame import drawn

WIDEST = 100
"""Columns that a diagram takes at most."""


def draw(report: DiagramReport, console: Console, view: DiagramView = DiagramView()) -> RenderableType:
    """The block diagram from the text down to the logits, then what is tied; or all of it for Mermaid."""
    if view.mermaid:
        return Text(mermaid.source(report))
    rows = content.lines(report, min(console.width, WIDEST))
    return Group(Text(), *map(drawn, rows), Text(), *map(drawn, content.notes(report)))
