"""The lesson as a person meets it: transcripts, one step at a time, and the command lines that it names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.cli.test_paging import typed_at
from tests.conftest import UPDATE_GOLDEN
from tests.making.models import save_tiny
from tests.test_docs import same
from txinspect import (
    LensQuery,
    LessonQuery,
    LogitsQuery,
    ModelChoice,
    StagesQuery,
    TokenizeQuery,
    inspect,
)
from txinspect.commands import typed
from txinspect.commands.lesson import STEPS
from txinspect.queries import Query
from txinspect.render.page import is_ours

pytestmark = pytest.mark.screens

GOLDEN = Path(__file__).parents[1] / "golden" / "lessons"
MODELS = ("opt-mini", "transformer-mini")
LINES = 22
"""Of a screen of 24, the prompt's lines left out."""

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def eighty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("model", MODELS)
def test_the_transcript(model: str, run_cli: Run) -> None:
    result = run_cli("lesson", "-m", model)
    assert result.exit_code == 0, result.stderr
    shown = "".join(f"{line.rstrip()}\n" for line in result.stdout.splitlines())
    file = GOLDEN / f"{model}.txt"
    if UPDATE_GOLDEN:
        file.write_text(shown, encoding="utf-8")
    assert same(file.read_text(encoding="utf-8"), shown), shown
    assert re.findall(r"^(\d+) · ", shown, re.MULTILINE) == [str(step) for step in range(1, STEPS + 1)]


@pytest.mark.parametrize("model", MODELS)
def test_each_step_fits_on_a_screen(model: str, run_cli: Run) -> None:
    for step in range(1, STEPS + 1):
        lines = run_cli("lesson", "-m", model, "--step", str(step)).stdout.splitlines()
        assert len(lines) <= LINES, "\n".join(lines)
        assert max(map(len, lines)) <= 80
        assert any(line.startswith(f"{step} · ") for line in lines)


@pytest.mark.parametrize("model", [*MODELS, "llama", "bert", "mamba"])
def test_every_command_line_that_a_step_names_runs(model: str, run_cli: Run, tmp_path: Path) -> None:
    if model not in MODELS:
        task = "masked-lm" if model == "bert" else "causal-lm"
        model = str(save_tiny(model, tmp_path / model, task=task))  # type: ignore[arg-type]
    report = inspect(LessonQuery(model=ModelChoice(name=model), text="the quick dog"))
    for line in {each.line for each in report.steps}:
        program, *words = shlex.split(line)
        assert program == "txinspect"
        result = run_cli(*words)
        assert result.exit_code == 0, (line, result.stderr)


CHOICE = ModelChoice(name="transformer-mini", quantization="8bit", skip_modules=("fc1", "fc2"))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (LogitsQuery(), "txinspect logits"),
        (LogitsQuery(text="a 'b'", position=None), "txinspect logits 'a '\"'\"'b'\"'\"'' --position all"),
        (LogitsQuery(text="-x", special=False), "txinspect logits --no-special -- -x"),
        (LensQuery(position=(-1,)), "txinspect lens --position -1"),
        (LogitsQuery(ids=(2, 17), edits=("logits = 0",)), "txinspect logits --ids 2,17 --edit 'logits = 0'"),
        (StagesQuery(model=CHOICE), "txinspect stages transformer-mini --8bit --skip-module fc1 --skip-module fc2"),
        (TokenizeQuery(model=CHOICE), "txinspect tokenize -m transformer-mini"),
    ],
)
def test_the_line_of_a_query(query: Query[Any], expected: str) -> None:
    assert typed.line(query) == expected


def test_a_page_holds_all_steps(run_cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "lesson.html"
    assert run_cli("lesson", "--html", str(file)).exit_code == 0
    content = file.read_bytes()
    assert is_ours(content[:200])
    assert all(f"{step} · ".encode() in content for step in range(1, STEPS + 1))
    assert b"Without it copying dies" in content


@pytest.mark.processes
def test_enter_goes_on_and_q_ends() -> None:
    seen = typed_at({"1 · Tokens": "\r", "2 · Embedding": "q"}, "lesson")
    assert seen.code == 0
    assert "1 · Tokens" in seen.shown
    assert "2 · Embedding" in seen.shown
    assert "3 · " not in seen.shown
    assert seen.shown.count("Enter: next, q: end") == 2


@pytest.mark.processes
def test_all_steps_one_by_one() -> None:
    titles = [f"\n{step} · " for step in range(1, STEPS)]
    seen = typed_at({f"{step} · ": "\r" for step in range(1, STEPS)}, "lesson", NO_COLOR="1")
    assert seen.code == 0
    assert all(title in seen.shown or title.strip() in seen.shown for title in titles)
    assert "Without it copying dies" in seen.shown


@pytest.mark.processes
@pytest.mark.parametrize("options", [("--step", "2"), ("--no-pager",), ("--json",)])
def test_nothing_is_asked_where_one_step_or_all_are_wanted(options: tuple[str, ...]) -> None:
    seen = typed_at({}, "lesson", *options, PAGER="cat")
    assert seen.code == 0
    assert "Enter" not in seen.shown


def test_what_is_piped_is_plain(run_cli: Run) -> None:
    shown = run_cli("lesson", "the quick dog").stdout
    assert "\x1b" not in shown
    assert "Enter" not in shown
    assert "11 · " in shown
