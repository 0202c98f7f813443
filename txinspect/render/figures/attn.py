"""The figure of `attn`: a map per head, its tokens beside it; of many heads small maps, layers × heads."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, isfinite, isnan
from typing import TYPE_CHECKING

from txinspect.blocks import Block, blocks
from txinspect.commands.attn import AttnReport, AttnView, HeadRecord
from txinspect.records import SentenceRecord
from txinspect.render.content import attn as content
from txinspect.render.figures import paper
from txinspect.render.figures.paper import Letters
from txinspect.render.spelling import token_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

MOST = 16
"""Heads that have a map with tokens beside it; of more each has a small one."""

CELLS = 300_000
"""Weights of all small maps; beyond that they are in blocks, of which the largest is drawn."""

Weights = list[list[float | None]]


def draw(report: AttnReport, letters: Letters, view: AttnView | None = None) -> Figure:
    """A map per head, of one query a row per head, or small maps of all heads of several layers."""
    if not report.heads:
        return paper.nothing("no attention weights")
    shown = _Shown(report, letters, view or AttnView())
    chosen = any(content.is_chosen(report.tensors, axis) for axis in ("head", "query"))
    if all(len(head.map.queries) == 1 for head in report.heads):
        return _rows(shown)
    if len(report.heads) > MOST or (len(report.layers) > 1 and not chosen):
        return _small(shown)
    return _panels(shown)


class _Shown:
    """What the maps of a report show: weights, what is brightest, and what rows and columns are called."""

    def __init__(self, report: AttnReport, letters: Letters, view: AttnView) -> None:
        self.report, self.letters, self.view = report, letters, view
        crossed = report.attention == "cross"
        self.is_causal = not crossed and not any(content.looks_ahead(head.map) for head in report.heads)
        self.top = self._top()
        self.queries = report.input if report.stack == "encoder" else report.input.main
        self.keys = report.input if crossed else self.queries
        self.keys_are = "source" if crossed else "key"

    def _top(self) -> float:
        """The weight that is brightest, the same in all maps."""
        if self.view.scale != "head":
            return 1.0
        top = max(content.largest(each.map.queries, each.map.keys, each.map.weights) for each in self.report.heads)
        return top if top < 0.9 else 1.0

    def weights(self, head: HeadRecord) -> Weights:
        """A head's weights, axes: query, key; None where a causal mask hides a key, and NaN for no number."""
        return [
            [self._weight(weight, query, key, row) for key, weight in zip(head.map.keys, row, strict=True)]
            for query, row in zip(head.map.queries, head.map.weights, strict=True)
        ]

    def _weight(self, weight: float | None, query: Block, key: Block, row: Sequence[float | None]) -> float | None:
        if weight is None or not isfinite(weight):
            return float("nan")
        if weight == 0 and self.is_causal and key[0] > query[1]:
            return None
        if self.view.scale != "row":
            return weight
        return weight / (max((each for each in row if each is not None and isfinite(each)), default=0.0) or 1.0)

    def of_queries(self, head: HeadRecord) -> list[str]:
        """What the rows of a head's map are called."""
        all_of = content.is_chosen(self.report.tensors, "query")
        return self._names(self.queries, head.map.queries, None if all_of else head.map.queries[-1][1] + 1)

    def of_keys(self, head: HeadRecord) -> list[str]:
        """What the columns of a head's map are called."""
        return self._names(self.keys, head.map.keys, head.map.keys[-1][1] + 1)

    def _names(self, sentence: SentenceRecord, places: Sequence[Block], count: int | None) -> list[str]:
        """Tokens, or numbers where they are not the text's tokens: patches, prompts, compressed keys, blocks."""
        tokens = sentence.tokens
        are_tokens = count is None or len(tokens) <= count
        return [
            f"{first}–{last}"
            if first != last
            else self.letters.of_text(token_text(tokens[first]))
            if are_tokens and first < len(tokens)
            else str(first)
            for first, last in places
        ]

    def name(self, head: HeadRecord) -> str:
        """A head's title: its layer, its number, the run if there are several, its kinds on a line below."""
        run = f" run {head.run}" if head.run > 1 else ""
        stack = f"{self.report.stack} " if self.report.stack else ""
        kinds = f"\n{', '.join(head.labels)}" if head.labels else ""
        return f"{stack}layer {head.layer} head {head.head}{run}{kinds}"

    def bar(self, figure: Figure, mesh: QuadMesh, axes: object) -> None:
        """Draw what the colours mean, and whether weights are above them."""
        what = "weight, of the row's largest" if self.view.scale == "row" else "attention weight"
        paper.colour_bar(figure, mesh, axes, what, extend="max" if self.top < 1.0 else "neither")


def _map(axes: Axes, shown: _Shown, values: Weights) -> QuadMesh:
    """Draw weights as cells, and mark what is no number."""
    mesh = paper.heat(axes, values, vmin=0.0, vmax=shown.top)
    for row, weights in enumerate(values):
        for column, weight in enumerate(weights):
            if weight is not None and isnan(weight):
                axes.text(column + 0.5, row + 0.5, "?", ha="center", va="center", fontsize=paper.SMALL, color="red")
    return mesh


def _sizes(count: int, keys: int, names: float) -> tuple[float, int, float]:
    """The width of a figure of maps, how many stand side by side, and the width of each, in inches."""
    side = min(2.6, max(0.95, keys * paper.LINE))
    for width in (paper.COLUMN, paper.PAGE):
        room = width - names - 0.6
        across = max(1, min(count, int(room // (side + 0.1))))
        if ceil(count / across) <= max(2, across):
            break
    return width, across, min(2.6, room / across - 0.1)


def _panels(shown: _Shown) -> Figure:
    """A map per head, in rows; tokens stand on the left and below."""
    heads = shown.report.heads
    longest = max(len(name) for head in heads for name in (*shown.of_queries(head), *shown.of_keys(head)))
    names = longest * paper.LETTER + 0.2
    keys, queries = (max(len(getattr(head.map, axis)) for head in heads) for axis in ("keys", "queries"))
    title = 0.3 if any(head.labels for head in heads) else 0.18
    width, across, side = _sizes(len(heads), keys, names)
    down, high = ceil(len(heads) / across), min(2.6, max(0.3, side * queries / keys))
    while down * (high + title) + names + 0.25 > paper.TALLEST and across < len(heads):
        across, side = across + 1, side * across / (across + 1)
        down, high = ceil(len(heads) / across), max(0.3, side * queries / keys)
    figure = paper.sheet(width, down * (high + title) + names + 0.25)
    grid = figure.subplots(down, across, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(heads):
            axes.set_visible(False)
            continue
        head = heads[place]
        mesh = _map(axes, shown, shown.weights(head))
        axes.set_title(shown.name(head))
        is_last = place + across >= len(heads)
        paper.name(axes.xaxis, shown.of_keys(head) if is_last else [""], side, rotation=90)
        paper.name(axes.yaxis, shown.of_queries(head) if place % across == 0 else [""], high)
    figure.supxlabel(shown.keys_are)
    figure.supylabel("query")
    shown.bar(figure, mesh, list(grid.flat))
    return figure


def _rows(shown: _Shown) -> Figure:
    """One query: a row per head, columns of keys."""
    heads, letters = shown.report.heads, shown.letters
    values = [shown.weights(head)[0] for head in heads]
    count = max(map(len, values))
    names = [f"{head.layer}.{head.head}" + (f"#{head.run}" if head.run > 1 else "") for head in heads]
    keys = shown.of_keys(max(heads, key=lambda head: len(head.map.keys)))
    width = paper.COLUMN if count * paper.LINE <= paper.COLUMN - 1.1 else paper.PAGE
    high = max(0.3, len(heads) * 0.13)
    figure = paper.sheet(width, high + 0.6 + max(map(len, keys)) * paper.LETTER)
    axes = figure.subplots()
    mesh = _map(axes, shown, [[*row, *[None] * (count - len(row))] for row in values])
    (query,) = shown.of_queries(heads[0])
    index = heads[0].map.queries[0][0]
    axes.set_title(f"query {index}" + ("" if query == str(index) else f" {letters.of_text(query)}"))
    paper.name(axes.xaxis, keys, width - 1.1, rotation=90)
    paper.name(axes.yaxis, names, min(high, paper.TALLEST - 1))
    axes.set_xlabel(shown.keys_are)
    axes.set_ylabel("layer.head")
    shown.bar(figure, mesh, axes)
    return figure


# Small maps


def _small(shown: _Shown) -> Figure:
    """All heads in small maps, layers × heads, the letter of its kind in the corner of each."""
    heads = shown.report.heads
    rows = list(dict.fromkeys((head.layer, head.run) for head in heads))
    columns = max(head.head for head in heads) + 1
    width = paper.COLUMN if columns <= 4 and len(rows) <= 6 else paper.PAGE
    cell = min((width - 0.95) / columns, (paper.TALLEST - 0.8) / len(rows))
    figure = paper.sheet(width, cell * len(rows) + 0.6)
    axes = figure.subplots()
    most = max(4, int((CELLS / len(heads)) ** 0.5))
    for head in heads:
        values = _pooled(shown.weights(head), most)
        left, top = head.head, rows.index((head.layer, head.run))
        across = [left + 0.04 + 0.92 * place / len(values[0]) for place in range(len(values[0]) + 1)]
        down = [top + 0.04 + 0.92 * place / len(values) for place in range(len(values) + 1)]
        numbers = [[float("nan") if each is None else each for each in row] for row in values]
        many = len(heads) * len(numbers) * len(numbers[0]) > paper.RASTERED
        mesh = axes.pcolormesh(across, down, numbers, vmin=0.0, vmax=shown.top, rasterized=many)
        if head.labels and cell >= 0.2:
            axes.text(left + 0.92, top + 0.1, content.letter(head), ha="right", va="top", fontsize=paper.SMALL)
    axes.set_xlim(0, columns)
    axes.set_ylim(len(rows), 0)
    axes.set_aspect("equal")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    paper.name(axes.xaxis, [str(head) for head in range(columns)], cell * columns)
    paper.name(axes.yaxis, [f"{layer}" + (f"#{run}" if run > 1 else "") for layer, run in rows], cell * len(rows))
    axes.set_xlabel(f"head; in each map queries ↓ {shown.keys_are}s →{_kinds(shown.report)}")
    stack = f"{shown.report.stack} " if shown.report.stack else ""
    axes.set_ylabel(f"{stack}layer")
    shown.bar(figure, mesh, axes)
    return figure


def _kinds(report: AttnReport) -> str:
    """What the letters in the corners of small maps mean."""
    kinds = dict.fromkeys(head.labels[0] for head in report.heads if head.labels)
    return "".join(f"{', ' if place else chr(10)}{kind[0]} {kind}" for place, kind in enumerate(kinds))


def _pooled(weights: Weights, most: int) -> Weights:
    """Weights in at most so many blocks of queries and of keys: the largest of each."""
    if len(weights) <= most and len(weights[0]) <= most:
        return weights
    return [
        [
            max(
                (each for row in weights[top : low + 1] for each in row[left : right + 1] if each is not None),
                default=None,
            )
            for left, right in blocks(len(weights[0]), most)
        ]
        for top, low in blocks(len(weights), most)
    ]
