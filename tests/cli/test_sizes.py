"""Texts of any size: bounds before work begins."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.making.bad_input import sentence, usage
from tests.making.models import save_tiny
from txinspect import InspectError, ModelChoice, RunQuery, TokenizeQuery, inspect
from txinspect.answers import limits
from txinspect.errors import UsageError
from txinspect.queries import MOST_CHARACTERS
from txinspect.render.content import tokenize

Run = Callable[..., Any]


def test_a_long_table_has_both_ends(run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenize, "ENDS", 3)
    text = "a b c d e f g h i"
    tokens = json.loads(run_cli("tokenize", text, "--json").stdout)["input"]["tokens"]
    lines = run_cli("tokenize", text).stdout.splitlines()
    shown = [line.split()[0] for line in lines if line.strip() and line.split()[0].isdigit()]
    count = len(tokens)
    assert shown == [str(index) for index in (0, 1, 2, count - 3, count - 2, count - 1)]
    assert any(f"… {count - 6} tokens in between; --json has all" in line for line in lines)
    assert f"input_ids [1, {count}]" in lines[-2] + lines[-1]


def test_a_text_beyond_any_measure_is_refused(tmp_path: Path, run_cli: Run) -> None:
    file = tmp_path / "text"
    with file.open("wb") as stream:
        stream.truncate(40 << 30)  # of no blocks
    assert "holds more than 32 MB" in sentence(run_cli("tokenize", "--file", file))
    file.write_text("a " * MOST_CHARACTERS)
    assert "the text has 16,000,000 characters: give at most 8,000,000" in usage(run_cli("tokenize", "--file", file))


def test_an_endless_pipe_is_not_read_to_its_end(run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            buffer[:] = b"y" * len(buffer)
            return len(buffer)

    from txinspect.cli import text

    with pytest.raises(InspectError, match="standard input holds more than 32 MB"):
        text._all(io.BufferedReader(Endless()))


def test_python_is_told_the_same() -> None:
    with pytest.raises(UsageError, match="give at most 8,000,000"):
        TokenizeQuery(text="a" * (MOST_CHARACTERS + 1))


def test_a_text_far_beyond_the_positions_is_not_even_tokenized(run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txinspect.texts.tokenizer.load", lambda *_, **__: pytest.fail("tokenized"))
    said = sentence(run_cli("run", "-s", "logits", "a " * 100_000))
    assert "200,000 characters, far more than 'opt-mini' has positions, 256: shorten the text" in said


def test_rotary_positions_end_somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what a model was made for it runs, as in transformers, but not for hours."""
    model = ModelChoice(name=str(save_tiny("llama", tmp_path / "m")))
    monkeypatch.setattr(limits, "context", lambda _: 3)
    assert inspect(RunQuery(model=model, text="abcdef", stages=("logits",))).tensors
    with pytest.raises(InspectError, match=r"tokens long, more than 4 times the 3 that .* was made for: shorten"):
        inspect(RunQuery(model=model, text="abcdef" * 9, stages=("logits",)))
