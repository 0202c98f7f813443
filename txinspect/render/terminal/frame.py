"""The one look of every table: a rule under the header, none between columns, and columns that never touch.

A table of a hundred thousand tokens is laid out in seconds: a cell is wrapped only where it does not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

GAP = 2
"""Blanks between two columns."""

LEAST = 4
"""Columns of a terminal that a column keeps, however narrow the terminal."""

_LONGEST_LINE = 10_000
"""Characters of a line, of which some may take no column."""


@dataclass
class Column:
    """A column of a table."""

    title: str | Text
    right: bool = False
    """Whether its cells end in line: numbers."""
    whole: bool = False
    """Whether its cells are kept in one line as long as others can be wrapped."""
    width: int = 0
    """How wide its widest cell is."""


@dataclass(frozen=True)
class _Row:
    cells: Sequence[Text]
    style: str = ""


@dataclass
class Frame:
    """A table, filled row by row; as wide as it needs to be, and no wider than the console."""

    title: str | Text | None = None
    rule: bool = True
    columns: list[Column] = field(default_factory=list)
    rows: list[_Row | Text] = field(default_factory=list)

    def add_column(
        self, title: str | Text, *, justify: Literal["left", "right"] = "left", no_wrap: bool = False
    ) -> None:
        """Add a column before the first row is."""
        self.columns.append(Column(title, justify == "right", no_wrap))

    def add_row(self, *cells: str | Text, style: str = "") -> None:
        """Add a row with a cell for each column."""
        self.rows.append(_Row([cell if isinstance(cell, Text) else Text(cell) for cell in cells], style))

    def add_line(self, line: Text) -> None:
        """Add a line that stands across all columns."""
        self.rows.append(line)

    @property
    def natural_width(self) -> int:
        """Columns of a terminal in which nothing need be wrapped."""
        return sum(self._natural()) + GAP * (len(self.columns) - 1)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        limit = options.max_width
        widths = self._widths(limit)
        if self.title is not None:
            yield self.title if isinstance(self.title, Text) else Text(self.title, style="bold")
        header = _Row([_styled(column.title, "bold cyan") for column in self.columns])
        if any(cell.plain for cell in header.cells):
            yield from self._drawn(header, widths, console)
        if self.rule:
            yield Text("─" * min(limit, sum(widths) + GAP * (len(widths) - 1)), style="dim")
        for row in self.rows:
            if isinstance(row, Text):
                yield row
            else:
                yield from self._drawn(row, widths, console)

    def _natural(self) -> list[int]:
        """How wide each column is where nothing is wrapped."""
        widths = [_width(column.title) for column in self.columns]
        for row in self.rows:
            if isinstance(row, _Row):
                widths = [max(width, _width(cell)) for width, cell in zip(widths, row.cells, strict=True)]
        return widths

    def _widths(self, limit: int) -> list[int]:
        """The columns' widths: those that may wrap give way, the widest first, then the others."""
        widths, room = self._natural(), limit - GAP * (len(self.columns) - 1)
        for kind in (False, True):
            giving = [i for i, column in enumerate(self.columns) if column.whole == kind]
            cap = min(limit, max((widths[i] for i in giving), default=0))
            while sum(widths) > room and cap >= LEAST:
                widths = [min(width, cap) if i in giving else width for i, width in enumerate(widths)]
                cap -= 1
        return widths

    def _drawn(self, row: _Row, widths: Sequence[int], console: Console) -> Iterator[Segment]:
        """The lines of a row."""
        base = console.get_style(row.style) if row.style else None
        wrapped = [_lines(cell, width) for cell, width in zip(row.cells, widths, strict=True)]
        last = max((i for i, cell in enumerate(row.cells) if cell.plain), default=0)
        for lines in zip_longest(*wrapped[: last + 1]):
            yield from self._line(lines, widths, base, console)
            yield Segment.line()

    def _line(
        self, cells: Sequence[Text | None], widths: Sequence[int], base: Style | None, console: Console
    ) -> Iterator[Segment]:
        """One line; blanks after its last cell are left out."""
        blanks = 0
        for position, cell in enumerate(cells):
            room = widths[position] - (cell_len(cell.plain) if cell else 0)
            blanks += room if self.columns[position].right else 0
            if cell and cell.plain:
                yield Segment(" " * blanks, base)
                yield from _segments(cell, base, console)
                blanks = 0
            blanks += GAP + (0 if self.columns[position].right else room)


def frame(title: str | Text | None = None) -> Frame:
    """An empty table."""
    return Frame(title)


def _styled(title: str | Text, style: str) -> Text:
    return title if isinstance(title, Text) else Text(title, style=style)


def _width(cell: str | Text) -> int:
    text = cell if isinstance(cell, str) else cell.plain
    return max(map(cell_len, text.split("\n")))


def _lines(cell: Text, width: int) -> Sequence[Text]:
    """The lines of a cell, broken after a blank or a sign of a path where there is one, else where they end."""
    if "\n" not in cell.plain and cell_len(cell.plain) <= width:
        return (cell,)
    lines = []
    for line in cell.split("\n", allow_blank=True):
        *broken, last = line.divide(_breaks(line.plain, width))
        for each in broken:
            each.rstrip()
        lines += [*broken, last]
    return lines


def _breaks(text: str, width: int) -> list[int]:
    """Where a text is broken into lines of that width."""
    breaks, begin = [], 0
    while len(text) - begin > _LONGEST_LINE or cell_len(text[begin:]) > width:
        begin += _break(text[begin : begin + width + 1], width)
        breaks.append(begin)
    return breaks


def _break(text: str, width: int) -> int:
    """How much of a text stands in a line of that width."""
    end = width
    while end > 1 and cell_len(text[:end]) > width:
        end -= 1
    blank = text.rfind(" ", len(text) - len(text.lstrip()), end + 1)
    if blank > end // 3:
        return blank + 1
    sign = max(text.rfind(each, 0, end) for each in "._/,")
    return sign + 1 if sign > end // 3 else end


def _segments(cell: Text, base: Style | None, console: Console) -> Iterator[Segment]:
    """A line of a cell in its styles."""
    if cell.spans or not isinstance(cell.style, str):
        for segment in cell.render(console):
            yield Segment(segment.text, base + segment.style if base and segment.style else segment.style or base)
        return
    style = console.get_style(cell.style) if cell.style else None
    yield Segment(cell.plain, base + style if base and style else style or base)
