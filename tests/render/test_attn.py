"""The drawing of attention heads."""

from __future__ import annotations

import re

import pytest

from tests.making.reports import (
    ESCAPE,
    attention_report,
    drawn,
    heat_lines,
    text_input,
)
from txinspect.records import (
    InputRecord,
)


def words(count: int) -> InputRecord:
    return text_input([f" w{number}" for number in range(1, count)])


def test_shades_grow_with_the_weight() -> None:
    shades = (0.0, 0.04, 0.05, 0.2, 0.25, 0.5, 0.75, 1.0)
    report = attention_report(words(8), heads=1, weight=lambda _, query, key: shades[key] if query == 7 else 0.0)
    assert heat_lines(drawn(report, 80))[7][14:30] == "    ░░░░▒▒▓▓████"


def test_the_future_is_blank() -> None:
    for index, line in enumerate(heat_lines(drawn(attention_report(words(6), heads=1), 80))):
        assert line[14 + 2 * (index + 1) :].strip() == ""


def test_a_weight_that_is_no_number_is_marked() -> None:
    for value in (None, float("nan")):
        report = attention_report(words(3), heads=1, weight=lambda *_, value=value: value)
        for colour in (False, True):
            lines = heat_lines(ESCAPE.sub("", drawn(report, 80, colour=colour)))
            assert lines[2][14:20] == "??????"


def test_everything_fits_without_a_sentence() -> None:
    shown = drawn(attention_report(words(30), heads=1), 80)
    assert len(heat_lines(shown)) == 30
    assert "heatmaps show" not in shown


@pytest.mark.parametrize("width", [40, 80, 100])
@pytest.mark.parametrize("count", [50, 64, 100])
def test_a_window_shows_the_end_and_says_so(width: int, count: int) -> None:
    shown = drawn(attention_report(words(count), heads=1), width)
    lines = heat_lines(shown)
    keys = len(lines)
    sentence = " ".join(shown.split("heatmaps show")[1].split("strongest keys")[0].split())
    assert f"keys {count - keys}–{count - 1} of {count} tokens" in sentence
    assert "--json --values" in sentence
    assert [int(line.split()[0]) for line in lines] == list(range(count - keys, count))
    assert 2 * (keys + 1) + 14 >= min(width - 1, 2 * 64)  # as many as fit
    strongest = shown.split("strongest keys")[1]
    assert all(re.search(rf"^ *{index} w{index}\b", strongest, re.MULTILINE) for index in range(1, count))


def test_the_sentence_promises_no_more_than_a_wider_terminal_gives() -> None:
    wide = drawn(attention_report(words(100), heads=1), 300)
    assert "keys 36–99 of 100 tokens" in " ".join(wide.split())  # the record's window, whatever the width
    assert "wider terminal" not in wide
    chosen = drawn(attention_report(words(10), heads=1, queries=[3]), 200)
    assert "wider terminal" not in chosen


def test_chosen_queries_are_the_rows() -> None:
    shown = drawn(attention_report(words(10), heads=1, queries=[2, 5]), 80)
    assert [line.split()[0] for line in heat_lines(shown)] == ["2", "5"]


@pytest.mark.parametrize(("width", "heads", "groups"), [(80, 12, 3), (200, 12, 1), (40, 3, 2)])
def test_heads_are_side_by_side_as_far_as_they_fit(width: int, heads: int, groups: int) -> None:
    shown = drawn(attention_report(words(5), heads=heads), width).split("strongest keys")[0]
    assert len([line for line in shown.splitlines() if re.search(r"head \d", line)]) == groups
    assert all(f"head {index}" in shown for index in range(heads))
