"""`attribute` beside other options: each computes or is refused by name, on a decoder, an encoder and both together."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

import txinspect
from tests.making.models import save_tiny
from txinspect.answers import attribute

pytestmark = pytest.mark.sweeps

Run = Callable[..., Result]

FRANCE = "The capital of France is"

TRANSFORMER = ("-m", "transformer-mini", "--decoder", "a")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("bert", tmp_path_factory.mktemp("bert") / "bert", task="masked-lm")


def asked(run_cli: Run, *arguments: str) -> Any:
    result = run_cli("attribute", *arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, ""), result.stderr
    return json.loads(result.stdout)


def of_model(which: str, encoder: Path) -> tuple[str, ...]:
    return {
        "decoder": (FRANCE,),
        "encoder": ("abc abd abe", "-m", str(encoder), "--position", "2"),
        "both": ("ein Hund", *TRANSFORMER),
    }[which]


@pytest.mark.parametrize("which", ["decoder", "encoder", "both"])
@pytest.mark.parametrize(
    "options",
    [
        ("--neurons", "2"),
        ("--tokens", "knockout"),
        ("--tokens", "gradients"),
        ("--wrong", ""),
        ("--dtype", "bfloat16"),
        ("--dtype", "float16", "--tokens", "knockout"),
        ("--edit", "layers.0.mlp.output = 0"),
        ("--edit", "layers.0.attention.context[head=1] * 2", "--tokens", "knockout"),
        ("--edit", "layers.0.attention.scores[key=0] * 2", "--tokens", "gradients", "--neurons", "1"),
        ("--max-tokens", "4"),
        ("--no-special",),
    ],
)
def test_options_that_meet(which: str, options: tuple[str, ...], encoder: Path, run_cli: Run) -> None:
    own = tuple(each.replace("layers.", "decoder.layers.") if which == "both" else each for each in options)
    report = asked(run_cli, *of_model(which, encoder), *own)
    assert abs(report["remainder"]) <= report["tolerance"]
    assert sum(part["value"] for part in report["parts"]) == pytest.approx(report["total"], abs=1e-9)
    assert len(report["neurons"]) == (int(own[own.index("--neurons") + 1]) if "--neurons" in own else 0)
    assert (report["by_token"] is None) == ("--tokens" not in own)
    assert len(report["edits"]) == ("--edit" in own)
    if "--wrong" in own:
        assert report["wrong"] is None
        assert report["logit"] == report["target_logit"]


def test_an_edit_is_made_before_the_sum() -> None:
    model = txinspect.load("opt-mini", dtype="float32")
    edit = "layers.1.attention.context[head=1] = 0"
    report = model.attribute(FRANCE, target=" Paris", wrong=" Moscow", edits=(edit,)).report
    (head,) = [part for part in report.parts if (part.layer, part.head) == (1, 1)]
    assert head.value == 0
    row = model.run(FRANCE, stages=("logits",), edits=(edit,))["logits"][0, -1].astype("float64")
    assert report.logit == pytest.approx(row[report.target.id] - row[report.wrong.id], abs=1e-4)
    assert report.notes[0].startswith("Edited: ")


def test_the_model_is_as_it_was(run_cli: Run) -> None:
    model = txinspect.load("opt-mini", dtype="float32")
    before = model.run(FRANCE, stages=("logits",))["logits"]
    for options in ({}, {"tokens": "gradients"}, {"tokens": "knockout"}, {"neurons": 3}):
        model.attribute(FRANCE, **options)
    assert (model.run(FRANCE, stages=("logits",))["logits"] == before).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--save", "a.npz"), "no such option: --save"),
        (("--check",), "no such option: --check"),
        (("--target", ""), "--target '' is empty"),
        (("--target", " Paris", "--wrong", " Paris"), "--target and --wrong are the same token"),
        (("--neurons", "-1"), "--neurons -1 lists none"),
        (("--tokens", "none"), "--tokens 'none' is unknown: give knockout or gradients"),
        (("-k", "0"), "--top-k 0 lists no part"),
    ],
)
def test_wrong_usage(options: tuple[str, ...], said: str, run_cli: Run) -> None:
    result = run_cli("attribute", FRANCE, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--position", "99"), "position 99 is out of range"),
        (("--target", "no token"), "--target 'no token' is"),
        (("--experts",), "this model has none"),
        (("--8bit",), "is quantized (8bit)"),
        (("-m", "transformer-mini", "--edit", "decoder.layers.0.mlp.output = 0"), "give the decoder's text"),
    ],
)
def test_what_cannot_be_done(options: tuple[str, ...], said: str, run_cli: Run) -> None:
    result = run_cli("attribute", "Hund", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_encoder_needs_a_mask(encoder: Path, run_cli: Run) -> None:
    result = run_cli("attribute", "abc abd", "-m", str(encoder))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "fills masks, and the text has none: mask a word by --mask, or give --position" in result.stderr
    report = asked(run_cli, "abc abd", "-m", str(encoder), "--mask", "2")
    assert report["position"] == 2


def test_a_sum_that_does_not_hold_is_exit_code_3(run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribute, "EXACT", 0.0)
    result = run_cli("attribute", FRANCE, "--dtype", "float32", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["checks"][0]["passed"] is False
    assert "a check did not hold: the parts add up to" in result.stderr
    monkeypatch.setattr(attribute, "STEPS", 0)
    result = run_cli("attribute", FRANCE)
    assert result.exit_code == 3
    assert "give --dtype float32" in result.stderr
    assert "rounding" in result.stdout
    report = json.loads(run_cli("attribute", FRANCE, "--json").stdout)
    assert report["checks"][0]["detail"].endswith("; give --dtype float32")
    assert "Half precision rounds: --dtype float32 leaves less over." in report["notes"]


def test_json_table_and_csv_say_the_same(run_cli: Run, tmp_path: Path) -> None:
    report = asked(run_cli, FRANCE)
    run_cli("attribute", FRANCE, "--csv", str(tmp_path / "parts.csv"))
    rows = list(csv.DictReader((tmp_path / "parts.csv").read_text().splitlines()))
    assert [float(row["value"]) for row in rows] == [part["value"] for part in report["parts"]]
    assert {row["kind"] for row in rows} >= {"embedding", "positions", "head", "mlp", "attention bias", "norm bias"}
    shown = run_cli("attribute", FRANCE, "--table").stdout
    assert sum(line.startswith("head ") for line in shown.splitlines()) == 16
    assert f"sum {report['total']:.5g}, the model's logit {report['logit']:.5g}: rounding" in shown
    assert "others" not in shown
    few = run_cli("attribute", FRANCE, "-k", "3").stdout
    assert sum(line.startswith(("head ", "layer ")) for line in few.splitlines()) == 3
    assert f"{len(report['parts']) - 3} others" in few
