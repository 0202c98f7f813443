"""Every two options of a patch, on a decoder, an encoder and an encoder–decoder: it computes, or names both."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.making.kinds import decoder_in, encoder_in

pytestmark = pytest.mark.sweeps

Run = Callable[..., Result]

TEXTS = {
    "decoder": ("a bad cab fed", "a big cab fed"),
    "encoder": ("a bad cab fed", "a big cab fed"),
    "both": ("the quick fox", "the old fox"),
}
ANSWERS = {"decoder": ("a", "b"), "encoder": ("a", "big"), "both": ("rapida", "maljuna")}
WORD = {"decoder": "cab", "encoder": "cab", "both": "fox"}

OPTIONS: dict[str, tuple[str, ...]] = {
    "--answer": ("{right}",),
    "--wrong": ("{wrong}",),
    "--metric": ("prob",),
    "--direction": ("both",),
    "--sweep": ("mlp",),
    "--layer": ("0",),
    "--head": ("1",),
    "--position": ("2",),
    "--at-word": ("{word}",),
    "--encoder": (),
    "--cross": (),
    "--subject": ("{word}",),
    "--noise": ("2",),
    "--seed": ("1",),
    "--pair": ("big face",),
    "--mask": ("{word}",),
    "--ids": ("{ids}",),
    "--chat": (),
    "--max-tokens": ("4",),
    "--no-special": (),
    "--decoder": ("la vulpo",),
    "--dtype": ("bfloat16",),
    "--8bit": (),
    "--dry-run": (),
}

ASIDE = {"encoder": ["--mask", "fed"], "both": ["--decoder", "la vulpo"], "decoder": []}
"""What a kind is asked with in any case."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder: Path = tmp_path_factory.mktemp("kinds")
    made = {"decoder": decoder_in(folder / "decoder"), "encoder": encoder_in(folder / "encoder")}
    return {**{kind: str(each) for kind, each in made.items()}, "both": "transformer-mini"}


def asked(kind: str, options: tuple[str, ...], model: str, run_cli: Run) -> Result:
    """What a patch with some options says."""
    clean, corrupt = TEXTS[kind]
    right, wrong = ANSWERS[kind]
    read = json.loads(run_cli("tokenize", clean, "-m", model, "--json", *({"--no-special"} & {*options})).stdout)[
        "input"
    ]["input_ids"][0]
    values = {"right": right, "wrong": wrong, "word": WORD[kind], "ids": ",".join(map(str, read))}
    given = [part.format(**values) for each in options for part in (each, *OPTIONS[each])]
    aside = [] if {*ASIDE[kind]} & {*options} else ASIDE[kind]
    texts = [*([] if "--ids" in options else [clean]), *([] if "--subject" in options else [corrupt])]
    return run_cli("patch", *texts, *given, *aside, "-m", model, "--force", "--json")


ALONE = {
    "decoder": {"--encoder", "--cross", "--decoder", "--noise", "--seed"},
    "encoder": {"--encoder", "--cross", "--decoder", "--noise", "--seed", "--max-tokens"},
    "both": {"--at-word", "--noise", "--seed", "--pair", "--mask", "--chat"},
}
"""What each kind refuses whatever stands beside it."""


def fault_of(pair: tuple[str, str], result: Result, refused: set[str]) -> str | None:
    """What is wrong with what two options come to; None for cells, or for a sentence that names both."""
    if result.exit_code == 0:
        return None if "--dry-run" in pair or json.loads(result.stdout)["cells"] else "no cells"
    said: str = result.stderr
    is_one_sentence = not result.stdout and said.count("\n") == 1 and "unexpected" not in said
    names_them = bool({*pair} & refused) or all(each in said for each in pair)
    return None if is_one_sentence and names_them else said


@pytest.mark.parametrize("kind", TEXTS)
def test_every_two_options(kind: str, models: dict[str, str], run_cli: Run) -> None:
    alone = {each: asked(kind, (each,), models[kind], run_cli) for each in OPTIONS}
    refused = {each for each, result in alone.items() if result.exit_code}
    wrong = {}
    for pair in itertools.combinations(OPTIONS, 2):
        if fault := fault_of(pair, asked(kind, pair, models[kind], run_cli), refused):
            wrong[" ".join(pair)] = fault
    said = {each: alone[each].stderr for each in refused}
    assert not wrong, json.dumps(wrong, indent=1)
    assert refused == ALONE[kind], said
