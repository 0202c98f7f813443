"""What stands under a drawing as plain values: tables and sentences, before a terminal, a page or a file shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from txinspect.render.spelling import number

Tone = Literal[
    "plain",
    "strong",
    "dim",
    "aside",  # a dim part of what is strong
    "name",  # a title, or a path above what it begins
    "supplier",  # the module behind a name
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
    return cell(number(value, digits), value=value)


def bar(value: float | None, top: float) -> Cell:
    """A Cell of a table with a bar; without any where there is no number, or nothing to measure it by."""
    return Cell(value=value, fraction=value / top if value is not None and top else None)


def numbers(*titles: str) -> list[Column]:
    """Columns of a table for numbers, by their titles."""
    return [Column(title, right=True, whole=True) for title in titles]
