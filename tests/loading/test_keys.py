"""Tensors that a checkpoint holds and the model has no place for: what transformers itself reports, and no more."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, MusicgenForCausalLM

from tests.making.checkpoints import change_config, change_weights, to_shards, to_torch
from tests.making.models import REPRESENTATIVE, save_tiny
from txinspect import AttnQuery, EmbedQuery, ModelChoice, PlanQuery, RunQuery, StagesQuery, TreeQuery, inspect
from txinspect.anatomy.families import LAYER_LISTS
from txinspect.answers.reporting import surplus_notes
from txinspect.loading.subject import Subject, load_subject
from txinspect.loading.weights import fit
from txinspect.texts.opened import Opened

LAYER = re.compile(rf"((?:^|.*?\.)(?:{'|'.join(LAYER_LISTS)})\.)(\d+)(\..*)")
QUANTIZED = {"quant_method": "compressed-tensors", "format": "dense", "config_groups": {}}


def subject_of(folder: Path) -> Subject:
    choice = ModelChoice(name=str(folder))
    return load_subject(Opened(choice), lambda _: None)


def names_in(folder: Path) -> list[str]:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return list(file.keys())


def reported(folder: Path) -> set[str]:
    """What transformers finds unexpected, by the names in the model that it gives the tensors."""
    config = AutoConfig.from_pretrained(folder)
    if config.model_type == "musicgen":  # see BUILT_FROM_PART
        loaded: Any = MusicgenForCausalLM.from_pretrained(folder, config=config.decoder, output_loading_info=True)
    else:
        loaded = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    return set(loaded[1]["unexpected_keys"])


def found(folder: Path) -> set[str]:
    """The same by txinspect."""
    subject, names = subject_of(folder), names_in(folder)
    places = fit.destinations(subject, names)
    return {becomes for name in fit.surplus(subject, names) for becomes in places[name].tensors}


def one_layer_more(tensors: dict[str, Tensor]) -> None:
    """The last layer once more, under the next number."""
    matches = [match for name in tensors if (match := LAYER.fullmatch(name))]
    last = max(int(match[2]) for match in matches)
    for match in matches:
        if int(match[2]) == last:
            tensors[f"{match[1]}{last + 1}{match[3]}"] = tensors[match[0]].clone()


def stray(tensors: dict[str, Tensor]) -> None:
    tensors["stray.weight"] = torch.ones(3)


def with_old_buffers(tensors: dict[str, Tensor]) -> None:
    """What old checkpoints hold and transformers ignores without a word, where the model has such buffers."""
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    tensors["bert.embeddings.position_ids"] = torch.ones(1, 8)


@pytest.mark.parametrize("model_type", REPRESENTATIVE)
def test_a_clean_checkpoint_has_none(model_type: str, tmp_path: Path) -> None:
    folder = save_tiny(model_type, tmp_path, tokenizer=False)
    assert found(folder) == reported(folder) == set()
    assert surplus_notes(subject_of(folder), names_in(folder)) == []


@pytest.mark.parametrize("model_type", REPRESENTATIVE)
def test_what_is_surplus_is_what_transformers_says(model_type: str, tmp_path: Path) -> None:
    folder = save_tiny(model_type, tmp_path, tokenizer=False)
    for change in (one_layer_more, stray, with_old_buffers):
        change_weights(folder, change)
    unexpected = reported(folder)
    assert (
        "stray.weight" in {name.removeprefix("model.").removeprefix("transformer.") for name in unexpected}
        or unexpected
    )
    assert len(unexpected) > 1, "the layer is surplus, too"
    assert found(folder) == unexpected


@pytest.mark.parametrize(("model_type", "quiet"), [("llama", "inv_freq"), ("bert", "position_ids")])
def test_what_transformers_ignores_quietly_is_left_out(model_type: str, quiet: str, tmp_path: Path) -> None:
    folder = save_tiny(model_type, tmp_path, tokenizer=False)
    change_weights(folder, with_old_buffers)
    surplus = fit.surplus(subject_of(folder), names_in(folder))
    assert len(surplus) == 1
    assert quiet not in surplus[0]


# --- the note ---


EXTRA = "The checkpoint holds 16 tensors that config.json has no place for, such as model.decoder.layers.2.fc1.bias: "


def notes(folder: Path) -> dict[str, list[str]]:
    """The notes of every command."""
    choice = ModelChoice(name=str(folder))
    queries: dict[str, Any] = {
        "embed": EmbedQuery(model=choice),
        "attn": AttnQuery(model=choice),
        "run": RunQuery(model=choice, stages=("logits",)),
        "plan": PlanQuery(model=choice, of=EmbedQuery(model=choice)),
        "tree": TreeQuery(model=choice),
        "stages": StagesQuery(model=choice),
    }
    return {name: [note for note in inspect(query).notes if "no place" in note] for name, query in queries.items()}


STORES: dict[str, Callable[[Path], object]] = {"one file": lambda _: None, "shards": to_shards, "bin": to_torch}


@pytest.mark.parametrize("stored", STORES)
def test_every_command_that_reads_weights_or_headers_says_so(stored: str, model: Path) -> None:
    change_config(model, num_hidden_layers=2)
    STORES[stored](model)
    said = {command: found == [EXTRA + "they are ignored."] for command, found in notes(model).items()}
    assert said == {"embed": True, "attn": True, "run": True, "plan": True, "tree": True, "stages": False}


def test_one_stray_tensor(model: Path) -> None:
    change_weights(model, stray)
    said = "The checkpoint holds 1 tensor that config.json has no place for, stray.weight: it is ignored."
    assert notes(model)["run"] == notes(model)["tree"] == [said]


def test_no_note_on_a_clean_checkpoint(model: Path) -> None:
    assert not any(notes(model).values())


def test_what_is_stored_beside_quantized_weights_is_no_surplus(model: Path) -> None:
    change_weights(model, lambda tensors: tensors.update({"model.decoder.layers.0.fc1.weight_scale": torch.ones(1)}))
    names = names_in(model)
    assert fit.surplus(subject_of(model), names) == ["model.decoder.layers.0.fc1.weight_scale"]
    subject = subject_of(model)
    subject.config.quantization_config = QUANTIZED
    assert fit.surplus(subject, names) == []
    assert json.loads((model / "config.json").read_text())["num_hidden_layers"] == 3
