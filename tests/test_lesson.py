"""The lesson, call by call in plain transformers, against the commands that stand for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from txinspect.commands.attn import AttnQuery
from txinspect.commands.embed import EmbedQuery
from txinspect.commands.pos import PosQuery
from txinspect.commands.run import RunQuery
from txinspect.commands.tokenize import TokenizeQuery
from txinspect.commands.tree import TreeQuery
from txinspect.inspecting import inspect
from txinspect.model_choice import ModelChoice
from txinspect.queries import LESSON
from txinspect.records import TensorsReport

pytestmark = pytest.mark.half

HIDDEN = 64


class Lesson:
    """The lesson's own code on a local checkpoint: no pass through the model, only its modules, one by one."""

    def __init__(self, folder: Path, dtype: Any = "auto") -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        self.decoder = self.model.model.decoder
        self.inp_tokenized = AutoTokenizer.from_pretrained(folder)(LESSON, return_tensors="pt")
        with torch.no_grad():
            self.embedded_input: Tensor = self.decoder.embed_tokens(self.inp_tokenized["input_ids"])
            self.embed_pos_input: Tensor = self.decoder.embed_positions(self.inp_tokenized["attention_mask"])

    def sum(self) -> Tensor:
        """Embeddings and positions; where the embeddings are narrower, the model widens them first."""
        with torch.no_grad():
            projected = self.decoder.project_in(self.embedded_input) if self.decoder.project_in else self.embedded_input
            total: Tensor = projected + self.embed_pos_input
            return total

    def self_attention(self, hidden_states: Tensor, layer: int = 0) -> Tensor:
        with torch.no_grad():
            output: Tensor = self.decoder.layers[layer].self_attn(hidden_states)[0]
            return output

    def normed_sum(self) -> Tensor:
        """What the model itself feeds the first attention: pre-norm models norm the sum, post-norm ones do not."""
        with torch.no_grad():
            before = self.model.config.do_layer_norm_before
            normed: Tensor = self.decoder.layers[0].self_attn_layer_norm(self.sum()) if before else self.sum()
            return normed


def tensor(report: TensorsReport, name: str) -> Tensor:
    (record,) = [one for one in report.tensors if one.name == name]
    found = torch.tensor(record.values, dtype=torch.float64).to(getattr(torch, record.dtype))
    assert list(found.shape) == record.shape
    return found


def attn(folder: Path, *, skip_norm: bool, layer: int = 0, **choice: Any) -> TensorsReport:
    model = ModelChoice(name=str(folder), **choice)
    return inspect(AttnQuery(model=model, layer=layer, skip_norm=skip_norm, values=True))


@pytest.fixture(params=["pre_norm", "post_norm", "projected", "opt_350m", "no_bias"])
def folder(request: pytest.FixtureRequest, opt_variant: Callable[[str], Path]) -> Path:
    """Variants that differ in where they norm, in the embeddings' width, and in bias."""
    return opt_variant(request.param)


def test_tokens(folder: Path) -> None:
    found = inspect(TokenizeQuery(model=ModelChoice(name=str(folder)))).input
    wanted = Lesson(folder).inp_tokenized
    assert found.text == LESSON == "The quick brown fox jumps over the lazy dog"
    assert found.input_ids == wanted["input_ids"].tolist()
    assert found.attention_mask == wanted["attention_mask"].tolist()


def test_architecture(folder: Path) -> None:
    found = inspect(TreeQuery(model=ModelChoice(name=str(folder)))).modules
    model = Lesson(folder).model
    assert [(one.name, one.class_) for one in found] == [(n, type(m).__name__) for n, m in model.named_modules()]


def test_embeddings(folder: Path) -> None:
    found = tensor(inspect(EmbedQuery(model=ModelChoice(name=str(folder)), values=True)), "token_embeddings")
    lesson = Lesson(folder)
    assert torch.equal(found, lesson.embedded_input)
    assert list(found.shape) == [1, len(LESSON) + 1, lesson.model.config.word_embed_proj_dim]


def test_positions(folder: Path) -> None:
    found = tensor(inspect(PosQuery(model=ModelChoice(name=str(folder)), values=True)), "position_embeddings")
    assert torch.equal(found, Lesson(folder).embed_pos_input)
    assert list(found.shape) == [1, len(LESSON) + 1, HIDDEN]


def test_positions_begin_at_row_two_of_the_table(folder: Path) -> None:
    """OPT's offset."""
    found = tensor(inspect(PosQuery(model=ModelChoice(name=str(folder)), values=True)), "position_embeddings")
    table = Lesson(folder).decoder.embed_positions.weight
    assert torch.equal(found[0], table[2 : 2 + found.shape[1]])


def test_attention_of_the_plain_sum(folder: Path) -> None:
    """--skip-norm gives the lesson's own numbers."""
    lesson, report = Lesson(folder), attn(folder, skip_norm=True)
    assert torch.equal(tensor(report, "layers.0.attention.input"), lesson.sum())
    found = tensor(report, "layers.0.attention.output")
    assert torch.equal(found, lesson.self_attention(lesson.sum()))
    assert list(found.shape) == [1, len(LESSON) + 1, HIDDEN]


def test_attention_as_the_model_does_it(folder: Path) -> None:
    lesson, report = Lesson(folder), attn(folder, skip_norm=False)
    assert torch.equal(tensor(report, "layers.0.attention.input"), lesson.normed_sum())
    assert torch.equal(tensor(report, "layers.0.attention.output"), lesson.self_attention(lesson.normed_sum()))


def test_the_norm_makes_the_difference(folder: Path) -> None:
    skipped, whole = (tensor(attn(folder, skip_norm=skip), "layers.0.attention.output") for skip in (True, False))
    before = Lesson(folder).model.config.do_layer_norm_before
    assert torch.equal(skipped, whole) == (not before), "a post-norm model has no norm there to skip"


@pytest.mark.parametrize("part", ["q", "k", "v"])
def test_q_k_and_v_without_the_norm(part: str, folder: Path) -> None:
    lesson = Lesson(folder)
    module = lesson.decoder.layers[0].self_attn
    with torch.no_grad():
        wanted = getattr(module, f"{part}_proj")(lesson.sum())
        wanted = wanted * module.scaling if part == "q" else wanted
    wanted = wanted.reshape(1, -1, module.num_heads, module.head_dim).transpose(1, 2)
    assert torch.equal(tensor(attn(folder, skip_norm=True), f"layers.0.attention.{part}"), wanted)


@pytest.mark.parametrize("layer", [1, 2])
def test_a_later_layers_norm_is_skipped_alone(layer: int, folder: Path) -> None:
    """The layers below run as always, so that the attention is fed that layer's true input."""
    name = f"layers.{layer}.input"
    true_input = tensor(inspect(RunQuery(model=ModelChoice(name=str(folder)), stages=(name,), values=True)), name)
    report = attn(folder, skip_norm=True, layer=layer)
    assert torch.equal(tensor(report, f"layers.{layer}.attention.input"), true_input)
    found = tensor(report, f"layers.{layer}.attention.output")
    assert torch.equal(found, Lesson(folder).self_attention(true_input, layer))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_in_half_precision(dtype: Any, folder: Path) -> None:
    lesson = Lesson(folder, getattr(torch, dtype))
    report = attn(folder, skip_norm=True, dtype=dtype)
    assert torch.equal(tensor(report, "layers.0.attention.output"), lesson.self_attention(lesson.sum()))
    report = attn(folder, skip_norm=False, dtype=dtype)
    assert torch.equal(tensor(report, "layers.0.attention.output"), lesson.self_attention(lesson.normed_sum()))


def test_any_module_by_hand(folder: Path) -> None:
    stages = ("layers.*.output", "logits")
    report = inspect(RunQuery(model=ModelChoice(name=str(folder)), stages=stages, values=True))
    assert [one.name for one in report.tensors] == [*(f"layers.{index}.output" for index in range(3)), "logits"]
    lesson = Lesson(folder)
    with torch.no_grad():
        wanted = lesson.model(**lesson.inp_tokenized, output_hidden_states=True)
    assert torch.equal(tensor(report, "logits"), wanted.logits)
    for index in range(2):
        assert torch.equal(tensor(report, f"layers.{index}.output"), wanted.hidden_states[index + 1])
