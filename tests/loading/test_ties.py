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

from tests.making.checkpoints import change_config, change_weights
from tests.making.models import AUTO_CLASS, BUILT_FROM_PART, Task, buildable_types, save_tiny
from txinspect import InspectError, LogitsQuery, ModelChoice, PlanQuery, RunQuery, TreeQuery, inspect
from txinspect.anatomy import locating
from txinspect.errors import SourceError
from txinspect.records import TensorsReport

OFTEN: tuple[tuple[Task, str], ...] = (
    ("masked-lm", "albert"),  # a weight and a bias
    ("masked-lm", "bert"),
    ("masked-lm", "roberta"),
    ("seq2seq-lm", "bart"),  # four, the head first
    ("seq2seq-lm", "marian"),  # what is missing is excused, too
    ("seq2seq-lm", "t5"),  # four, the head last
)
"""The types that are taken by default."""

MOST = 15
"""Checkpoints that are made of a type."""

NEVER_TIED = {"dbrx": "its config refuses to tie"}

TASKS: tuple[Task, ...] = ("causal-lm", "masked-lm", "seq2seq-lm")

ALL = [(task, name) for task in TASKS for name in buildable_types(task) if name not in NEVER_TIED]


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
    decoder = "so" if made.task == "seq2seq-lm" else None
    choice = ModelChoice(name=str(made.folder))
    return RunQuery(model=choice, text="hello", stages=(stage,), values=True, decoder=decoder)


def values(report: TensorsReport) -> Tensor:
    return torch.tensor(report.tensors[0].values)


def count(model: PreTrainedModel) -> int:
    return sum(each.numel() for each in set(model.parameters()))


def assert_is_loaded_as_by_transformers(made: Whole, group: Collection[str], kept: Collection[str]) -> None:
    """The logits, to the last bit, and how many parameters there are; refused where transformers misses a tensor."""
    made.keep(group, kept)
    model, missing = plain(made.task, made.model_type, made.folder)
    if missing:
        with pytest.raises(InspectError, match="lacks"):
            inspect(query(made))
        return
    report = inspect(query(made))
    assert torch.equal(values(report), plain_logits(model, report)), kept
    tree = inspect(TreeQuery(model=ModelChoice(name=str(made.folder))))
    assert tree.totals.numel == count(model), kept


@pytest.mark.conformance
@pytest.mark.parametrize(("task", "model_type"), ALL, ids=["-".join(each) for each in ALL])
def test_every_choice_of_tied_tensors(task: Task, model_type: str, tmp_path: Path) -> None:
    made = whole(task, model_type, tmp_path)
    for group, kept in islice(made.subsets(), MOST):
        assert_is_loaded_as_by_transformers(made, group, kept)


@pytest.mark.parametrize(("task", "model_type"), OFTEN, ids=["-".join(each) for each in OFTEN])
def test_some_choices_of_tied_tensors(task: Task, model_type: str, tmp_path: Path) -> None:
    """Two stored apart, and none under the name that comes first."""
    made = whole(task, model_type, tmp_path)
    assert made.groups
    for group in made.groups:
        assert_is_loaded_as_by_transformers(made, group, [group[0], head_of(group)])
        assert_is_loaded_as_by_transformers(made, group, group[1:])


def head_of(group: Collection[str]) -> str:
    """The head's among tensors that are tied."""
    return next(name for name in group if "embed" not in name and "shared" not in name)


ENCODED = "encoder.layers.0.output"


@pytest.mark.parametrize("model_type", ["bart", "t5"])
@pytest.mark.parametrize("source_is_stored", [True, False])
def test_a_pass_reads_what_it_uses_of_tied_tensors(model_type: str, source_is_stored: bool, tmp_path: Path) -> None:
    """The encoder's embeddings, under whichever name, and not a head of its own; as the plan said."""
    made = whole("seq2seq-lm", model_type, tmp_path)
    (group,) = made.groups
    head = head_of(group)
    decoder = next(name for name in group if "decoder" in name)
    made.keep(group, (group[0], head) if source_is_stored else (decoder, head))
    model, _ = plain(made.task, model_type, made.folder)
    asked = query(made, ENCODED)
    report = inspect(asked)
    with torch.no_grad():
        found = model(**given(model, report), output_hidden_states=True).encoder_hidden_states[1]
    assert torch.equal(values(report), found)
    plan = inspect(PlanQuery(of=asked)).loading
    done = report.loading
    assert (plan.parameters, plan.memory_bytes, plan.disk_bytes) == (
        *(done.parameters, done.memory_bytes, done.disk_bytes),
    )
    # BART's order ties what the source lacks to its head, the first that is there.
    shares = model.get_encoder().get_input_embeddings().weight is model.get_output_embeddings().weight
    assert shares == (model_type == "bart" and not source_is_stored)
    # All of the model reads both.
    everything = inspect(PlanQuery(of=query(made))).loading.disk_bytes
    table = made.tensors[head].nbytes
    assert plan.disk_bytes is not None
    assert everything is not None
    assert table < plan.disk_bytes < everything - table
    assert inspect(LogitsQuery(model=asked.model, text="hello", decoder="so")).predictions


def test_a_head_of_its_own_under_a_config_that_does_not_tie(tmp_path: Path) -> None:
    """As transformers writes T5 v1.1; T5 ties its embeddings anyway."""
    made = whole("seq2seq-lm", "t5", tmp_path)
    (group,) = made.groups
    made.keep(group, (group[0], head_of(group)))
    change_config(made.folder, tie_word_embeddings=False)
    model, missing = plain(made.task, "t5", made.folder)
    assert not missing
    report = inspect(query(made))
    assert torch.equal(values(report), plain_logits(model, report))
    assert inspect(TreeQuery(model=ModelChoice(name=str(made.folder)))).totals.numel == count(model)


def test_a_tied_tensor_has_the_type_it_is_stored_in_under_any_name(tmp_path: Path) -> None:
    made = whole("seq2seq-lm", "t5", tmp_path)
    (group,) = made.groups
    made.keep(group, group[2:3])
    change_weights(made.folder, lambda tensors: tensors.update({group[2]: tensors[group[2]].half()}))
    tree = inspect(TreeQuery(model=ModelChoice(name=str(made.folder))))
    first = next(each for module in tree.modules for each in module.parameters if module.name == "shared")
    assert (first.dtype, first.bytes) == ("float16", 2 * first.numel)


# What has no head


@pytest.mark.parametrize(("prefix", "by"), [("module.", "DataParallel"), ("_orig_mod.", "torch.compile")])
def test_tensors_under_a_wrappers_prefix_are_refused(prefix: str, by: str, tmp_path: Path) -> None:
    """A model with a head of its own, which such a checkpoint does not lack alone."""
    folder = save_tiny("llama", tmp_path)

    def rename(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            tensors[prefix + name] = tensors.pop(name)

    change_weights(folder, rename)
    choice = ModelChoice(name=str(folder))
    run = RunQuery(model=choice, text="hello", stages=("logits",))
    for asked in (run, PlanQuery(of=run), LogitsQuery(model=choice, text="hello")):
        with pytest.raises(SourceError, match=f"is named {prefix}…, as {by} names"):
            inspect(asked)
    assert any(f"is named {prefix}…, as {by} names" in note for note in inspect(TreeQuery(model=choice)).notes)


def test_a_body_that_is_not_whole_is_incomplete(tmp_path: Path) -> None:
    """The head is missing, and a layer's tensor: the checkpoint is cut off, not saved from the bare model."""
    folder = save_tiny("llama", tmp_path)
    change_weights(folder, lambda tensors: [tensors.pop(each) for each in ("lm_head.weight", "model.norm.weight")])
    run = RunQuery(model=ModelChoice(name=str(folder)), text="hello", stages=("logits",))
    with pytest.raises(SourceError, match=r"lacks lm_head\.weight \(and 1 more tensors\): it is incomplete"):
        inspect(run)


def test_a_head_that_is_tied_is_not_missing(tmp_path: Path) -> None:
    """A checkpoint of BartModel has all that BartForConditionalGeneration needs."""
    folder = save_tiny("bart", tmp_path, task="seq2seq-lm")
    change_weights(folder, lambda tensors: tensors.pop("final_logits_bias"))
    model, missing = plain("seq2seq-lm", "bart", folder)
    assert not missing
    query = RunQuery(model=ModelChoice(name=str(folder)), text="hello", decoder="so", stages=("logits",), values=True)
    report = inspect(query)
    assert torch.equal(values(report), plain_logits(model, report))
