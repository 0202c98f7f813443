"""Maps of weights, queries × keys, in the room there is: side by side, pooled, or as an overview of many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import isfinite, isnan

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.text import Text

from txinspect.blocks import Block, blocks
from txinspect.commands.command import Theme
from txinspect.render.content.attn import Weights
from txinspect.render.terminal import colours

LABEL = 14
"""Columns of a terminal for the label of a row."""

GAP = 2
"""Blanks between two maps."""

FEWEST = 12
"""Columns of keys that a pooled map has at least, where heads stand side by side."""

ROWS = 64
"""Lines of a map whose keys are not pooled at most."""

SMALLEST, LINES = 8, 20
"""Keys in a map of an overview at least; lines that an overview should not exceed."""


@dataclass(frozen=True)
class Map:
    """A head's weights, by blocks of queries and of keys."""

    name: str
    short: str
    """The name where there is little room."""
    queries: Sequence[Block]
    keys: Sequence[Block]
    weights: Weights
    own: Sequence[int]
    """Keys that keep a column of their own, whatever else is pooled."""
    top: float | None
    """The weight that is drawn brightest, as larger ones are; None for each row's own largest."""
    is_causal: bool = True
    """Whether keys after their query are masked, and so have no weight rather than none to speak of."""

    @property
    def title(self) -> str:
        """A map's title: the head's name, and by how much its weights are brightened where they are."""
        return self._with_factor(self.name)

    @property
    def short_title(self) -> str:
        """A map's short title: the head's short name, and by how much its weights are brightened where they are."""
        return self._with_factor(self.short)

    @property
    def is_brightened(self) -> bool:
        """Whether a weight of a map is drawn as if it were larger."""
        return self.top is not None and self.top < 0.95

    def _with_factor(self, name: str) -> str:
        return f"{name} ×{1 / self.top:.2g}" if self.top is not None and self.is_brightened else name

    def part(self, row: int, column: int) -> float | None:
        """A weight of a map as a part of the most that is drawn; None where it is masked, as keys after their query."""
        weight = self.weights[row][column]
        if weight is None or not isfinite(weight):
            return float("nan")
        if weight == 0 and self.is_causal and self.keys[column][0] > self.queries[row][1]:
            return None
        top = self.top or max((each for each in self.weights[row] if each is not None and isfinite(each)), default=1.0)
        return weight / top if top else 0.0


@dataclass(frozen=True)
class Drawn:
    """Maps side by side, in as many bands as they need."""

    bands: int
    rows: int
    """Of a map."""
    note: str | None
    """What was pooled; None if nothing was."""
    parts: Sequence[RenderableType]


def pooled(drawn: Map, columns: int, rows: int) -> Map:
    """A map of weights pooled to at most so many columns and rows: the largest weight in each block."""
    own = [index for index, (first, last) in enumerate(drawn.keys) if first == last and first in drawn.own]
    by_key = blocks(len(drawn.keys), columns, sorted(own, key=lambda i: drawn.own.index(drawn.keys[i][0])))
    by_query = blocks(len(drawn.queries), rows)
    if len(by_key) == len(drawn.keys) and len(by_query) == len(drawn.queries):
        return drawn
    return replace(
        drawn,
        queries=_joined(drawn.queries, by_query),
        keys=_joined(drawn.keys, by_key),
        weights=[[_most(drawn.weights, row, key) for key in by_key] for row in by_query],
    )


def _alike(maps: Sequence[Map]) -> list[Map]:
    """Maps that keep the same keys apart, so that they can be compared: first each one's strongest, then the next."""
    ranks = zip_longest(*(each.own for each in maps))
    own = list(dict.fromkeys(key for rank in ranks for key in rank if key is not None))
    return [replace(each, own=own) for each in maps]


def _joined(positions: Sequence[Block], into: Sequence[Block]) -> list[Block]:
    return [(positions[first][0], positions[last][1]) for first, last in into]


def _most(weights: Weights, rows: Block, keys: Block) -> float | None:
    """The largest weight in a block of a map; no number where one of them is none."""
    inside = [weight for row in weights[rows[0] : rows[1] + 1] for weight in row[keys[0] : keys[1] + 1]]
    if any(weight is None or isnan(weight) for weight in inside):
        return None
    return max(weight for weight in inside if weight is not None)


# Side by side


def side_by_side(maps: Sequence[Map], label: Callable[[int], str], width: int, theme: Theme | None) -> Drawn:
    """The maps in bands across the width, a line per query; pooled where one does not fit."""
    room = width - LABEL
    keys = max(len(each.keys) for each in maps)
    titles = max(cell_len(each.title) for each in maps)
    cell = 2
    if _bands(len(maps), 1, keys, titles, room) < _bands(len(maps), 2, keys, titles, room):
        cell = 1
    most = keys
    if keys * cell > room or _bands(len(maps), cell, keys, titles, room) > 2:
        across = max(1, min(len(maps), (room + GAP) // (FEWEST * 2 + GAP)))
        fitting = max(1, ((room + GAP) // across - GAP) // 2)
        if keys > room or fitting >= FEWEST < keys:
            cell, most = 2, min(keys, fitting)
            if keys <= room and across == 1:
                cell, most = 1, keys
    shown = [pooled(each, most, ROWS if most == keys else max(most, SMALLEST)) for each in _alike(maps)]
    each = max(titles, max(len(one.keys) for one in shown) * cell)
    across = max(1, (room + GAP) // (each + GAP))
    bands = [shown[start : start + across] for start in range(0, len(shown), across)]
    return Drawn(
        len(bands),
        max(len(one.queries) for one in shown),
        _note(maps, shown),
        [_band(band, label, cell, each, theme) for band in bands],
    )


def _bands(count: int, cell: int, keys: int, titles: int, room: int) -> int:
    """In how many bands across the terminal maps of that size stand."""
    across = max(1, (room + GAP) // (max(titles, keys * cell) + GAP))
    return -(-count // across)


def _note(maps: Sequence[Map], shown: Sequence[Map]) -> str | None:
    """What a column and a row of the maps stand for, where they stand for several."""
    wide = max(last - first + 1 for one in shown for first, last in one.keys)
    high = max(last - first + 1 for one in shown for first, last in one.queries)
    if wide == high == 1:
        return None
    tokens = maps[0].keys[-1][1] + 1
    rows = f" and {high} queries to a row" if high > 1 else ""
    return f"all {tokens:,} keys, at most {wide} to a column{rows}: the largest weight of each block"


def _band(maps: Sequence[Map], label: Callable[[int], str], cell: int, width: int, theme: Theme | None) -> Text:
    """A band of maps beside each other: titles, key numbers, a line per row."""
    text = Text(" " * LABEL, no_wrap=True, overflow="crop")
    text.append((" " * GAP).join(each.title.ljust(width) for each in maps).rstrip(), style="bold")
    numbers = (" " * GAP).join(_numbers(each, cell).ljust(width) for each in maps).rstrip()
    text.append("\n" + " " * LABEL).append(numbers, style="dim")
    for row, (first, last) in enumerate(maps[0].queries):
        text.append("\n" + (label(first) if first == last else f"{first:>3}–{last}".ljust(LABEL)))
        for position, each in enumerate(maps):
            for column in range(len(each.keys)):
                text.append_text(colours.cell(each.part(row, column), cell, theme))
            if position + 1 < len(maps):
                text.append(" " * (GAP + width - len(each.keys) * cell))
    return text


def _numbers(drawn: Map, cell: int) -> str:
    """The keys' indices over a map's columns, where there is room: of a pooled one its own first, then every fifth."""
    pools = any(first != last for first, last in drawn.keys)
    own = [i for i, (first, last) in enumerate(drawn.keys) if pools and first == last and first in drawn.own]
    fifth = [i for i, (first, _) in enumerate(drawn.keys) if (i if pools else first) % 5 == 0]
    line = [" "] * (len(drawn.keys) * cell)
    for column in (*own, *fifth):
        number, start = str(drawn.keys[column][0]), column * cell
        around = line[max(0, start - 1) : start + len(number) + 1]
        if start + len(number) <= len(line) and not "".join(around).strip():
            line[start : start + len(number)] = number
    return "".join(line).rstrip()


# One query


def over_heads(maps: Sequence[Map], width: int, theme: Theme | None) -> RenderableType:
    """The map of one query's weights: a line per head, columns of keys."""
    room = width - LABEL
    keys = len(maps[0].keys)
    cell = 2 if keys * 2 <= room else 1
    shown = [pooled(each, min(keys, room // cell), 1) for each in _alike(maps)]
    parts = [Text(" " * LABEL + _numbers(shown[0], cell), style="dim", no_wrap=True, overflow="crop")]
    for each in shown:
        line = Text(each.title.ljust(LABEL), no_wrap=True, overflow="crop")
        for column in range(len(each.keys)):
            line.append_text(colours.cell(each.part(0, column), cell, theme))
        parts.append(line)
    if note := _note(maps, shown):
        parts.insert(0, Text(note, style="dim"))
    return Group(*parts)


# Overview


def overview(maps: Sequence[Map], width: int, theme: Theme | None, lines: int) -> RenderableType:
    """The overview of all maps, small: as large as lets them stand in so many lines, two queries in a line."""
    keys = max(len(each.keys) for each in maps)
    titles = max(cell_len(each.short_title) for each in maps)
    across, size = _arrangement(len(maps), min(keys, width), width, titles, lines)
    shown = [pooled(each, size, size if theme else -(-size // 2)) for each in _alike(maps)]
    each_width = max(size, titles)
    bands = [shown[start : start + across] for start in range(0, len(shown), across)]
    parts: list[RenderableType] = [_small(band, each_width, theme) for band in bands]
    if note := _note(maps, shown):
        parts.insert(0, Text(note, style="dim"))
    return Group(*parts)


def _arrangement(count: int, keys: int, width: int, titles: int, most: int) -> tuple[int, int]:
    """How many maps of the overview stand in a band, and how many keys each has."""
    best = (max(1, (width + GAP) // (max(titles, SMALLEST) + GAP)), SMALLEST)
    for across in range(best[0], 0, -1):
        size = min(keys, (width + GAP) // across - GAP)
        lines = -(-count // across) * (-(-size // 2) + 1)
        if size >= best[1] and lines <= most:
            best = (across, size)
    return best[0], min(best[1], keys)


def _small(maps: Sequence[Map], width: int, theme: Theme | None) -> Text:
    """Small maps of the overview beside each other."""
    text = Text(no_wrap=True)
    text.append((" " * GAP).join(each.short_title.ljust(width) for each in maps).rstrip(), style="bold")
    text.overflow = "crop"
    step = 2 if theme else 1
    for row in range(0, len(maps[0].queries), step):
        text.append("\n")
        for position, each in enumerate(maps):
            for column in range(len(each.keys)):
                if theme is None:
                    text.append_text(colours.cell(each.part(row, column), 1, None))
                else:
                    below = row + 1 < len(each.queries)
                    text.append_text(
                        colours.halves(each.part(row, column), each.part(row + 1, column) if below else None, theme)
                    )
            if position + 1 < len(maps):
                text.append(" " * (GAP + width - len(each.keys)))
    return text
