"""All heads of several layers on a screen or two: a small map each, the letter of its kind before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text

from txinspect.commands.command import Theme
from txinspect.render.terminal import colours
from txinspect.render.terminal.maps import Map, pooled

LABEL = 4
"""Columns of a terminal for a layer's number and a blank."""

BESIDE = 2
"""Columns beside a map: the letter before it, and a blank after it."""

SMALLEST, LARGEST = 4, 24
"""Columns of a map."""

LINES, FEWEST = 14, 2
"""Lines of all layers that a screen has room for, and of a layer at least."""


@dataclass(frozen=True)
class Labelled:
    """A map, and the letter of its kind; a dot for none."""

    map: Map
    letter: str


def grid(layers: Sequence[tuple[int, Sequence[Labelled]]], width: int, theme: Theme | None) -> Iterator[Text]:
    """Draw layers of small maps, layer by layer, heads side by side; where they do not fit, in several bands."""
    most = max(len(heads) for _, heads in layers)
    across = max(1, min(most, (width - LABEL) // (SMALLEST + BESIDE)))
    keys = max(len(head.map.keys) for _, heads in layers for head in heads)
    size = max(1, min(keys, LARGEST, (width - LABEL) // across - BESIDE))
    lines = min(max(FEWEST, LINES // (len(layers) * -(-most // across))), -(-size // 2))
    queries = max(len(head.map.queries) for _, heads in layers for head in heads)
    if size < keys or lines * (2 if theme else 1) < queries:
        yield Text("several queries to a row, or keys to a column: the largest weight of each block", style="dim")
    yield _numbers(min(most, across), size)
    for layer, heads in layers:
        for start in range(0, len(heads), across):
            name = f"{layer:>{LABEL - 1}} " if start == 0 else " " * LABEL
            yield from _band(name, heads[start : start + across], size, lines, theme)


def _numbers(count: int, size: int) -> Text:
    """The heads' numbers over their small maps."""
    line = Text(" " * (LABEL + 1), style="dim", no_wrap=True, overflow="crop")
    line.append("".join(f"h{head}".ljust(size + BESIDE) for head in range(count)).rstrip())
    return line


def _band(name: str, heads: Sequence[Labelled], size: int, lines: int, theme: Theme | None) -> Iterator[Text]:
    """Draw small maps beside each other: with colours, a line is two rows of queries."""
    rows = lines * 2 if theme else lines
    shown = [pooled(head.map, size, rows) for head in heads]
    for number in range(lines):
        line = Text(name if number == 0 else " " * LABEL, style="bold", no_wrap=True, overflow="crop")
        for head, each in zip(heads, shown, strict=True):
            line.append(head.letter if number == 0 else " ")
            line.append_text(_row(each, number, theme))
            line.append(" " * (size - len(each.keys) + 1))
        line.rstrip()
        yield line


def _row(drawn: Map, number: int, theme: Theme | None) -> Text:
    """A line of a small map; blank below its last query."""
    line = Text()
    for column in range(len(drawn.keys)):
        if theme is None:
            line.append_text(colours.cell(_part(drawn, number, column), 1, None))
        else:
            upper, lower = (_part(drawn, number * 2 + below, column) for below in (0, 1))
            line.append_text(colours.halves(upper, lower, theme))
    return line


def _part(drawn: Map, row: int, column: int) -> float | None:
    """How bright a cell of a small map is; None below its last query."""
    return drawn.part(row, column) if row < len(drawn.queries) else None
