"""What is lost without each part: the finding, a grid of layers and heads, the parts that matter most."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.ablate import AblateReport
from txinspect.commands.command import Theme, Themed
from txinspect.render.content import ablate as content
from txinspect.render.tables import Line
from txinspect.render.terminal import colours, tensors
from txinspect.render.terminal.frame import Frame, drawn
from txinspect.render.terminal.reading import input_lines

LABEL = 6
"""Columns of a terminal for a layer's number."""

CELL = 4
"""Columns for a head in the grid, of which one is a gap."""

LINES = 12
"""Layers in the grid on the first screen."""


def draw(report: AblateReport, console: Console, view: Themed = Themed()) -> RenderableType:
    """The finding, what is measured, the grid, the strongest parts."""
    theme = view.theme if colours.has_colours(console) else None
    parts: list[RenderableType] = [*input_lines(report.input), drawn(content.finding(report))]
    parts += [drawn(content.baseline(report))]
    if report.sweep == "heads" and _fits(report, console, everything=view.table):
        parts += [Text(), *_grid(report, theme)]
    parts += [Text(), Frame(content.table(report, None if view.table else content.FIRST))]
    parts += map(drawn, content.together(report))
    return Group(*parts, *tensors.extras(report, console.width))


def found(report: AblateReport) -> list[Line]:
    """What `ablate` found, in a line."""
    return [content.finding(report)]


def then(report: AblateReport, view: Themed | None) -> Line | None:
    """What is drawn last under the tables of `ablate`: what was left out."""
    return None if view is not None and view.table else content.more(report)


def _fits(report: AblateReport, console: Console, *, everything: bool) -> bool:
    """Whether the grid of `ablate` has room: a column for each head, and lines on the first screen."""
    wide = max((part.head or 0) + 1 for part in report.parts)
    return LABEL + wide * CELL <= console.width and (everything or len(content.layers(report)) <= LINES)


def _grid(report: AblateReport, theme: Theme | None) -> list[RenderableType]:
    """Draw the grid of `ablate`, layers × heads, by how much is lost."""
    top = max(map(content.size, report.parts), default=0.0) or 1.0
    wide = max((part.head or 0) + 1 for part in report.parts)
    legend = Text("layer ↓ head →, |Δ log-prob| of the largest  ", style="dim").append_text(colours.legend(theme))
    head = Text(" " * LABEL, style="dim")
    for number in range(wide):
        head.append(f"{number:<{CELL}}")
    rows: list[RenderableType] = [legend, head]
    for layer in content.layers(report):
        line = Text(f"{layer:>{LABEL - 2}}  ")
        by_head = {part.head: part for part in report.parts if part.layer == layer}
        for number in range(wide):
            part = by_head.get(number)
            share = None if part is None else content.size(part) / top
            line.append_text(colours.cell(share, CELL - 1, theme)).append(" ")
        rows.append(line)
    return rows
