"""The laws of edits on every type: what changes nothing leaves every bit, and what is recorded is the edited value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

import txinspect
from tests.making.models import FEW, Task, buildable_types, by_type, save_tiny
from txinspect import InspectError
from txinspect.anatomy.families import READS_AGAIN
from txinspect.model import Model

TEXT, OTHER = "abc abd", "xyz xyw"


def options(task: Task) -> dict[str, Any]:
    return {"decoder": "ab"} if task == "seq2seq-lm" else {}


def logits(model: Model, task: Task, *edits: str, text: str = TEXT) -> Any:
    return model.run(text, stages=("logits",), edits=edits, **options(task))["logits"]


def places(model: Model) -> list[str]:
    """A stage of each kind that there is, in the first layer and in the last."""
    stages = [each for each in model.stages().report.stages if each.available]
    names = [each.name for each in stages if each.name.startswith(("layers.0.", "decoder.layers.0."))]
    wanted = ("attention.weights", "attention.scores", "attention.context", "mlp.output", "mixer.output", ".output")
    return [name for part in wanted for name in names if name.endswith(part)][:8]


def _laws(task: Task, kind: str, folder: Path) -> None:
    model = txinspect.load(str(save_tiny(kind, folder / kind, task=task)))
    plain = logits(model, task)
    tried = 0
    for place in places(model):
        try:
            once = logits(model, task, f"{place} * 1")
        except InspectError:
            continue  # what cannot be recorded or changed here is a sentence
        tried += 1
        assert once.tobytes() == plain.tobytes(), place
        own = model.run(TEXT, stages=(place,), **options(task))
        save_file({"own": own.tensor(own.keys()[0]).contiguous()}, folder / "own.safetensors")
        if len(own.keys()) == 1:
            again = logits(model, task, f"{place} = {folder / 'own.safetensors'}:own")
            assert again.tobytes() == plain.tobytes(), place
        edited = model.run(TEXT, stages=(place,), edits=(f"{place} * 0",), **options(task))
        assert not edited[edited.keys()[0]].any(), place
    assert tried or not places(model)


@pytest.mark.parametrize("kind", by_type(buildable_types(), FEW))
def test_laws_of_causal_models(kind: str, tmp_path: Path) -> None:
    _laws("causal-lm", kind, tmp_path)


@pytest.mark.parametrize("kind", by_type(buildable_types("masked-lm"), ("bert",)))
def test_laws_of_encoders(kind: str, tmp_path: Path) -> None:
    _laws("masked-lm", kind, tmp_path)


@pytest.mark.parametrize("kind", by_type(buildable_types("seq2seq-lm"), ("marian",)))
def test_laws_of_encoder_decoders(kind: str, tmp_path: Path) -> None:
    _laws("seq2seq-lm", kind, tmp_path)


@pytest.mark.parametrize("kind", by_type(buildable_types(), FEW))
def test_the_input_of_layer_0_is_all_that_later_layers_read(kind: str, tmp_path: Path) -> None:
    """From another text of the same length it gives that text's logits, bit for bit, but for types that are listed."""
    model = txinspect.load(str(save_tiny(kind, tmp_path / kind)))
    try:
        made = logits(model, "causal-lm", f"layers.0.input = text:{OTHER}")
    except InspectError as error:
        pytest.skip(str(error))
    same = made.tobytes() == logits(model, "causal-lm", text=OTHER).tobytes()
    assert same is (kind not in READS_AGAIN)
