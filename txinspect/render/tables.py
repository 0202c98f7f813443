"""What stands under a drawing as plain values: tables and sentences, before a terminal, a page or a file shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor, isfinite, log10
from typing import Literal

from txinspect.render.spelling import number

Tone = Literal[
    "plain",
    "strong",
    "dim",
    "aside",  # a dim part of what is strong
    "name",  # a title, or a path above what it begins
    "supplier",  # the module after a name
    "figure",  # a number among words, a distribution, a bar
    "token",
    "text",  # what a person wrote
    "marked",  # bytes that are no text; how many
    "times",  # how many stand in one, as part of what is strong
    "found",
    "good",
    "bad",
    "warning",
]
"""How words are meant; how that looks is up to what shows them."""


@dataclass(frozen=True)
class Words:
    """Some words in one tone."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Line:
    """A sentence, or a line across all columns of a table."""

    words: Sequence[Words] = ()


@dataclass(frozen=True)
class Cell:
    """What stands in a row under one title."""

    words: Sequence[Words] = ()
    value: float | str | None = None
    """What the words show, where they are rounded, shortened or a bar."""
    fraction: float | None = None
    """Of a bar, how much of the longest it is."""
    digits: int | None = None
    """Of a number that is rounded: significant digits. Its column says how many decimals: see `in_decimals`."""


@dataclass(frozen=True)
class Row:
    """A cell for each column."""

    cells: Sequence[Cell]
    tone: Tone = "plain"


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    right: bool = False
    """Whether its cells end in line: numbers."""
    whole: bool = False
    """Whether its cells are kept in one line as long as others can be wrapped."""
    spread: bool = False
    """Whether its numbers are of many sizes, so that all have exponents where decimals would make a zero of one."""


@dataclass(frozen=True)
class Table:
    """Rows under titles."""

    columns: Sequence[Column]
    rows: Sequence[Row | Line]
    title: str | None = None
    rule: bool = True
    """Whether a line stands under the columns' titles."""


def line(text: str, tone: Tone = "plain") -> Line:
    """A Line of a table or sentence in one tone."""
    return Line([Words(text, tone)])


def cell(text: str, tone: Tone = "plain", value: float | str | None = None) -> Cell:
    """A Cell of a table in one tone."""
    return Cell([Words(text, tone)], value)


def numeric(value: float | None, digits: int = 4) -> Cell:
    """A Cell of a table with a number."""
    return Cell([Words(number(value, digits))], value, digits=digits)


def bar(value: float | None, top: float) -> Cell:
    """A Cell of a table with a bar; without any where there is no number, or nothing to measure it by."""
    return Cell(value=value, fraction=value / top if value is not None and top else None)


def numbers(*titles: str) -> list[Column]:
    """Columns of a table for numbers, by their titles."""
    return [Column(title, right=True, whole=True) for title in titles]


_SMALLEST, _LARGEST = 1e-4, 1e6
"""Of columns whose largest number is smaller or larger, each number keeps an exponent of its own."""


def in_decimals(table: Table) -> Table:
    """A table whose columns of numbers each have one number of decimals: that of the column's largest."""
    rows = [row for row in table.rows if isinstance(row, Row)]
    formats = [
        _format([row.cells[index] for row in rows], spread=column.spread) for index, column in enumerate(table.columns)
    ]
    if not any(formats):
        return table
    return replace(table, rows=[_aligned(row, formats) if isinstance(row, Row) else row for row in table.rows])


def _format(cells: Sequence[Cell], *, spread: bool) -> str | None:
    """How the numbers of a table's column are spelled; None where its cells are no numbers, or each as it is."""
    known = [each for each in cells if each.digits and isinstance(each.value, float) and isfinite(each.value)]
    sizes = [abs(each.value) for each in known if isinstance(each.value, float) and each.value]
    if not sizes or not _SMALLEST <= max(sizes) < _LARGEST:
        return None
    digits = max(each.digits or 0 for each in known)
    needed = [each.words[0].text.partition(".")[2] for each in known if "e" not in each.words[0].text]
    decimals = min(max(0, digits - 1 - floor(log10(max(sizes)))), max(map(len, needed), default=0))
    return f".{digits - 1}e" if spread and min(sizes) < 0.5 * 10**-decimals else f".{decimals}f"


def _aligned(row: Row, formats: Sequence[str | None]) -> Row:
    """A row of a table with each number as its column spells it."""
    return replace(row, cells=[_spelled(each, how) for each, how in zip(row.cells, formats, strict=True)])


def _spelled(cell: Cell, how: str | None) -> Cell:
    """A cell with its number as its column spells it."""
    if how is None or not cell.digits or not isinstance(cell.value, float) or not isfinite(cell.value):
        return cell
    return replace(cell, words=[Words(format(cell.value, how), cell.words[0].tone)])
