"""Tables of plain values as a terminal draws them: bars, tones, and what gives way where there is no room."""

from __future__ import annotations

import io
from collections.abc import Set
from typing import get_args

import pytest
from rich.console import Console

from txinspect.render.tables import Column, Row, Table, Tone, bar, cell, in_decimals, numbers, numeric
from txinspect.render.terminal.frame import Frame, fitted_table
from txinspect.render.terminal.tones import STYLES


def shown(frame: Frame, width: int = 60) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, _environ={}).print(frame)
    return stream.getvalue().splitlines()


def three_columns(left_out: Set[str]) -> Table:
    titles = [title for title in ("first", "second", "third") if title not in left_out]
    return Table([Column(title) for title in titles], [Row([cell(title) for title in titles])], rule=False)


@pytest.mark.parametrize(
    ("width", "titles"),
    [(20, "first  second  third"), (19, "second  third"), (13, "second  third"), (12, "second"), (3, "second")],
)
def test_columns_give_way_in_their_order_until_a_table_fits(width: int, titles: str) -> None:
    frame = fitted_table(three_columns, width, ("first", "third"))
    assert shown(frame) == [titles, titles]


def test_a_bar_is_as_long_as_its_part_of_the_longest() -> None:
    nan, none = float("nan"), None
    table = Table([Column("")], [Row([bar(value, 4.0)]) for value in (4.0, 1.0, nan, none)], rule=False)
    assert shown(Frame(table, bars=8)) == ["█" * 8, "█" * 2, "", ""]


def test_a_number_keeps_its_value() -> None:
    assert numeric(1 / 3, 3).value == 1 / 3
    assert shown(Frame(Table(numbers("n"), [Row([numeric(1 / 3, 3)]), Row([numeric(None)])], rule=False))) == [
        "    n",
        "0.333",
        "    –",
    ]


def test_every_tone_has_a_look() -> None:
    assert STYLES.keys() == set(get_args(Tone))


@pytest.mark.parametrize(
    ("values", "spread", "shown_as"),
    [
        ([14.59, 14.4, 8.987], False, ["14.59", "14.40", "8.99"]),
        ([3.219, 0.00031, None], False, ["3.219", "0.000", "–"]),
        ([0.028, 0.0033], True, ["0.0280", "0.0033"]),
        ([0.028, 3e-8], True, ["2.800e-02", "3.000e-08"]),
        ([1.0, 2.0], False, ["1", "2"]),
        ([1.5e-7, 2e-9], False, ["1.5e-07", "2e-09"]),
        ([float("nan"), 0.25, float("-inf")], False, ["nan", "0.25", "-inf"]),
        ([0.0, 0.0], False, ["0", "0"]),
    ],
)
def test_the_numbers_of_a_column_have_one_number_of_decimals(
    values: list[float | None], spread: bool, shown_as: list[str]
) -> None:
    rows = [Row([numeric(value)]) for value in values]
    table = in_decimals(Table([Column("n", spread=spread)], rows))
    assert [row.cells[0].words[0].text for row in table.rows if isinstance(row, Row)] == shown_as
    assert [repr(row.cells[0].value) for row in table.rows if isinstance(row, Row)] == [repr(each) for each in values]
