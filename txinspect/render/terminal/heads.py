"""What kind of head each one is: the strongest of each kind, a grid of layers and heads, sinks."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.command import Theme, Themed
from txinspect.commands.heads import HeadsReport, KindRecord
from txinspect.render.content import heads as content
from txinspect.render.tables import Line
from txinspect.render.terminal import colours, tensors
from txinspect.render.terminal.frame import Frame, drawn, fitted_table
from txinspect.render.terminal.glyphs import fitted
from txinspect.render.terminal.reading import input_lines

CELL = 11
"""Columns of a terminal for a head in the grid."""

LAYER = 6
"""Columns for a layer's number, where its heads are letters."""


def draw(report: HeadsReport, console: Console, view: Themed = Themed()) -> RenderableType:
    """The finding, the grid, a line per head where they are few."""
    theme = view.theme if colours.has_colours(console) else None
    parts: list[RenderableType] = [*input_lines(report.input), *map(drawn, found(report))]
    if report.heads:
        short = not view.table and len(content.layers(report)) > content.LINES
        most = content.FIRST if short else content.SHOWN
        sinks = content.sinks(report, most)
        parts += [Frame(content.strongest(report, most))]
        parts += _letters(report, console.width) if short else [Text(), *_grid(report, console.width, theme)]
        parts += [drawn(sinks)] if sinks else []
        if view.table:
            every = fitted_table(lambda left_out: content.every(report, left_out), console.width, content.GIVING_WAY)
            parts += [Text(), every]
    return Group(*parts, *tensors.extras(report, console.width))


def found(report: HeadsReport) -> list[Line]:
    """What `heads` found, in a line; nothing where no head was measured."""
    return [content.finding(report)] if report.heads else []


def then(report: HeadsReport, view: Themed | None) -> Line | None:
    """What is drawn last under the grid of `heads`: what was left out."""
    return None if view is not None and view.table else content.more(report)


def _count(report: HeadsReport) -> int:
    """How many heads a layer of the drawn grid has."""
    return max(head.head for head in report.heads) + 1


def _grid(report: HeadsReport, width: int, theme: Theme | None) -> Iterator[RenderableType]:
    """Draw the grid of heads, layers × heads: the first kind of each, coloured by its number."""
    layers, most = content.layers(report), _count(report)
    cell = max(3, min(CELL, (width - 6) // most))
    across = max(1, (width - 6) // cell)
    for start in range(0, most, across):
        heads = range(start, min(most, start + across))
        head_line = Text("layer".ljust(6), style="bold cyan", no_wrap=True, overflow="crop")
        head_line.append("".join(fitted(f"h{head}", cell - 1) + " " for head in heads), style="not bold dim")
        yield head_line
        for layer in layers:
            line = Text(f"{layer:>5} ", style="bold", no_wrap=True, overflow="crop")
            for head in heads:
                own = [each for each in report.heads if (each.layer, each.head, each.run) == (layer, head, 1)]
                line.append_text(_cell(own[0], cell - 1, theme) if own else Text(" " * (cell - 1))).append(" ")
            yield line


def _letters(report: HeadsReport, width: int) -> Iterator[RenderableType]:
    """Draw the grid of heads in a letter each, layers in columns side by side; nothing if it takes too many lines."""
    layers, heads = content.layers(report), _count(report)
    across = max(1, (width + 2) // (LAYER + heads + 2))
    lines = -(-len(layers) // across)
    if lines > content.LINES:
        return
    kinds = {(head.layer, head.head): head.labels[0][0] for head in report.heads if head.labels and head.run == 1}
    yield drawn(content.letters(report))
    for first in range(lines):
        line = Text(no_wrap=True, overflow="crop")
        for layer in layers[first::lines]:
            line.append(f"{layer:>{LAYER - 1}} ", style="bold")
            line.append("".join(kinds.get((layer, head), "·") for head in range(heads)) + "  ")
        line.rstrip()
        yield line


def _cell(head: KindRecord, width: int, theme: Theme | None) -> Text:
    kind = head.labels[0] if head.labels else None
    if kind is None:
        return Text(fitted("·", width), style="not bold dim")
    if theme is None:
        return Text(fitted(kind, width), style="not bold")
    return colours.on_colour(fitted(kind, width), content.strength(head, kind), theme)
