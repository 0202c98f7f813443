"""Sweeps compute only what follows the first layer that is changed: with the same numbers, or not at all."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

import txinspect
from tests.making.models import FEW, buildable_types, by_type, save_tiny
from txinspect import InspectError
from txinspect.answers.sweeping import _OwnPass
from txinspect.forward.resuming import CannotResumeError, repeated
from txinspect.model import Model

pytestmark = pytest.mark.pairs


def effects(model: Model, **options: Any) -> list[tuple[float, float]]:
    report = model.ablate("abd abe", sweep="layers", baseline="zero", **options).report
    return [(part.delta, part.kl) for part in report.parts]


def watched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What each batch goes on from, as it comes."""
    resumed = _OwnPass.resumed
    edits: list[Any] = []

    def seen(own: _OwnPass, sets: Any) -> Any:
        edits.append(resumed(own, sets))
        return edits[-1]

    monkeypatch.setattr(_OwnPass, "resumed", seen)
    return edits


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has every row computed from the first layer on."""
    return lambda: monkeypatch.setattr(_OwnPass, "resumed", lambda _self, _sets: ())


@pytest.mark.parametrize("name", by_type(buildable_types(), FEW, pytest.mark.sweeps))
def test_what_is_computed_from_a_layer_on_is_what_all_of_it_is(name: str, tmp_path: Path, whole: Any) -> None:
    model = txinspect.load(str(save_tiny(name, tmp_path / name)), dtype="float32")
    resumed = None
    with suppress(InspectError):
        resumed = effects(model)
    whole()
    if resumed is None:
        with pytest.raises(InspectError):
            effects(model)
        return
    for found, other in zip(resumed, effects(model), strict=True):
        assert found == pytest.approx(other, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", ["opt", "llama", "gpt2", "gpt_neox", "mamba", "mixtral"])
def test_layers_before_it_pass_on_what_they_did(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = txinspect.load(str(save_tiny(name, tmp_path / name)), dtype="float32")
    edits = watched(monkeypatch)
    model.ablate("abd abe", sweep="layers", baseline="zero", layers=(-1,))
    ((edit,),) = edits
    assert len(edit.outputs) == model.tree().report.model.num_hidden_layers - 1


def test_what_cannot_be_passed_on_again() -> None:
    one = torch.arange(6.0).reshape(1, 2, 3)
    assert repeated((one, None, True), 2)[0].shape == (2, 2, 3)
    assert repeated({"hidden": one}, 3)["hidden"].shape == (3, 2, 3)
    for wrong in (torch.zeros(4, 3), torch.zeros(()), object(), [one], (one, torch.zeros(2, 1))):
        with pytest.raises(CannotResumeError):
            repeated(wrong, 2)


def test_a_pass_that_would_be_another_by_one_bit_is_run_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model = txinspect.load("opt-mini", dtype="float32")
    expected = effects(model)
    run = _OwnPass._run
    changed: list[bool] = []

    def otherwise(own: _OwnPass, plan: Any) -> Any:
        logits = run(own, plan)
        if plan.edits:
            changed.append(True)
            return torch.nextafter(logits, logits + 1)
        return logits

    monkeypatch.setattr(_OwnPass, "_run", otherwise)
    edits = watched(monkeypatch)
    for found, other in zip(effects(model, layers=(2, 3)), expected[2:], strict=True):
        assert found == pytest.approx(other, rel=1e-4, abs=1e-6)
    assert changed
    assert edits == [()]
