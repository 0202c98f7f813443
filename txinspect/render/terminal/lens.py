"""What each layer would predict: in a line, as a grid of layers and tokens, and layer by layer for the last token."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.command import Theme, Themed
from txinspect.commands.lens import CellRecord, LensReport, LensRowRecord
from txinspect.render.content import lens as content
from txinspect.render.spelling import token_text, word
from txinspect.render.tables import Line
from txinspect.render.terminal import colours, tensors
from txinspect.render.terminal.frame import Frame, drawn
from txinspect.render.terminal.glyphs import fitted
from txinspect.render.terminal.reading import input_lines

CELL = 10
"""Columns of a terminal for a cell of the grid."""

LABEL = 7
"""Columns for a layer's name and a blank."""

LAYERS, FEW = 26, 12
"""Layers in the grid at most, and on the first screen."""


def draw(report: LensReport, console: Console, view: Themed = Themed()) -> RenderableType:
    """The finding, the grid, the last token."""
    theme = view.theme if colours.has_colours(console) else None
    parts: list[RenderableType] = [*input_lines(report.input), drawn(content.finding(report))]
    if len(report.positions) > 1:
        parts += [Text(), *_grid(report, console.width, theme, everything=view.table)]
    if view.table or len(report.positions) == 1:
        parts += [Text(), Frame(content.last(report))]
    return Group(*parts, *tensors.extras(report, console.width))


def found(report: LensReport) -> list[Line]:
    """What `lens` found, in a line."""
    return [content.finding(report)]


def then(report: LensReport, view: Themed | None) -> Line | None:
    """What is drawn last under the grid of `lens`: what was left out."""
    table = (view is not None and view.table) or len(report.positions) == 1
    return content.more(report, table=table, position=view is None or "position" in view.given)


def _grid(report: LensReport, width: int, theme: Theme | None, *, everything: bool) -> list[RenderableType]:
    """Draw the grid of `lens`, layers × tokens: the likeliest token of each, coloured by its probability."""
    columns = min(len(report.positions), max(1, (width - LABEL) // CELL))
    step = -(-len(report.rows) // (LAYERS if everything else FEW))
    rows = report.rows[(len(report.rows) - 1) % step :: step]
    starts = range(0, len(report.positions), columns) if everything else [len(report.positions) - columns]
    parts: list[RenderableType] = [_legend(report, None if everything else columns, len(rows), theme)]
    for start in starts:
        parts += [_head(report, start, columns), *(_line(row, start, columns, theme) for row in rows)]
    return parts


def _head(report: LensReport, start: int, columns: int) -> Text:
    """The tokens over some columns of the grid of `lens`."""
    head = Text("layer".ljust(LABEL), style="bold cyan", no_wrap=True, overflow="crop")
    for each in report.positions[start : start + columns]:
        name = f"{each.position} {token_text(report.input.main.tokens[each.position])}"
        head.append(fitted(name, CELL - 1) + " ", style="not bold dim")
    return head


def _legend(report: LensReport, columns: int | None, rows: int, theme: Theme | None) -> Text:
    line = Text(f"likeliest token {content.where(report)} each, by its probability  ", style="dim").append_text(
        colours.legend(theme)
    )
    left_out = []
    if columns is not None and columns < len(report.positions):
        left_out.append(f"the last {columns} of {len(report.positions)} tokens that were read; --table has all")
    if rows < len(report.rows):
        left_out.append(f"{rows} of {len(report.rows)} layers; --json has all")
    return line.append(f"\n{', '.join(left_out)}" if left_out else "", style="dim")


def _line(row: LensRowRecord, start: int, columns: int, theme: Theme | None) -> Text:
    line = Text(content.layer_name(row.layer).rjust(LABEL - 1) + " ", style="bold", no_wrap=True, overflow="crop")
    for cell in row.cells[start : start + columns]:
        line.append_text(_cell(cell, theme)).append(" ")
    return line


def _cell(cell: CellRecord, theme: Theme | None) -> Text:
    """Draw a likeliest token of the grid of `lens` on the colour of its probability, or after a shade."""
    top = cell.top[0]
    part = top.prob if top.prob is not None and top.prob == top.prob else 0.0
    if theme is None:
        return Text(colours.shade(part) + fitted(word(top), CELL - 2), style="not bold")
    return colours.on_colour(fitted(word(top), CELL - 1), part, theme)
