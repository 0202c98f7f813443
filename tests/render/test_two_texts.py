"""The two texts that `diff --against-text` draws: what differs is marked, and what does not fit is cut."""

from __future__ import annotations

import re

import pytest
from msgspec import structs
from rich.cells import cell_len

from tests.making.reports import ESCAPE, drawn, two_texts_report
from txinspect.commands.command import Detailed
from txinspect.commands.diff import DiffReport
from txinspect.records import InputRecord, SentenceRecord


def sides(report: DiffReport, width: int = 80, **how: bool) -> list[str]:
    """The lines of both texts, without what stands before them."""
    lines = drawn(report, width, view=Detailed(), **how).splitlines()
    found = [line for line in lines if "this side   " in ESCAPE.sub("", line) or "other side  " in ESCAPE.sub("", line)]
    return [re.split("this side   |other side  ", line, maxsplit=1)[1] for line in found]


def words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r" ?\S+", text))


@pytest.mark.parametrize(
    ("this", "other", "shown"),
    [
        ("The quick fox", "The slow fox", ["The [quick] fox", "The [slow] fox"]),
        ("The fox", "The very slow fox", ["The fox", "The [very slow] fox"]),
        ("A fox", "The fox jumps", ["[A] fox", "[The] fox [jumps]"]),
        ("The fox", "The fox", ["The fox", "The fox"]),
    ],
)
def test_brackets_are_around_what_differs(this: str, other: str, shown: list[str]) -> None:
    assert sides(two_texts_report(words(this), words(other))) == shown


def test_with_colours_it_is_in_a_colour_too() -> None:
    shown = sides(two_texts_report(words("The quick fox"), words("The slow fox")), colour=True)
    assert [ESCAPE.sub("", line) for line in shown] == ["The [quick] fox", "The [slow] fox"]
    assert all(
        re.search(rf"\x1b\[[0-9;]*35[0-9;]*m\[{word}\]\x1b", line)
        for word, line in zip(("quick", "slow"), shown, strict=True)
    )


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("letters", ["word", "狐狸", "e\u0301te\u0301"], ids=["narrow", "wide", "combining"])
@pytest.mark.parametrize("at", [0, 1, 30, 59])
def test_long_texts_are_cut_where_they_differ(width: int, letters: str, at: int) -> None:
    text = [f" {letters}{index}" for index in range(60)]
    other = [*text[:at], " 新しい new", *text[at:], *(f" more{index}" for index in range(60))]
    shown = sides(two_texts_report(text, other), width)
    label = len("other side  ")
    assert all(cell_len(line) <= width - label for line in shown)
    assert "[新しい new]" in shown[1]
    assert shown[1].endswith("…")
    if at != 1:  # whose first word may fit or not
        assert all(line.startswith("…") == (at > 0) for line in shown)
    # Both begin at the same place, and so stand under each other as far as they are equal.
    before = shown[1].split("[", 1)[0].rstrip()
    assert shown[0].startswith(before)
    whole = drawn(two_texts_report(text, other), width, view=Detailed(table=True))
    assert len(whole) > len(drawn(two_texts_report(text, other), width, view=Detailed()))


def test_the_other_token_is_named_where_it_is_another() -> None:
    report = two_texts_report(words("The quick brown fox jumps"), words("Oh the quick brown cat jumps"))
    table = drawn(report, 120, view=Detailed(table=True))
    assert "5 ␣jumps (there 6)" in table
    same = two_texts_report(words("The quick fox"), words("The quick cat"))
    assert "3 ␣fox (there ␣cat)" in drawn(same, 120, view=Detailed(table=True))
    assert "after 2 ␣quick ␣fox → ␣dog, after 3 ␣fox (there ␣cat)" in drawn(same, 120, view=Detailed())


def test_what_decoders_read_stands_below() -> None:
    report = two_texts_report(words("The quick fox"), words("The slow fox"))
    decoders = [
        SentenceRecord(
            text=text,
            input_ids=[[1, *ids]],
            attention_mask=[[1] * (len(ids) + 1)],
            tokens=[
                structs.replace(report.input.tokens[0], id=1),
                *(
                    structs.replace(report.input.tokens[1], index=index, id=each, text=word, start=None, end=None)
                    for index, (each, word) in enumerate(zip(ids, text.split(), strict=True), 1)
                ),
            ],
        )
        for text, ids in (("la vulpo saltas", [5, 6, 7]), ("la vulpo", [5, 6]))
    ]
    assert isinstance(report.other_input, InputRecord)
    both = structs.replace(
        report,
        input=structs.replace(report.input, decoder=decoders[0]),
        other_input=structs.replace(report.other_input, decoder=decoders[1]),
        decoder_aligned=[[0, 0], [1, 1], [2, 2]],
        changed=[],
    )
    assert sides(both)[2:] == ["la vulpo [saltas]", "la vulpo"]
    assert "4 tokens each, 3 the same · decoders: 3 of 4 and 3 tokens aligned" in " ".join(
        drawn(both, 200, view=Detailed()).split()
    )


def test_a_second_text_is_marked_in_its_place() -> None:
    report = two_texts_report(words("The fox"), words("The cat"))
    assert report.other_input is not None
    # The second text is read behind a special token, and its places are its own.
    ending = [structs.replace(report.input.tokens[0], index=3), structs.replace(report.input.tokens[1], index=4, id=99)]
    paired = [
        structs.replace(each, pair=pair, tokens=[*each.tokens, ending[0], structs.replace(ending[1], id=id_)])
        for each, pair, id_ in ((report.input, "Oh.", 98), (report.other_input, "Ah.", 99))
    ]
    aligned = [[each, each] for each in range(5)]
    both = structs.replace(report, input=paired[0], other_input=paired[1], aligned=aligned)
    assert sides(both) == ["The [fox] | [Oh.]", "The [cat] | [Ah.]"]
