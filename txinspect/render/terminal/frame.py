"""The one look of every table: a rule under the header, none between columns, and columns that never touch.

A table of a hundred thousand tokens is laid out in seconds: a cell is wrapped only where it does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from txinspect.render.tables import Cell, Line, Row, Table, in_decimals
from txinspect.render.terminal.glyphs import bar
from txinspect.render.terminal.tones import STYLES, text

BAR = 16
"""Columns of a terminal for the longest bar, where a drawing does not say."""

GAP = 2
"""Blanks between two columns."""

LEAST = 4
"""Columns of a terminal that a column keeps, however narrow the terminal."""

_LONGEST_LINE = 10_000
"""Characters of a line, of which some may take no column."""


@dataclass(frozen=True)
class _Row:
    cells: Sequence[Text]
    style: str = ""


class Frame:
    """A table as a console draws it: as wide as it needs to be, and no wider than the console."""

    def __init__(self, table: Table, bars: int = BAR) -> None:
        self.table = table = in_decimals(table)
        self.rows = [_shown(row, bars) for row in table.rows]

    @property
    def natural_width(self) -> int:
        """Columns that a table takes in a terminal where nothing need be wrapped."""
        return sum(self._natural()) + GAP * (len(self.table.columns) - 1)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the table's rows and rules on a console."""
        limit = options.max_width
        widths = self._widths(limit)
        if self.table.title is not None:
            yield Text(self.table.title, style="bold")
        header = _Row([Text(column.title, style="bold cyan") for column in self.table.columns])
        if any(cell.plain for cell in header.cells):
            yield from self._drawn(header, widths, console)
        if self.table.rule:
            yield Text("─" * min(limit, sum(widths) + GAP * (len(widths) - 1)), style="dim")
        for row in self.rows:
            if isinstance(row, Text):
                yield row
            else:
                yield from self._drawn(row, widths, console)

    def _natural(self) -> list[int]:
        """How wide each column of the table is where nothing is wrapped."""
        widths = [_width(column.title) for column in self.table.columns]
        for row in self.rows:
            if isinstance(row, _Row):
                widths = [max(width, _width(cell.plain)) for width, cell in zip(widths, row.cells, strict=True)]
        return widths

    def _widths(self, limit: int) -> list[int]:
        """Widths of the table's columns: those that may wrap give way, the widest first, then the others."""
        widths, room = self._natural(), limit - GAP * (len(self.table.columns) - 1)
        for kind in (False, True):
            giving = [i for i, column in enumerate(self.table.columns) if column.whole == kind]
            cap = min(limit, max((widths[i] for i in giving), default=0))
            while sum(widths) > room and cap >= LEAST:
                widths = [min(width, cap) if i in giving else width for i, width in enumerate(widths)]
                cap -= 1
        return widths

    def _drawn(self, row: _Row, widths: Sequence[int], console: Console) -> Iterator[Segment]:
        """The lines of a table's row as drawn."""
        base = console.get_style(row.style) if row.style else None
        wrapped = [_lines(cell, width) for cell, width in zip(row.cells, widths, strict=True)]
        last = max((i for i, cell in enumerate(row.cells) if cell.plain), default=0)
        for lines in zip_longest(*wrapped[: last + 1]):
            yield from self._line(lines, widths, base, console)
            yield Segment.line()

    def _line(
        self, cells: Sequence[Text | None], widths: Sequence[int], base: Style | None, console: Console
    ) -> Iterator[Segment]:
        """One line of a table as drawn; blanks after its last cell are left out."""
        blanks = 0
        for position, cell in enumerate(cells):
            room = widths[position] - (cell_len(cell.plain) if cell else 0)
            blanks += room if self.table.columns[position].right else 0
            if cell and cell.plain:
                yield Segment(" " * blanks, base)
                yield from _segments(cell, base, console)
                blanks = 0
            blanks += GAP + (0 if self.table.columns[position].right else room)


def drawn(part: Table | Line, bars: int = BAR) -> Frame | Text:
    """The frame of a table, or a sentence, as a console draws it."""
    return Frame(part, bars) if isinstance(part, Table) else text(part.words)


def fitted_table(build: Callable[[Set[str]], Table], width: int, giving_way: Sequence[str]) -> Frame:
    """The frame of a table with as much left out, in the order in which it gives way, as makes it fit."""
    left_out: set[str] = set()
    for name in ("", *giving_way):
        left_out.add(name)
        frame = Frame(build(left_out))
        if frame.natural_width <= width:
            break
    return frame


def _shown(row: Row | Line, bars: int) -> _Row | Text:
    if isinstance(row, Line):
        return text(row.words)
    return _Row([_cell(cell, bars) for cell in row.cells], STYLES[row.tone])


def _cell(cell: Cell, bars: int) -> Text:
    if cell.fraction is not None:
        return Text(bar(cell.fraction, 1.0, bars), style=STYLES["figure"])
    return text(cell.words)


def _width(text: str) -> int:
    return max(map(cell_len, text.split("\n")))


def _lines(cell: Text, width: int) -> Sequence[Text]:
    """The lines of a table's cell, broken after a blank or a sign of a path if there is one, else where they end."""
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
    """Where the text of a table's cell is broken into lines of that width."""
    breaks, begin = [], 0
    while len(text) - begin > _LONGEST_LINE or cell_len(text[begin:]) > width:
        begin += _break(text[begin : begin + width + 1], width)
        breaks.append(begin)
    return breaks


def _break(text: str, width: int) -> int:
    """How much of a cell's text stands in a table's line of that width."""
    end = width
    while end > 1 and cell_len(text[:end]) > width:
        end -= 1
    blank = text.rfind(" ", len(text) - len(text.lstrip()), end + 1)
    if blank > end // 3:
        return blank + 1
    sign = max(text.rfind(each, 0, end) for each in "._/,")
    return sign + 1 if sign > end // 3 else end


def _segments(cell: Text, base: Style | None, console: Console) -> Iterator[Segment]:
    """A line of a table's cell in its styles, as a console draws it."""
    if cell.spans or not isinstance(cell.style, str):
        for segment in cell.render(console):
            yield Segment(segment.text, base + segment.style if base and segment.style else segment.style or base)
        return
    style = console.get_style(cell.style) if cell.style else None
    yield Segment(cell.plain, base + style if base and style else style or base)
