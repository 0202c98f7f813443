"""What is suggested for an option that a command does not have: by meaning, or by a slip of the hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import typer
from typer.testing import Result

from txinspect.cli import suggesting
from txinspect.cli.app import app
from txinspect.cli.suggesting import suggestion

Run = Callable[..., Result]


def said(result: Result) -> str:
    """The one sentence of wrong usage."""
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("txinspect: no such option: ").partition("; see ")[0]


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        # Other tools' words
        ("attn --layers 0", "--layer"),
        ("attn --block 0", "--layer"),
        ("attn --tokens 3", "--position"),
        ("logits --tokens 3", "--position"),
        ("logits --topk 3", "--top-k"),
        ("lens --k 3", "--top-k"),
        ("logits --n 3", "--new"),
        ("logits --max_new_tokens 3", "--new"),
        ("attn --prompt hi", "TEXT, which stands by itself"),
        ("attn --text hi", "TEXT, which stands by itself"),
        ("attn --output x.npz", "--save"),
        ("attn -o x.npz", "--save"),
        ("attn --format json", "--json"),
        ("attn --format=json", "--json"),
        ("attn --load-in-8bit", "--8bit"),
        ("attn --load_in_4bit", "--4bit"),
        ("attn --quantize", "--8bit or --4bit"),
        ("attn --fp16", "--dtype float16"),
        ("tree --half", "--dtype float16"),
        ("attn --torch_dtype bf16", "--dtype"),
        ("attn --cpu", "--device cpu"),
        ("attn --gpu", "--device cuda"),
        ("attn --model_name x", "--model"),
        ("tree --checkpoint x", "--model"),
        ("attn --local-files-only", "--offline"),
        ("attn --debug", "--verbose"),
        ("attn --no-color", "--color never"),
        # Other commands' words
        ("run --layer 0", "--stage"),
        ("run -l 0", "--stage"),
        ("attn --stage logits", "--layer"),
        ("params --against x", "--diff"),
        ("diff --diff x", "--against"),
        ("params --params x", "--param"),
        ("tree --param", "--params"),
        # Slips
        ("attn --leyer 0", "--layer"),
        ("attn --laeyr 0", "--layer"),
        ("attn --Layer 0", "--layer"),
        ("embed --vlues", "--values"),
        ("attn --overwirte", "--overwrite"),
        ("attn --overw", "--overwrite"),
        ("attn --hepl", "--help"),
        ("logits --top_k 3", "--top-k"),
    ],
)
def test_what_was_meant(line: str, meant: str, run_cli: Run) -> None:
    assert said(run_cli(*line.split())) == f"{line.split()[1].partition('=')[0]} (did you mean {meant}?)"


@pytest.mark.parametrize(
    ("line", "who"),
    [
        ("attn -k 3", "logits, lens, attribute, why have"),
        ("attn --top-k 3", "logits, lens, attribute, why have"),
        ("embed --layer 0", "attn, lens, heads, ablate, patch, steer have"),
        ("embed --head 0", "attn, ablate, patch have"),
        ("tokenize --8bit", "tree, stages, diagram and 16 more have"),
    ],
)
def test_what_only_others_have(line: str, who: str, run_cli: Run) -> None:
    assert said(run_cli(*line.split())) == f"{line.split()[1]}, which {who}"


@pytest.mark.parametrize(
    "line", ["attn --gif", "attn -x", "attn -K 3", "attn --max 3", "attn --bananas", "schema --half", "models --cpu"]
)
def test_of_what_means_nothing_here_nothing_is_said(line: str, run_cli: Run) -> None:
    assert said(run_cli(*line.split())) == line.split()[1]


@cache
def spellings() -> dict[str, set[str]]:
    """The options of each command."""
    group: Any = typer.main.get_command(app)
    return {name: {each for part in group.built(name).params for each in part.opts} for name in group.commands}


def test_what_is_suggested_is_an_option_of_some_command() -> None:
    ours = set().union(*spellings().values()) | {"TEXT"}
    meant = {word for phrase in suggesting._MEANT for word in phrase.replace(",", "").split() if "--" in word}
    assert meant - ours == set()


def test_a_word_has_one_meaning() -> None:
    typed = [word for words in suggesting._MEANT.values() for word in words.split()]
    twice = {word for word in typed if typed.count(word) > 1}
    assert twice == set()


@pytest.mark.parametrize("letter", "abcdefghijklmnopqrstuvwxyz")
def test_a_letter_is_matched_by_no_other_letter(letter: str) -> None:
    own = [f"-{each}" for each in "abcdefghijklmnopqrstuvwxyz" if each != letter]
    assert suggestion(f"-{letter}", own) is None


@pytest.mark.parametrize(
    ("typed", "meant", "slips"),
    [
        ("a", "a", 0),
        ("layer", "leyer", 1),
        ("layer", "layr", 1),
        ("layer", "alyer", 1),
        ("", "abc", 3),
        ("ab", "ba", 1),
    ],
)
def test_slips_are_counted(typed: str, meant: str, slips: int) -> None:
    assert suggesting._slips(typed, meant) == suggesting._slips(meant, typed) == slips
