"""Where the difference between two texts is: the finding, a grid of layers and heads or tokens, the largest effects."""

from __future__ import annotations

from rich.cells import set_cell_size
from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.command import Theme, Themed
from txinspect.commands.patch import CellRecord, PatchReport
from txinspect.render.content import patch as content
from txinspect.render.tables import Line
from txinspect.render.terminal import colours, tensors
from txinspect.render.terminal.frame import Frame, drawn
from txinspect.render.terminal.reading import input_lines

LABEL = 5
"""Columns of a terminal for a layer's number."""

LEAST, MOST = 5, 10
"""Columns for a cell of the grid, of which one is a gap."""

LINES, HALF = 9, 3
"""Layers in the grid on the first screen, those with the largest effects; and in each of two."""


def draw(report: PatchReport, console: Console, view: Themed = Themed()) -> RenderableType:
    """The two texts, the finding, what 0 and 1 are, and for each direction the grid or the largest effects."""
    theme = view.theme if colours.has_colours(console) else None
    ways = content.directions(report)
    parts: list[RenderableType] = [*input_lines(report.input), *map(drawn, content.texts(report))]
    parts += [drawn(content.finding(report, way)) for way in ways]
    parts += [drawn(content.baseline(report))]
    for way, most in _shown(report, everything=view.table):
        width = _width(report, way, console)
        if width is not None:
            parts += [Text(), *_grid(report, way, width, theme, most)]
        if width is None or view.table:
            parts += [Text(), Frame(content.table(report, way, None if view.table else content.FIRST))]
    return Group(*parts, *tensors.extras(report, console.width))


def found(report: PatchReport) -> list[Line]:
    """What `patch` found, in a line each way."""
    return [content.finding(report, way) for way in content.directions(report)]


def then(report: PatchReport, view: Themed | None) -> Line | None:
    """What is drawn last under the grids of `patch`: what was left out."""
    return None if view is not None and view.table else content.more(report)


def _shown(report: PatchReport, *, everything: bool) -> list[tuple[str, int | None]]:
    """The directions of `patch` that are drawn, and how many layers of each: on the first screen both, if they fit."""
    ways = content.directions(report)
    if everything:
        return [(way, None) for way in ways]
    if len(ways) == 1 or len(content.layers(report.cells)) <= HALF:
        return [(way, LINES) for way in ways]
    return [(ways[0], LINES - len(ways))]


def _width(report: PatchReport, way: str, console: Console) -> int | None:
    """Columns for a cell of the grid of `patch`; None where it has no room, or would be one column."""
    titles = content.columns(report, content.of(report, way))
    room = (console.width - LABEL) // max(1, len(titles))
    if not titles or room < LEAST:
        return None
    return min(room, MOST, max(LEAST + 1, *(len(title) + 1 for _, title in titles)))


def _grid(report: PatchReport, way: str, width: int, theme: Theme | None, most: int | None) -> list[RenderableType]:
    """Draw a grid of `patch`: layers, at `most` so many, by heads or by tokens."""
    cells = content.of(report, way)
    titles = content.columns(report, cells)
    head = Text(" " * LABEL, style="dim")
    for _, title in titles:
        head.append(set_cell_size(title[: width - 1].rjust(width - 1), width - 1) + " ")
    rows: list[RenderableType] = [Text(content.title(report, way), style="dim"), head]
    for layer in content.layers(cells, most):
        line = Text(f"{layer:>{LABEL - 2}}  ")
        by_column = {content.column(part): part for part in cells if part.layer == layer}
        for column, _ in titles:
            line.append_text(_cell(by_column.get(column), width - 1, theme)).append(" ")
        rows.append(line)
    return rows


def _cell(part: CellRecord | None, width: int, theme: Theme | None) -> Text:
    """A number of the grid of `patch`, on a colour by its sign and size."""
    if part is None:
        return Text(" " * width)
    if part.effect is None or part.effect != part.effect:
        return Text(colours.NO_NUMBER.rjust(width), style="bold red")
    spelled = _spelled(part.effect, width).rjust(width)
    return Text(spelled) if theme is None else colours.on_ground(spelled, colours.parting(part.effect, theme))


def _spelled(value: float, width: int) -> str:
    """A number of the grid of `patch` in so many columns: two decimals if they fit."""
    if abs(value) < 0.005:
        return "0"
    return next(
        (said for said in (f"{value:.2f}", f"{value:.1f}", f"{value:.0f}") if len(said) <= width), f"{value:.0e}"
    )
