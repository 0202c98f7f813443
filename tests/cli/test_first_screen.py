"""What no option asked for fits on a screen of 80 × 24, with the finding on it; --table has the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from typer.testing import Result

from tests.conftest import BESIDE, NEEDED
from tests.making.models import save_tiny
from txinspect.commands import LISTED

pytestmark = pytest.mark.screens

Run = Callable[..., Result]

LINES = 22
"""Of a screen of 24, the prompt's lines left out."""

COMMANDS = {
    "logits": ("next after",),
    "attn": ("layer 0",),
    "heads": ("look at",),
    "lens": ("decided at",),
    "diff": ("The sides",),
    "embed": ("norm",),
    "pos": ("position_embeddings",),
    "plan": ("to read",),
    "models": ("your own",),
    "page": ("on the page",),
    "ablate": ("Without",),
    "patch": ("of the logit", "gap"),
    "attribute": ("wrote",),
    "why": ("wrote", "at random"),
    "steer": ("A vector at", "of ‖h‖"),
}
"""Each with what it found, on a screen of LINES lines."""

ROWS = {
    "tokenize": "tokens of text",
    "tree": "as stored",
    "stages": "stages in all",
    "diagram": "logits",
    "lesson": "next: txinspect help tutorial",
    "run": "stages in all",
    "params": "beyond 6σ",
    "env": "a terminal",
}
"""Commands that list all there is: what they come to stands at the end."""

MORE = {
    "logits": "index  token",
    "attn": "scores",
    "heads": "entropy",
    "lens": "entropy",
    "diff": "layers.0.mlp.output",
}
"""What stands under --table alone."""


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of thirty layers."""
    folder = save_tiny("llama", tmp_path_factory.mktemp("deep") / "deep")
    config: Any = AutoConfig.from_pretrained(folder)
    config.num_hidden_layers = 30
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture
def on_a_screen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """The name of a model, `deep` among them, on a screen of eighty columns."""
    monkeypatch.setenv("COLUMNS", "80")
    return lambda model: str(request.getfixturevalue("deep")) if model == "deep" else model


def asked(command: str, model: str) -> list[str]:
    """The command with its defaults; a comparison is with another backend."""
    named = [] if command in ("models", "env") else ["-m", model]
    return [command, *named, *NEEDED.get(command, []), *BESIDE.get((command, model), [])]


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize("model", ["opt-mini", "transformer-mini", "deep"])
@pytest.mark.parametrize("command", COMMANDS)
def test_the_first_screen(command: str, model: str, on_a_screen: Callable[[str], str], run_cli: Run) -> None:
    name = on_a_screen(model)
    first = lines(run_cli(*asked(command, name)))
    assert len(first) <= LINES, "\n".join(first)
    assert all(any(found in each for each in first) for found in COMMANDS[command])
    if command in MORE:
        assert "--table" in "\n".join(first[-2:])
        whole = lines(run_cli(*asked(command, name), "--table"))
        assert len(whole) > len(first)
        assert "--table" not in "\n".join(whole)
        assert MORE[command] in "\n".join(whole)


@pytest.mark.parametrize("model", ["opt-mini", "transformer-mini", "deep"])
@pytest.mark.parametrize("command", ROWS)
def test_what_rows_come_to_is_on_the_screen(
    command: str, model: str, on_a_screen: Callable[[str], str], run_cli: Run
) -> None:
    name = on_a_screen(model)
    assert ROWS[command] in "\n".join(lines(run_cli(*asked(command, name)))[-23:])


def test_every_command_is_looked_at() -> None:
    assert {*COMMANDS, *ROWS} == {*LISTED, "env"}


def test_a_long_text_has_few_rows(run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several tensors none; the last line says how all are shown, and then they are."""
    monkeypatch.setenv("COLUMNS", "80")
    text = "the quick dog " * 10
    for command in ("embed", "pos"):
        for model in ("opt-mini", "transformer-mini"):
            first = lines(run_cli(command, text, "-m", model))
            assert len(first) <= LINES, "\n".join(first)
            assert first[-1].startswith("--table has all ")
            assert any("norms from " in each for each in first)
            whole = lines(run_cli(command, text, "-m", model, "--table"))
            count = int(first[-1].split()[3])
            assert any(each.split()[0] == str(count - 1) for each in whole if each)


@pytest.mark.parametrize("other", ["the slow brown fox", "oh the quick fox jumps high"])
@pytest.mark.parametrize("model", ["opt-mini", "transformer-mini", "deep"])
def test_two_texts(model: str, other: str, on_a_screen: Callable[[str], str], run_cli: Run) -> None:
    name = on_a_screen(model)
    first = lines(run_cli("diff", "the quick brown fox", "--against-text", other, "-m", name))
    assert len(first) <= LINES, "\n".join(first)
    assert any(each.startswith("this side   ") and "[" in each for each in first)
    assert any(each.startswith("other side  ") and "[" in each for each in first)


def test_attention_to_another_text(run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    first = lines(run_cli("attn", "-m", "transformer-mini", "--cross", "--layer", "1"))
    assert len(first) <= LINES, "\n".join(first)
    assert any("source: 0:the 1:quick" in each for each in first)


def test_of_what_was_asked_for_nothing_is_left_out(run_cli: Run) -> None:
    def listed(*arguments: str) -> int:
        shown = lines(run_cli("logits", "hi there", *arguments))
        start = next(index for index, each in enumerate(shown) if each.lstrip().startswith("rank"))
        return shown[start:].index("") - 2

    assert listed() == 5
    assert listed("-k", "10") == listed("--table") == 10
    assert listed("-k", "7") == 7
    assert listed("--table", "-k", "3") == 3


@pytest.mark.parametrize("other", ["--json", "--dry-run"])
@pytest.mark.parametrize("command", MORE)
def test_tables_cannot_be_combined_with_what_draws_none(command: str, other: str, run_cli: Run) -> None:
    result = run_cli(*asked(command, "opt-mini"), "--table", other)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--table and {other} cannot be combined" in result.stderr


def test_a_text_by_its_surprisals(run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar of each token stands under its first letter, and the highest is that of the greatest surprisal."""
    monkeypatch.setenv("COLUMNS", "80")
    shown = lines(run_cli("logits", "The quick brown fox jumps over the lazy dog"))
    title = next(index for index, each in enumerate(shown) if each.startswith("surprisal of each token"))
    words, levels = shown[title + 1 : title + 3]
    assert words.split() == [
        "</s>",
        "The",
        *(f"␣{word}" for word in ["quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]),
    ]
    places = [words.index(each) for each in words.split()]
    assert [levels[place : place + 1].strip() for place in places] == ["", "█", *"▁▁▁▁▁▁▁▁"]
    long = lines(run_cli("logits", "The quick brown fox jumps over the lazy dog. " * 8))
    assert len(long) <= LINES
    assert "; the first " in next(each for each in long if each.startswith("surprisal of each token"))
