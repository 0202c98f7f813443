"""Every command once, on both bundled models, drawn and as JSON, and one error of each: `pytest -m smoke`."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from typer.testing import Result

from tests.conftest import BESIDE
from tests.making.bad_input import sentence
from txinspect import commands
from txinspect.cli.app import app
from txinspect.commands.schema import schema

jsonschema: Any = import_module("jsonschema")  # it carries no types

pytestmark = pytest.mark.smoke

Run = Callable[..., Result]

MODELS = ("opt-mini", "transformer-mini")
TEXT = "The old fox jumps"

ASKED: dict[str, tuple[str, ...]] = {
    "tokenize": (TEXT,),
    "tree": (),
    "stages": (),
    "diagram": (),
    "params": (),
    "embed": (TEXT,),
    "pos": (TEXT,),
    "attn": (TEXT, "--layer", "0"),
    "logits": (TEXT,),
    "lens": (TEXT,),
    "heads": (TEXT,),
    "diff": (TEXT, "--against-attn", "eager"),
    "run": (TEXT, "-s", "logits"),
    "ablate": (TEXT, "--with", "mean"),
    "patch": (TEXT, "The new fox jumps", "--force"),
    "attribute": (TEXT,),
    "why": (TEXT,),
    "steer": ("make", "--toward", "a happy day", "--away", "a sad day", "--layer", "1"),
    "page": (TEXT,),
    "lesson": (TEXT,),
    "plan": (TEXT, "-s", "logits"),
}
"""What each command about a model is asked."""

WITHOUT_A_MODEL: dict[str, tuple[str, ...]] = {"models": (), "env": (), "schema": ("attn",), "help": ("attn",)}

WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "tokenize": (("--file", "./none.txt"), "none.txt cannot be read: No such file or directory"),
    "tree": (("--depth", "x"), "--depth 'x' is not a whole number"),
    "stages": (("./none",), "there is no file or directory './none'"),
    "diagram": (("--seq", "0"), "--seq 0 is out of range: give 1 to 4,096"),
    "models": (("--none",), "no such option: --none"),
    "params": (("./none",), "there is no file or directory './none'"),
    "embed": (("--mask", "x"), "the tokenizer of 'opt-mini' has no mask token"),
    "pos": (("-m", "./none"), "there is no file or directory './none'"),
    "attn": (("--head", "99"), "head 99 is out of range: this layer has heads 0 to 3"),
    "logits": (("--top-k", "0"), "--top-k 0 lists no token: give 1 or more"),
    "lens": (("--layer", "99"), "layer 99 is out of range: 'opt-mini' has layers 0 to 3"),
    "heads": (("--layer", "99"), "layer 99 is out of range: 'opt-mini' has layers 0 to 3"),
    "diff": ((), "there is nothing to compare with"),
    "run": (("-s", "none"), "'opt-mini' has no stage or module 'none'"),
    "ablate": ((), "--with is missing"),
    "patch": (("A", "B", "--metric", "x"), "--metric 'x' is unknown"),
    "attribute": (("--neurons", "-1"), "--neurons -1 lists none"),
    "why": (("-k", "0"), "--top-k 0 names no part"),
    "steer": (("make",), "--toward is missing"),
    "page": (("--part", "none"), "--part 'none' is unknown: give logits, attn, heads"),
    "lesson": (("--step", "12"), "--step 12 is out of range: the lesson has steps 1 to 11"),
    "plan": (("-s", "none"), "'opt-mini' has no stage or module 'none'"),
    "env": (("--none",), "no such option: --none"),
    "schema": (("none",), "'none' has no report"),
    "serve": (("--idle", "soon"), "--idle 'soon' is no time"),
    "shell": (("-m", "./none"), "there is no file or directory './none'"),
    "mcp": (("--allow", "/no/such"), "--allow '/no/such' is no folder"),
    "help": (("none",), "'none' is neither a command nor a page of the manual"),
}
"""An error of each command, and what its sentence holds."""


def test_every_command_is_here() -> None:
    names = [str(command.name) for command in app.registered_commands]
    assert sorted(names) == sorted(WRONG) == sorted([*ASKED, *WITHOUT_A_MODEL, "serve", "shell", "mcp"])  # which stay


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("command", ASKED)
def test_a_command_about_a_model(command: str, model: str, run_cli: Run) -> None:
    asked = (*ASKED[command], "-m", model, *BESIDE.get((command, model), []))
    drawn = run_cli(command, *asked)
    assert (drawn.exit_code, drawn.stderr) == (0, "")
    assert drawn.stdout.startswith(f"{model} · ")
    plain = run_cli(command, *asked, "--json")
    assert (plain.exit_code, plain.stderr) == (0, "")
    report = json.loads(plain.stdout)
    jsonschema.validate(report, schema(command), jsonschema.Draft202012Validator)
    assert report["model"]["name"] == model


@pytest.mark.parametrize("command", WITHOUT_A_MODEL)
def test_a_command_that_needs_none(command: str, run_cli: Run) -> None:
    drawn = run_cli(command, *WITHOUT_A_MODEL[command])
    assert (drawn.exit_code, drawn.stderr) == (0, "")
    assert drawn.stdout
    if command in ("models", "env"):
        plain = run_cli(command, "--json")
        assert (plain.exit_code, plain.stderr) == (0, "")
        assert plain.stdout != drawn.stdout
        report = json.loads(plain.stdout)
        if command in commands.NAMES:
            jsonschema.validate(report, schema(command), jsonschema.Draft202012Validator)


@pytest.mark.parametrize("command", WRONG)
def test_an_error_is_one_sentence(command: str, run_cli: Run) -> None:
    arguments, says = WRONG[command]
    result = run_cli(command, *arguments)
    assert says in sentence(result, result.exit_code)
    assert result.exit_code in (1, 2)
