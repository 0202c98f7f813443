"""How far it is: what is told while a model runs, and how a terminal shows it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from tests.making.models import save_tiny
from txinspect import AttnQuery, HeadsQuery, LensQuery, LogitsQuery, ModelChoice, RunQuery, inspect
from txinspect.as_json import to_json
from txinspect.cli.progress import Shown, line
from txinspect.queries import Query


def told(query: Query[Any]) -> list[tuple[str, int, int]]:
    """What is told of a query; its report is the same as without."""
    seen: list[tuple[str, int, int]] = []
    report = inspect(query, progress=lambda *each: seen.append(each))
    assert to_json(report) == to_json(inspect(query))
    return seen


def test_layers_are_counted() -> None:
    seen = told(RunQuery(text="hi", stages=("logits",)))
    assert seen == [("running opt-mini on 3 tokens", number, 4) for number in range(4)]
    assert told(AttnQuery(text="hi", layer=1)) == [("running opt-mini on 3 tokens", number, 4) for number in range(2)]


def test_layers_of_both_stacks_are_counted() -> None:
    model = ModelChoice(name="transformer-mini")
    seen = told(HeadsQuery(model=model, text="the fox", decoder="la vulpo"))
    assert [(done, of) for _, done, of in seen] == [(number, 4) for number in range(4)]


def test_what_is_generated_is_counted() -> None:
    seen = told(HeadsQuery(model=ModelChoice(name="transformer-mini"), text="the fox", new=7))
    generated = [(done, of) for doing, done, of in seen if doing == "generating"]
    assert generated == [(number, 7) for number in range(len(generated))]
    assert 1 < len(generated) <= 7


def test_windows_are_counted() -> None:
    seen = told(LogitsQuery(text="the quick fox " * 100, stride=128))
    (of,) = {of for _, _, of in seen}
    assert [done for _, done, _ in seen] == list(range(of))
    assert of % 4 == 0
    assert of > 4


def test_rows_are_counted() -> None:
    seen = [each for each in told(LensQuery(text="hi")) if each[0] == "reading layers"]
    assert seen == [("reading layers", number, 5) for number in range(5)]


def test_masks_are_counted(tmp_path: Path) -> None:
    folder = save_tiny("bert", tmp_path / "bert", task="masked-lm")
    seen = told(LogitsQuery(model=ModelChoice(name=str(folder)), text="ab", pll=True))
    assert [each for each in seen if each[0] == "masking tokens"] == [
        ("masking tokens", number, 2) for number in (0, 1)
    ]


def test_a_line_says_how_much_time_is_left() -> None:
    assert line("running", 5, 10, 5.0) == "running ████████         5 of 10, 5 s left"
    assert line("running", 1, 1000, 1.0).endswith("1 of 1000, 16 min left")
    assert line("running", 1, 100_000, 1.0).endswith("27 h left")
    assert line("running", 10, 10, 9.0).endswith("10 of 10, 0 s left")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_comes_after_a_moment() -> None:
    terminal, now = Terminal(), [0.0]
    shown = Shown(terminal, lambda: now[0])
    shown.progress("running", 0, 10)
    now[0] = 0.9
    shown.progress("running", 3, 10)
    assert terminal.getvalue() == ""
    now[0] = 2.0
    shown.progress("running", 4, 10)
    shown.stop()
    assert "4 of 10, 3 s left" in terminal.getvalue()
    now[0] = 2.5
    shown.progress("reading", 5, 10)  # other work begins anew
    assert "reading" not in terminal.getvalue()
