"""The figure of `heads`: a map for each kind, layers × heads, coloured by its number; heads of a kind are marked."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from txinspect.commands.heads import NUMBERS, HeadsReport, Kind
from txinspect.render.content.heads import WHERE
from txinspect.render.figures import paper
from txinspect.render.figures.paper import Letters

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

ACROSS = 3
"""Maps side by side."""


def draw(report: HeadsReport, letters: Letters, view: Any = None) -> Figure:
    """A map for each kind of which the report has numbers."""
    kinds: list[Kind] = [kind for kind in WHERE if any(_number(head, kind) is not None for head in report.heads)]
    if not kinds:
        return paper.nothing("no attention heads")
    rows = list(dict.fromkeys((head.layer, head.run) for head in report.heads))
    heads = max(head.head for head in report.heads) + 1
    width = paper.COLUMN if heads <= 8 else paper.PAGE
    across = 2 if len(kinds) == 4 else min(ACROSS, len(kinds))
    down = ceil(len(kinds) / across)
    side = (width - 1.0) / across - 0.08
    high = max(len(rows) * min(0.16, side / heads), 0.5)
    high = min(high, (paper.TALLEST - 0.6) / down - 0.2)
    figure = paper.sheet(width, down * (high + 0.2) + 0.45)
    grid = figure.subplots(down, across, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(kinds):
            axes.set_visible(False)
            continue
        mesh = _map(axes, report, kinds[place], rows, heads, min(side / heads, high / len(rows)))
        paper.name(axes.xaxis, [str(head) for head in range(heads)] if place + across >= len(kinds) else [""], side)
        names = [f"{layer}" + (f"#{run}" if run > 1 else "") for layer, run in rows]
        paper.name(axes.yaxis, names if place % across == 0 else [""], high)
    figure.supxlabel("head")
    figure.supylabel(f"{report.stack} layer" if report.stack else "layer")
    paper.colour_bar(figure, mesh, list(grid.flat), "weight (broad: evenness)")
    return figure


def _number(head: Any, kind: Kind) -> float | None:
    number: float | None = getattr(head, NUMBERS[kind])
    return number


def _map(axes: Axes, report: HeadsReport, kind: Kind, rows: list[tuple[int, int]], heads: int, cell: float) -> QuadMesh:
    """Draw how much each head is of a kind; those that are of it have a dot, whose cell is so many inches."""
    values: list[list[float | None]] = [[None] * heads for _ in rows]
    for head in report.heads:
        values[rows.index((head.layer, head.run))][head.head] = _number(head, kind)
    mesh = paper.heat(axes, values, vmin=0.0, vmax=1.0)
    own = [head for head in report.heads if kind in head.labels]
    axes.scatter(
        [head.head + 0.5 for head in own],
        [rows.index((head.layer, head.run)) + 0.5 for head in own],
        s=min(3.0, cell * 18) ** 2,
        c=[paper.ink(mesh, _number(head, kind)) for head in own],
        linewidths=0,
    )
    axes.set_title(f"{kind} ({len(own)} •)" if own else kind)
    return mesh
