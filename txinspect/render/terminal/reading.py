"""What the model reads, above the tables."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table as Grid

from txinspect.records import InputRecord
from txinspect.render.content import heading as content
from txinspect.render.tables import Row, Table
from txinspect.render.terminal.frame import drawn
from txinspect.render.terminal.tones import text


def input_lines(input: InputRecord) -> list[RenderableType]:
    """What the model reads, as drawn above the tables: the messages, or the text."""
    conversation = content.conversation(input)
    return [*([grid(conversation)] if conversation else []), *map(drawn, content.texts(input))]


def grid(table: Table) -> Grid:
    """Texts that the model reads, drawn beside each other; they may be long and are wrapped as prose is."""
    shown = Grid.grid(*("" for _ in table.columns), padding=(0, 2))
    for row in table.rows:
        if isinstance(row, Row):
            shown.add_row(*(text(cell.words) for cell in row.cells))
    return shown
