"""Tied tensors of which some are stored: what transformers loads with nothing missing is loaded, to the last bit.

The reference is a plain from_pretrained. By default a few types are taken, one at least of every kind of ties;
`-m conformance` takes every type that is built here.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from inspect import signature
from itertools import chain, combinations, islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PreTrainedModel, initialization

from tests.making.models import AUTO_CLASS, BUILT_FROM_PART, Task, buildable_types, save_tiny
from txinspect import InspectError, ModelChoice, RunQuery, TreeQuery, inspect
from txinspect.anatomy import locating
from txinspect.records import TensorsReport

OFTEN = {
    ("causal-lm", "llama"),  # two tensors
    ("masked-lm", "albert"),  # a weight and a bias
    ("masked-lm", "bert"),
    ("masked-lm", "roberta"),
    ("seq2seq-lm", "bart"),  # four, the head first
    ("seq2seq-lm", "t5"),  # four, the head last
    ("seq2seq-lm", "marian"),  # what is missing is excused, too
}
"""The types that are taken by default."""

MOST = 15
"""Checkpoints that are made of a type."""

TASKS: tuple[Task, ...] = ("causal-lm", "masked-lm", "seq2seq-lm")


def kinds() -> list[Any]:
    pairs = [(task, name) for task in TASKS for name in buildable_types(task)]
    return [
        pytest.param(*pair, id="-".join(pair), marks=() if pair in OFTEN else pytest.mark.conformance) for pair in pairs
    ]


@dataclass(frozen=True)
class Whole:
    """A checkpoint with every tensor of a model that ties some: all are stored, each with numbers of its own."""

    task: Task
    model_type: str
    folder: Path
    tensors: dict[str, Tensor]
    """What it stores."""
    groups: list[list[str]]
    """The tensors that are tied, by their names in the file, source first."""

    def keep(self, group: Collection[str], kept: Collection[str]) -> None:
        """Store only some of a group, and of the others the source alone, as transformers does."""
        left_out = {name for other in self.groups for name in other[1:] if other is not group}
        left_out |= set(group) - set(kept)
        tensors = {name: tensor for name, tensor in self.tensors.items() if name not in left_out}
        save_file(tensors, self.folder / "model.safetensors", {"format": "pt"})

    def subsets(self) -> Iterator[tuple[list[str], tuple[str, ...]]]:
        """Each group with each choice of some of it, the longest first."""
        for group in self.groups:
            sizes = range(len(group), 0, -1)
            yield from ((group, kept) for kept in chain.from_iterable(combinations(group, size) for size in sizes))


def whole(task: Task, model_type: str, folder: Path) -> Whole:
    """A tiny checkpoint whose config ties all that can be tied."""
    with initialization.no_tie_weights():
        save_tiny(model_type, folder, task=task)
    file = folder / "config.json"
    file.write_text(json.dumps(tying(json.loads(file.read_text()))))
    tensors = load_file(folder / "model.safetensors")
    model, missing = plain(task, model_type, folder)
    assert not missing
    with torch.device("meta"), initialization.meta_device_safe_creation_ops():
        tied = type(model)(model.config).all_tied_weights_keys
    groups: dict[str, list[str]] = defaultdict(list)
    for target, origin in tied.items():
        groups.setdefault(origin, [origin]).append(target)
    held = model.state_dict()
    by_file = [[stored_as(held[name], tensors) for name in group] for group in groups.values()]
    return Whole(task, model_type, folder, tensors, by_file)


def tying(config: dict[str, Any]) -> dict[str, Any]:
    """A config, with those in it, that ties."""
    inner = {name: tying(value) for name, value in config.items() if isinstance(value, dict) and "model_type" in value}
    return config | inner | {"tie_word_embeddings": True}


def stored_as(tensor: Tensor, tensors: dict[str, Tensor]) -> str:
    """The name under which a file has a tensor, by its numbers."""
    (name,) = (name for name, each in tensors.items() if torch.equal(each, tensor))
    return name


def plain(task: Task, model_type: str, folder: Path) -> tuple[PreTrainedModel, set[str]]:
    """A checkpoint in plain transformers, and what it says is missing."""
    factory, options = AUTO_CLASS[task], dict[str, Any]()
    if model_type in BUILT_FROM_PART:
        config = AutoConfig.from_pretrained(folder)
        factory, options["config"] = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], config.decoder
    model, info = factory.from_pretrained(folder, output_loading_info=True, **options)
    return model.eval(), set(info["missing_keys"])


def given(model: PreTrainedModel, report: TensorsReport) -> dict[str, Any]:
    """What a model is called with for the text of a report."""
    read = report.input
    inputs: dict[str, Any] = {
        "input_ids": torch.tensor(read.input_ids).repeat(locating.rows_of_ids(model), 1),
        "attention_mask": torch.tensor(read.attention_mask),
        "use_cache": False,
    }
    inputs["inputs"] = inputs["input_ids"]  # Perceiver's name for them
    if read.segments is not None:
        inputs["token_type_ids"] = torch.tensor(read.segments)
    if read.decoder is not None:
        inputs["decoder_input_ids"] = torch.tensor(read.decoder.input_ids)
    fields = signature(model.forward).parameters
    return {name: value for name, value in inputs.items() if name in fields}


def plain_logits(model: PreTrainedModel, report: TensorsReport) -> Tensor:
    locating.settle(model, len(report.input.input_ids[0]))
    with torch.no_grad():
        found: Tensor = model(**given(model, report)).logits
    return found


def query(made: Whole, stage: str = "logits") -> RunQuery:
    decoder = {"decoder": "so"} if made.task == "seq2seq-lm" else {}
    choice = ModelChoice(name=str(made.folder))
    return RunQuery(model=choice, text="hello", stages=(stage,), values=True, **decoder)


def values(report: TensorsReport) -> Tensor:
    return torch.tensor(report.tensors[0].values)


def count(model: PreTrainedModel) -> int:
    return sum(each.numel() for each in set(model.parameters()))


@pytest.mark.parametrize(("task", "model_type"), kinds())
def test_what_is_stored_of_tied_tensors_is_what_transformers_makes_of_it(
    task: Task, model_type: str, tmp_path: Path
) -> None:
    made = whole(task, model_type, tmp_path)
    for group, kept in islice(made.subsets(), MOST):
        made.keep(group, kept)
        model, missing = plain(task, model_type, made.folder)
        if missing:
            with pytest.raises(InspectError, match="lacks"):
                inspect(query(made))
            continue
        report = inspect(query(made))
        assert torch.equal(values(report), plain_logits(model, report)), kept
        tree = inspect(TreeQuery(model=ModelChoice(name=str(made.folder))))
        assert tree.totals.numel == count(model), kept
