"""Every two options of a vector that is made, and of one that is tried, on a decoder, an encoder and an
encoder–decoder: it computes, or names both."""

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
    "both": ("the happy fox", "the sad fox"),
}

LOADED: dict[str, tuple[str, ...]] = {
    "--no-special": (),
    "--max-tokens": ("4",),
    "--pair": ("big face",),
    "--mask": ("1",),
    "--ids": ("5,9",),
    "--chat": (),
    "--decoder": ("la vulpo",),
    "--check": (),
    "--dtype": ("bfloat16",),
    "--8bit": (),
    "--dry-run": (),
    "--new": ("3",),
    "--seed": ("1",),
}
"""What both words have beside their own."""

MAKE: dict[str, tuple[str, ...]] = {
    **LOADED,
    "--layer": ("0",),
    "--stage": ("{stage}",),
    "--over": ("all",),
    "--method": ("pca",),
    "--pairs": ("{pairs}",),
    "-o": ("{out}",),
    "--vector": ("{vector}",),
    "--scales": ("1",),
}

TRY: dict[str, tuple[str, ...]] = {
    **LOADED,
    "--layer": ("0",),
    "--stage": ("{stage}",),
    "--scales": ("-1,1",),
    "--from": ("cvector-generator",),
    "--over": ("all",),
    "-o": ("{out}",),
}

STAGE = {"decoder": "layers.1.output", "encoder": "layers.1.output", "both": "encoder.layers.1.output"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder: Path = tmp_path_factory.mktemp("kinds")
    made = {"decoder": decoder_in(folder / "decoder"), "encoder": encoder_in(folder / "encoder")}
    return {**{kind: str(each) for kind, each in made.items()}, "both": "transformer-mini"}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    pairs = tmp_path / "pairs"
    pairs.write_text("a bad cab\ta big cab\nfed a bad\tfed a big\n", encoding="utf-8")
    return {"pairs": str(pairs), "out": str(tmp_path / "out.npz"), "vector": str(tmp_path / "vector.safetensors")}


def filled(options: tuple[str, ...], table: dict[str, tuple[str, ...]], files: dict[str, str]) -> list[str]:
    return [part.format(**files) for each in options for part in (each, *table[each])]


def made(kind: str, options: tuple[str, ...], model: str, files: dict[str, str], run_cli: Run) -> Result:
    """What is said of a vector that is made with some options."""
    sides = ("toward", "away") if "--pairs" not in options else ()
    twice = 2 if "--method" in options else 1
    texts = [
        part
        for _ in range(twice)
        for side, text in zip(sides, TEXTS[kind], strict=False)
        for part in (f"--{side}", text)
    ]
    place = [] if {*options} & {"--layer", "--stage"} else ["--stage", STAGE[kind]]
    values = {**files, "stage": STAGE[kind]}
    return run_cli("steer", "make", *texts, *place, *filled(options, MAKE, values), "-m", model, "--json")


def tried(kind: str, options: tuple[str, ...], model: str, files: dict[str, str], run_cli: Run) -> Result:
    """What is said of a vector that is tried with some options."""
    text = [] if "--ids" in options else [TEXTS[kind][0]]
    few = [] if "--new" in options else ["-n", "2"]
    values = {**files, "stage": STAGE[kind]}
    given = filled(options, TRY, values)
    return run_cli("steer", "try", *text, "--vector", files["vector"], *few, *given, "-m", model, "--json")


def fault_of(pair: tuple[str, str], result: Result, refused: set[str], key: str) -> str | None:
    """What is wrong with what two options come to; None for numbers, or for a sentence that names both."""
    if result.exit_code == 0:
        return None if "--dry-run" in pair or json.loads(result.stdout)[key] else "nothing"
    said: str = result.stderr
    is_one_sentence = not result.stdout and said.count("\n") == 1 and "unexpected" not in said
    names = [each.replace("-o", "--save") for each in pair]
    names_them = bool({*pair} & refused) or all(each in said for each in names)
    return None if is_one_sentence and names_them else said


MAKE_ALONE = {
    "decoder": {
        "--pair",
        "--mask",
        "--ids",
        "--chat",
        "--decoder",
        "--check",
        "--vector",
        "--scales",
        "--new",
        "--seed",
    },
}
MAKE_ALONE |= {"encoder": MAKE_ALONE["decoder"], "both": (MAKE_ALONE["decoder"] - {"--decoder"}) | {"--layer"}}

TRY_ALONE = {
    "decoder": {"--decoder", "--check", "--over", "-o"},
    "encoder": {*TRY},
    "both": {"--decoder", "--check", "--over", "-o", "--pair", "--mask", "--chat"},
}
"""What each kind refuses whatever stands beside it."""


@pytest.mark.parametrize("kind", TEXTS)
def test_every_two_options_of_making(kind: str, models: dict[str, str], files: dict[str, str], run_cli: Run) -> None:
    alone = {each: made(kind, (each,), models[kind], files, run_cli) for each in MAKE}
    refused = {each for each, result in alone.items() if result.exit_code}
    wrong = {}
    for pair in itertools.combinations(MAKE, 2):
        if fault := fault_of(pair, made(kind, pair, models[kind], files, run_cli), refused, "vectors"):
            wrong[" ".join(pair)] = fault
    assert not wrong, json.dumps(wrong, indent=1)
    assert refused == MAKE_ALONE[kind], {each: alone[each].stderr for each in refused ^ MAKE_ALONE[kind]}


@pytest.mark.parametrize("kind", TEXTS)
def test_every_two_options_of_trying(kind: str, models: dict[str, str], files: dict[str, str], run_cli: Run) -> None:
    write = made(kind, ("-o",), models[kind], {**files, "out": files["vector"]}, run_cli)
    assert write.exit_code == 0, write.stderr
    alone = {each: tried(kind, (each,), models[kind], files, run_cli) for each in TRY}
    refused = {each for each, result in alone.items() if result.exit_code}
    wrong = {}
    for pair in itertools.combinations(TRY, 2):
        if fault := fault_of(pair, tried(kind, pair, models[kind], files, run_cli), refused, "tries"):
            wrong[" ".join(pair)] = fault
    assert not wrong, json.dumps(wrong, indent=1)
    assert refused == TRY_ALONE[kind], {each: alone[each].stderr for each in refused ^ TRY_ALONE[kind]}
