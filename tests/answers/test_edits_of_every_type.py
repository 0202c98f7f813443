"""The laws of edits on every type: what changes nothing leaves every bit, and what is recorded is the edited value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

import txinspect
from tests.making.models import FEW, Task, buildable_types, by_type, save_tiny
from txinspect import InspectError
from txinspect.anatomy.families import READS_AGAIN
from txinspect.model import Model

pytestmark = pytest.mark.pairs

TEXT, OTHER = "abc abd", "xyz xyw"


Logits = Callable[..., Any]


def logits_of(model: Model) -> Logits:
    """What gives a model's logits; of an encoder–decoder the decoder's text is given."""
    stages = [each.name for each in model.stages().report.stages if each.available]
    given = {"decoder": "ab"} if any(name.startswith("decoder.") for name in stages) else {}

    def logits(*edits: str, text: str = TEXT, stage: str = "logits") -> Any:
        return model.run(text, stages=(stage,), edits=edits, **given)

    return logits


def places(model: Model) -> list[str]:
    """A stage of some kinds in the first layer."""
    stages = [each for each in model.stages().report.stages if each.available]
    names = [each.name for each in stages if each.name.startswith(("layers.0.", "decoder.layers.0."))]
    wanted = (".weights", ".context", "mlp.output", "mixer.output")
    return [name for part in wanted for name in names if name.endswith(part)][:4]


def _laws(task: Task, kind: str, folder: Path) -> None:
    model = txinspect.load(str(save_tiny(kind, folder / kind, task=task)))
    run, file = logits_of(model), folder / "own.safetensors"
    plain = run()["logits"].tobytes()
    tried = 0
    for place in places(model):
        try:
            assert run(f"{place} * 1")["logits"].tobytes() == plain, place
        except InspectError:
            continue  # what cannot be recorded or changed here is a sentence
        tried += 1
        if tried > 1:
            continue
        own = run(stage=place)
        save_file({"own": own.tensor(own.keys()[0]).contiguous()}, file)
        if len(own.keys()) == 1:
            assert run(f"{place} = {file}:own")["logits"].tobytes() == plain, place
        edited = run(f"{place} * 0", stage=place)
        assert not edited[edited.keys()[0]].any(), place
    assert tried or not places(model)


@pytest.mark.parametrize("kind", by_type(buildable_types(), FEW, pytest.mark.sweeps))
def test_laws_of_causal_models(kind: str, tmp_path: Path) -> None:
    _laws("causal-lm", kind, tmp_path)


@pytest.mark.parametrize("kind", by_type(buildable_types("masked-lm"), ("bert",), pytest.mark.sweeps))
def test_laws_of_encoders(kind: str, tmp_path: Path) -> None:
    _laws("masked-lm", kind, tmp_path)


@pytest.mark.parametrize("kind", by_type(buildable_types("seq2seq-lm"), ("marian",), pytest.mark.sweeps))
def test_laws_of_encoder_decoders(kind: str, tmp_path: Path) -> None:
    _laws("seq2seq-lm", kind, tmp_path)


@pytest.mark.parametrize("kind", by_type(buildable_types(), FEW, pytest.mark.sweeps))
def test_the_input_of_layer_0_is_all_that_later_layers_read(kind: str, tmp_path: Path) -> None:
    """From another text of the same length it gives that text's logits, bit for bit, but for types that are listed."""
    logits = logits_of(txinspect.load(str(save_tiny(kind, tmp_path / kind))))
    try:
        made = logits(f"layers.0.input = text:{OTHER}")["logits"]
    except InspectError as error:
        pytest.skip(str(error))
    same = made.tobytes() == logits(text=OTHER)["logits"].tobytes()
    assert same is (kind not in READS_AGAIN)
