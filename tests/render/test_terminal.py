"""Records made by hand → what a person sees: golden files, and what holds for every table.

`UPDATE_GOLDEN=1 pytest tests/test_render.py` rewrites the golden files; read their diff before it is committed.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from tests.making.reports import (
    COSTS,
    ESCAPE,
    REPORTS,
    SENTENCE,
    attention_report,
    drawn,
    head,
    heat_lines,
    model,
    parameter,
    tensor,
    text_input,
)
from txinspect.commands.attn import AttnView
from txinspect.commands.command import Detailed, Theme, Themed
from txinspect.commands.stages import StageRecord, StagesReport
from txinspect.commands.tokenize import TokenizeReport
from txinspect.commands.tree import ModuleRecord, TotalsRecord, TreeReport
from txinspect.records import Report, TensorsReport
from txinspect.render.spelling import visible
from txinspect.render.terminal import render

GOLDEN = Path(__file__).parents[1] / "golden"
WIDTHS = (60, 80, 120, 200)
# Golden files


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", REPORTS)
def test_golden(name: str, width: int) -> None:
    compare(f"{name}-{width}.txt", drawn(name, width))


EVERYTHING: dict[str, object] = {
    "attn": AttnView(table=True),
    "attn-cross": AttnView(table=True),
    "heads": Themed(table=True),
    "lens": Themed(table=True),
    "logits": Themed(table=True),
    "logits-masked": Themed(table=True),
    "diff": Detailed(table=True),
    "diff-texts": Detailed(table=True),
}
"""Commands whose first screen leaves something out, and what shows it."""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", EVERYTHING)
def test_golden_of_everything(name: str, width: int) -> None:
    report, _ = REPORTS[name]()
    compare(f"{name}-table-{width}.txt", drawn(report, width, view=EVERYTHING[name]))


THEMES: tuple[Theme, ...] = ("dark", "light")

MAPS = ("attn", "attn-cross", "heads", "lens", "logits")
"""Drawings with colours of their own."""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", MAPS)
def test_golden_in_colour(name: str, theme: Theme, width: int) -> None:
    view = AttnView(theme=theme) if name.startswith("attn") else Themed(theme=theme)
    compare(f"{name}-{width}-{theme}.txt", drawn(REPORTS[name]()[0], width, colour=True, view=view))


def compare(name: str, shown: str) -> None:
    """Compare with a golden file, or rewrite it. Trailing blanks are left out: editors drop them."""
    stripped = "\n".join(line.rstrip() for line in shown.splitlines()) + "\n"
    file = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(stripped, encoding="utf-8")
    assert stripped == file.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    used = {f"{name}-{width}.txt" for name in REPORTS for width in WIDTHS}
    used |= {f"{name}-table-{width}.txt" for name in EVERYTHING for width in WIDTHS}
    used |= {f"{name}-{width}-{theme}.txt" for name in MAPS for width in WIDTHS for theme in THEMES}
    assert {path.name for path in GOLDEN.glob("*.txt")} == used


# Colour


@pytest.mark.parametrize("name", REPORTS)
def test_colour_changes_no_character(name: str) -> None:
    coloured = drawn(name, 100, colour=True)
    assert ESCAPE.search(coloured)
    assert "\x1b" not in ESCAPE.sub("", coloured)
    if name not in MAPS or name == "heads":  # a map has shades or bars where it has no colour
        assert ESCAPE.sub("", coloured) == drawn(name, 100)


@pytest.mark.parametrize("name", REPORTS)
def test_without_colour_there_is_no_escape(name: str) -> None:
    assert "\x1b" not in drawn(name, 100)


def test_no_color_in_the_environment_gives_shades() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=True, color_system="truecolor", _environ={"NO_COLOR": "1"})
    render(attention_report(), console)
    assert "█" in stream.getvalue()
    assert "48;2;" not in stream.getvalue()  # no background colour
    assert "38;2;" not in stream.getvalue()


def test_a_terminal_of_16_colours_gets_shades() -> None:
    stream = io.StringIO()
    render(attention_report(), Console(file=stream, width=100, force_terminal=True, color_system="standard"))
    assert "█" in stream.getvalue()


def test_heat_is_background_colour() -> None:
    backgrounds = re.findall(r"\x1b\[48;2;([0-9;]+)m", drawn("attn", 80, colour=True))
    brightest, darkest = "252;253;191", "43;43;66"
    assert brightest in backgrounds
    assert darkest in backgrounds


@pytest.mark.parametrize(("theme", "zero", "most"), [("dark", 43, 252), ("light", 226, 20)])
def test_zero_differs_from_what_is_masked_on_either_background(theme: Theme, zero: int, most: int) -> None:
    shown = drawn(attention_report(), 80, colour=True, view=AttnView(theme=theme))
    row = next(line for line in shown.splitlines() if re.match(r" *2 ", ESCAPE.sub("", line)))
    cells = re.findall(r"\x1b\[48;2;(\d+);", row)
    assert cells[-3:] == [str(zero), str(zero), str(most)]  # head 1 sees itself; two keys after it are blank
    assert ESCAPE.sub("", row).endswith(" " * 4) or len(ESCAPE.sub("", row)) < 40


# What holds for every table


@pytest.mark.parametrize("width", [20, 30, 40, 60, 79, 80, 81, 100, 109, 110, 119, 120, 137, 138, 139, 200, 300])
@pytest.mark.parametrize("name", REPORTS)
def test_no_line_is_wider_than_the_console(name: str, width: int) -> None:
    for line in drawn(name, width).splitlines():
        assert cell_len(line) <= width, line


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("name", sorted(REPORTS.keys() - {"models"}))
def test_the_model_comes_first(name: str, width: int) -> None:
    first = " ".join(drawn(name, width).splitlines()[:2])
    assert all(fact in first for fact in ("facebook/opt-tiny", "01234567", "OPTForCausalLM", "3 layers", "float16"))


def test_findings_come_first_then_notes_then_what_was_read_and_saved() -> None:
    lines = drawn("run", 140).splitlines()
    assert lines[1].startswith("Not every number is finite: ")
    assert lines[-2] == "model.decoder.project_in passed no tensor on in this pass."
    assert lines[-1].startswith("read ")
    assert drawn("embed", 140).splitlines()[-1] == "saved to out/embeddings.safetensors, over the file that was there"


def test_what_to_try_next_is_said_last() -> None:
    assert drawn("attn", 80).splitlines()[-1] == (
        "try --head 1, --query -1 (the last token), --layer all, --table (q, k, v, …)"
    )


def test_a_local_model_is_called_by_its_folder() -> None:
    report = attention_report()
    for name, revision, shown in (
        ("/home/me/models/smollm2/", None, "smollm2 ·"),
        ("facebook/opt-1.3b", "0" * 40, "facebook/opt-1.3b ·"),
        (".", None, ". ·"),
        ("model", None, "model ·"),
        ("/data/smollm2/model", None, "smollm2 ·"),
        (f"/c/hub/models--org--my-name/snapshots/{'0a' * 20}", None, "org/my-name ·"),
        (f"/runs/{'f' * 64}/model/", None, "runs ·"),
    ):
        changed = structs.replace(report, model=model(name=name, revision=revision))
        assert drawn(changed, 80).startswith(shown)


def test_columns_never_touch() -> None:
    wide = text_input(["漢" * 30, " b"])
    for line in drawn(attention_report(wide, heads=2, queries=[1, 2]), 80).splitlines():
        assert not re.search(r"漢\S*\d\.\d\d", line)
    assert "漢…  " in drawn(attention_report(wide, heads=2, queries=[1, 2]), 80)


def test_cells_that_fit_are_not_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich's own tables wrap every cell: 100,000 tokens took 40 s."""
    original, wrapped = Text.wrap, list[Text]()

    def wrap(text: Text, *args: Any, **options: Any) -> Any:
        wrapped.append(text)
        return original(text, *args, **options)

    monkeypatch.setattr(Text, "wrap", wrap)
    shown = drawn(TokenizeReport(**head("tokenize"), input=text_input([" word"] * 2_000, text="words")), 120)
    assert len(shown.splitlines()) > 2_000
    assert len(wrapped) < 10


@pytest.mark.parametrize("width", [60, 80, 140])
def test_nothing_of_a_long_name_is_lost(width: int) -> None:
    name = "model.decoder.layers.0." + ".".join(f"part{number}" for number in range(20))
    report = TensorsReport(
        **head("run"),
        input=SENTENCE,
        tensors=[tensor(name, (1, 2), None, module=name)],
        saved=None,
        replaced=False,
        edits=[],
        findings=[],
        checks=None,
        **COSTS,
    )
    assert name in drawn(report, width).replace("\n", "").replace(" ", "")


def squeezed(shown: str) -> str:
    """What is shown, however it was wrapped."""
    return "".join(shown.split())


# Odd text

ODD = (
    "[/INST]",
    "[bold]",
    "[red",
    "\x1b[31m",
    "\u202eabc",
    "\u200f",
    "\0",
    "\r\n",
    "\x9b2J",
    "\ud800",
    "\ue000",
    "\ufeff",
)
WIDE = ("漢字かな", "한글", "😀", "👩\u200d🔬", "🇩🇪", "❤\ufe0f", "e\u0301", "ｆｕｌｌ", "שלום", "x" * 40)


def odd_reports(word: str) -> list[Report]:
    """Every kind of report, with the word wherever a person or a file can put one."""
    input = text_input((word, " plain", word + word))
    named = [tensor(word, (1, 2), None, module=word, class_=word)]
    parts = [
        ModuleRecord(name="", class_=word, depth=0, parameters=[], numel=1, bytes=1),
        ModuleRecord(name=word, class_=word, depth=1, parameters=[parameter(word, 1)], numel=1, bytes=2),
    ]
    lines = {"notes": [word], "model": model(name=word, class_=word, dtype=word, quantization=word, revision=word)}
    totals = TotalsRecord(numel=1, bytes=2, bytes_8bit=2, bytes_4bit=2, linear_modules=0)
    stage = StageRecord(name=word, axes=None, module=word, class_=word, available=True, reason=None, note=word)
    absent = StageRecord(name=word, axes=None, module=None, class_=None, available=False, reason=word, note=None)
    return [
        TokenizeReport(**{**head("tokenize"), **lines}, input=input),
        TreeReport(
            **{**head("tree"), **lines},
            modules=parts if "." not in word else parts[:1],
            totals=totals,
            quantization=None,
        ),
        StagesReport(**{**head("stages"), **lines}, stages=[stage, absent], quantization=None),
        TensorsReport(
            **{**head("run"), **lines},
            input=input,
            tensors=named,
            saved=word,
            replaced=False,
            edits=[],
            findings=[],
            checks=None,
            **COSTS,
        ),
        attention_report(input),
    ]


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("word", ODD + WIDE, ids=ascii)
def test_odd_text_neither_crashes_nor_vanishes(word: str, width: int) -> None:
    for report in odd_reports(word):
        shown = drawn(report, width)
        shown.encode()  # no lone surrogate
        assert not {each for each in shown if each != "\n" and (each < " " or "\x7f" <= each <= "\x9f")}
        assert not set("\u202e\u200f\ufeff\ue000") & set(shown)
        assert all(cell_len(line) <= width for line in shown.splitlines())
        cut = visible(word)[:6].rstrip()
        assert squeezed(cut) in squeezed(shown), type(report).__name__


@pytest.mark.parametrize("word", WIDE, ids=ascii)
def test_wide_labels_keep_the_columns_of_a_heatmap(word: str) -> None:
    input = text_input((word, " b", word, " d"))
    report = attention_report(input, heads=2, weight=lambda _, query, key: float(key == 0))
    lines = heat_lines(drawn(report, 80))
    assert len(lines) == 5
    for line in lines:
        before, bar_, _ = line.partition("██")
        assert bar_
        assert cell_len(before) == 14


@pytest.mark.parametrize("word", WIDE[:-1], ids=ascii)
def test_wide_tokens_keep_the_columns_of_the_token_table(word: str) -> None:
    shown = drawn(TokenizeReport(**head("tokenize"), input=text_input((word, " b", word))), 120)
    header = next(line for line in shown.splitlines() if "characters" in line)
    ends = cell_len(header[: header.index("characters") + len("characters")])
    rows = [line for line in shown.splitlines() if re.search(r"\d–\d+ \(\d+\)", line)]
    assert len(rows) == 3
    for line in rows:
        assert cell_len(line[: line.rindex(")") + 1]) == ends
