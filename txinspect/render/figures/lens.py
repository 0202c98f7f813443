"""The figure of `lens`: layers × tokens, the likeliest token in each cell, coloured by its probability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from txinspect.commands.lens import LensReport
from txinspect.render.content import lens as content
from txinspect.render.figures import paper
from txinspect.render.figures.paper import Letters
from txinspect.render.spelling import token_text, word

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

CELL = 0.58
"""Inches of a cell that a token is read in."""

FEWEST = 4
"""Letters of a token in a cell, below which there are none in any."""


def draw(report: LensReport, letters: Letters, view: Any = None) -> Figure:
    """A grid of layers and tokens, the last layer at the bottom as in the report."""
    count, rows = len(report.positions), len(report.rows)
    width = paper.COLUMN if count * CELL <= paper.COLUMN - 0.95 else paper.PAGE
    room = width - 0.95
    room = min(room, count * 1.2)
    line = min(0.15, (paper.TALLEST - 1.2) / rows)
    tokens = report.input.main.tokens
    names = [f"{each.position} {letters.of_text(token_text(tokens[each.position]))}" for each in report.positions]
    is_wide = room / count >= max(map(len, names)) * paper.LETTER + 0.05
    below = 0.15 if is_wide else max(map(len, names)) * paper.LETTER
    figure = paper.sheet(width, line * rows + below + 0.4)
    axes = figure.subplots()
    values = [[cell.top[0].prob for cell in row.cells] for row in report.rows]
    mesh = paper.heat(axes, values, vmin=0.0, vmax=1.0)
    fitting = int((room / count - 0.04) / paper.LETTER)
    if fitting >= FEWEST and line >= paper.SMALL / 66:
        _words(axes, report, letters, mesh, fitting)
    paper.name(axes.xaxis, names, room, **({} if is_wide else {"rotation": 90}))
    paper.name(axes.yaxis, [content.layer_name(row.layer) for row in report.rows], line * rows)
    axes.set_xlabel(f"likeliest token {content.where(report)} each token read")
    at = report.rows[-1].at
    axes.set_ylabel("layer" if at == "output" else f"layer, after its {at}")
    paper.colour_bar(figure, mesh, axes, "its probability")
    return figure


def _words(axes: Axes, report: LensReport, letters: Letters, mesh: QuadMesh, fitting: int) -> None:
    """Write the likeliest token in each cell, in at most so many letters."""
    for place, row in enumerate(report.rows):
        for column, cell in enumerate(row.cells):
            said = letters.of_text(word(cell.top[0]), fitting)
            colour = paper.ink(mesh, cell.top[0].prob)
            axes.text(
                column + 0.5, place + 0.5, said, ha="center", va="center", fontsize=paper.SMALL, color=colour
            ).set_clip_on(True)
