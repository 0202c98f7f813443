"""Attention heads as heatmaps, and the strongest keys of each query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite

from rich.cells import cell_len, set_cell_size
from rich.color import Color
from rich.console import Console, Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from txinspect.commands.attn import AttnReport, HeadRecord, QueryRecord
from txinspect.records import InputRecord
from txinspect.render.terminal import loading, tensors
from txinspect.render.terminal.frame import frame
from txinspect.render.terminal.glyphs import visible

CELL = 2
"""Columns of a terminal for one key."""

LABEL = 14
"""Columns for a token's label."""

STRONGEST_WIDTH = 29
"""Columns for a query's strongest keys."""

_SHADES = " ░▒▓█"

_GRADIENT = ((20, 22, 38), (59, 40, 110), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191))
"""Dark to bright, evenly in lightness: after matplotlib's magma."""


def draw(report: AttnReport, console: Console) -> RenderableType:
    """The tensors, the heads, and what was read for them."""
    heads = [_heads(report, console)] if report.heads else []
    return Group(tensors.tables(report, console.width), *heads, loading.line(report.loading))


def _heads(report: AttnReport, console: Console) -> RenderableType:
    """The heads side by side as far as the width allows, then where each query looks."""
    queries, keys_seen = _extent(report)
    labels = _labels(report.input, queries)
    key_labels = labels if keys_seen == queries else _labels(report.input, keys_seen)
    keys = min(len(report.heads[0].window.keys), max(1, (console.width - LABEL - 1) // CELL))
    each = keys * CELL + 2
    across = max(1, (console.width - LABEL) // each)
    colour = console.color_system in ("256", "truecolor") and not console.no_color
    parts: list[RenderableType] = [Text(), _legend(colour)]
    for heads in _batches(report.heads, across):
        parts.append(_heatmaps(heads, labels, keys, colour))
    window = report.heads[0].window
    if keys < len(window.keys) or window.keys[0] > 0 or len(window.queries) < len(report.heads[0].queries):
        parts.append(_window_note(window.keys[-keys:], keys_seen, clipped=keys < len(window.keys)))
    parts.append(Text("strongest keys of each query", style="bold"))
    for heads in _batches(report.heads, max(1, (console.width - LABEL) // STRONGEST_WIDTH)):
        parts.append(_strongest(heads, labels, key_labels))
    return Group(*parts)


def _heatmaps(heads: Sequence[HeadRecord], labels: Sequence[str], keys: int, colour: bool) -> Text:
    """Rows of queries, columns of keys; the last `keys` keys of the window and as many queries."""
    width = keys * CELL
    text = Text(" " * LABEL, no_wrap=True)
    for head in heads:
        text.append(set_cell_size(_title(head), width) + "  ", style="bold")
    text.append("\n" + " " * LABEL)
    for head in heads:
        text.append(_column_numbers(head.window.keys[-keys:]) + "  ", style="dim")
    rows = min(keys, len(heads[0].window.queries))
    for row in range(-rows, 0):
        text.append("\n" + labels[heads[0].window.queries[row]])
        for head in heads:
            query = head.window.queries[row]
            for key, weight in zip(head.window.keys[-keys:], head.window.weights[row][-keys:], strict=True):
                text.append_text(_cell(weight, colour, masked=key > query))
            text.append("  ")
    return text.append("\n")


def _column_numbers(columns: Sequence[int]) -> str:
    """The keys' indices over their columns, every fifth, so that there is room for them."""
    line = ""
    for position, index in enumerate(columns):
        fits = position * CELL + len(str(index)) <= len(columns) * CELL
        if index % 5 == 0 and fits:
            line = line.ljust(position * CELL) + str(index)
    return line.ljust(len(columns) * CELL)


def _cell(weight: float | None, colour: bool, *, masked: bool) -> Text:
    """One weight: a colour, or a shade where there is none; a key that comes after its query stays blank."""
    if weight is None or not isfinite(weight):
        return Text("?" * CELL, style="bold red")
    if masked and weight == 0:
        return Text(" " * CELL)
    if colour:
        return Text(" " * CELL, style=Style(bgcolor=_colour(weight)))
    return Text(_shade(weight) * CELL)


def _shade(weight: float) -> str:
    """Blank below 0.05, then a shade per quarter."""
    return _SHADES[0] if weight < 0.05 else _SHADES[min(4, 1 + int(weight * 4))]


def _colour(weight: float) -> Color:
    """The gradient's colour at a weight between 0 and 1."""
    position = min(max(weight, 0.0), 1.0) * (len(_GRADIENT) - 1)
    index = min(int(position), len(_GRADIENT) - 2)
    rest = position - index
    low, high = _GRADIENT[index], _GRADIENT[index + 1]
    red, green, blue = (round(a + (b - a) * rest) for a, b in zip(low, high, strict=True))
    return Color.from_rgb(red, green, blue)


def _legend(colour: bool) -> Text:
    text = Text("rows: queries, columns: keys  ", style="dim")
    if colour:
        text.append("0 ")
        for step in range(11):
            text.append_text(_cell(step / 10, colour, masked=False))
        return text.append(" 1")
    for shade, least in zip(_SHADES[1:], ("0.05", "0.25", "0.5", "0.75"), strict=True):
        text.append(f"{shade * CELL} ≥ {least}  ")
    return text


def _window_note(keys: Sequence[int], tokens: int, *, clipped: bool) -> Text:
    """What part of the weights is shown; `clipped` where the terminal is narrower than the window."""
    return Text(
        f"The heatmaps show keys {keys[0]}–{keys[-1]} of {tokens} tokens, the last that fit; "
        f"{'a wider terminal shows more, ' if clipped else ''}--json --values gives all.",
        style="yellow",
    )


def _strongest(heads: Sequence[HeadRecord], labels: Sequence[str], key_labels: Sequence[str]) -> Table:
    table = frame()
    table.add_column("query", no_wrap=True)
    for head in heads:
        table.add_column(_title(head), no_wrap=True)
    for row, query in enumerate(heads[0].queries):
        table.add_row(Text(labels[query.index]), *(_keys(head.queries[row], key_labels) for head in heads))
    return table


def _keys(query: QueryRecord, labels: Sequence[str]) -> Text:
    """The two strongest keys with their weights."""
    text = Text()
    for key in query.keys[:2]:
        weight = "?" if key.weight is None or not isfinite(key.weight) else f"{key.weight:.2f}"
        text.append(f"{weight} ", style="cyan").append(set_cell_size(labels[key.index].strip(), 8))
    return text


def _title(head: HeadRecord) -> str:
    return f"head {head.head}" if head.run == 1 else f"head {head.head} #{head.run}"


def _extent(report: AttnReport) -> tuple[int, int]:
    """How many positions the queries and the keys of this attention have."""
    weights = next(tensor for tensor in report.tensors if tensor.name.partition("#")[0].endswith(".weights"))
    asked = max(query.index for query in report.heads[0].queries) + 1
    rows = weights.shape[-2]
    return rows if asked <= rows else max(asked, len(report.input.tokens)), weights.shape[-1]


def _labels(input: InputRecord, count: int) -> list[str]:
    """Positions with their tokens; where they are not the text's tokens, such as patches, by number alone.

    Positions beyond the number of tokens, such as compressed keys, have no token either.
    """
    known = len(input.tokens) if count >= len(input.tokens) else 0
    return [_label(input, i) if i < known else set_cell_size(f"{i:>3}", LABEL) for i in range(count)]


def _label(input: InputRecord, index: int) -> str:
    """A token with its index, cut to LABEL columns."""
    token = input.tokens[index]
    text = token.text if token.text is not None else (token.bytes or "")
    label = f"{index:>3} {visible(text.strip() or text, spaces=not text.strip())}"
    if cell_len(label) > LABEL - 1:
        label = set_cell_size(label, LABEL - 2) + "…"
    return set_cell_size(label, LABEL)


def _batches(heads: Sequence[HeadRecord], size: int) -> Iterator[Sequence[HeadRecord]]:
    for start in range(0, len(heads), size):
        yield heads[start : start + size]
