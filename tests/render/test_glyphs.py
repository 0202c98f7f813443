"""Text and numbers as a person sees them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from txinspect.render.spelling import number, sparkline, visible
from txinspect.render.terminal.glyphs import bar
from txinspect.wording import ranges, short_bytes, short_count


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\nb\tc\rd", "a↵b⇥c␍d"),
        ("\0\x1b\x7f", "␀␛␡"),
        ("\x9b", "\\u{9b}"),
        ("\u202e\u200b", "\\u{202e}\\u{200b}"),
        ("\u2028\u2029", "\\u{2028}\\u{2029}"),
        ("\ud800", "\\u{d800}"),
        ("naïve 漢 😀 [/INST]", "naïve 漢 😀 [/INST]"),
    ],
    ids=ascii,
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_spaces_can_be_seen() -> None:
    assert visible(" a ", spaces=True) == "␣a␣"


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0"), (999, "999"), (1000, "1K"), (1234, "1.23K"), (999_949, "1M"), (125_239_296, "125M"), (10**9, "1B")],
)
def test_short_count(count: int, shown: str) -> None:
    assert short_count(count) == shown


@pytest.mark.parametrize(("count", "shown"), [(0, "0 B"), (1, "1 B"), (2500, "2.5 kB"), (2_631_000_000, "2.63 GB")])
def test_short_bytes(count: int, shown: str) -> None:
    assert short_bytes(count) == shown


@pytest.mark.parametrize("count", [9, 99, 999, 9_995, 99_949, 999_499, 999_500, 999_999, 10**12])
def test_short_counts_stay_short(count: int) -> None:
    assert "e" not in short_count(count)
    assert len(short_count(count)) <= 5


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (0.0, "0"), (1.23456, "1.235"), (-1e-9, "-1e-09"), (123456.0, "1.235e+05")]
)
def test_number(value: float | None, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("counts", "shown"), [([], ""), ([0, 0], "  "), ([8, 4, 1, 0], "█▄▁ "), ([10**9, 1], "█▁"), ([5], "█")]
)
def test_sparkline(counts: list[int], shown: str) -> None:
    assert sparkline(counts) == shown


def test_bar() -> None:
    assert (bar(0, 0, 8), bar(0, 1, 8), bar(1, 1, 8), bar(0.5, 1, 3)) == ("", "", "█" * 8, "█▌")


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 0.5, 0.99, 1.0])
def test_a_bar_is_never_too_long(value: float) -> None:
    assert len(bar(value, 1.0, 16)) <= 16


def test_ranges() -> None:
    assert ranges([]) == ""
    assert ranges([3]) == "3"
    assert ranges([0, 1, 2, 5, 7, 8]) == "0–2, 5, 7–8"


def test_text_is_taken_as_it_is() -> None:
    """The trap: Rich reads [/INST] in a plain string as a closing tag, and fails."""
    from rich.errors import MarkupError

    with pytest.raises(MarkupError):
        Console(file=io.StringIO()).print("[/INST]")
    Console(file=io.StringIO()).print(Text("[/INST]"))
