"""Which weights a pass uses: rehearsed on shapes alone, held against what the pass of the whole model computes with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from txinspect import answers
from txinspect.commands.attn import AttnQuery
from txinspect.commands.embed import EmbedQuery
from txinspect.commands.pos import PosQuery
from txinspect.commands.run import RunQuery
from txinspect.commands.tokenize import TokenizeQuery
from txinspect.forward import rehearsal
from txinspect.forward.inputs import model_inputs
from txinspect.guards.quiet import quiet
from txinspect.loading import uses
from txinspect.loading.subject import Subject, load_subject
from txinspect.loading.uses import Uses
from txinspect.model_choice import ModelChoice
from txinspect.queries import LESSON, TensorQuery
from txinspect.texts.opened import Opened
from txinspect.texts.reading import encode

DECODER = "model.decoder"


def subject_of(folder: Path) -> Subject:
    choice = ModelChoice(name=str(folder))
    return load_subject(Opened(choice), lambda _: None, 10)


def rehearsed(subject: Subject, query: TensorQuery[Any]) -> Uses:
    text = encode(TokenizeQuery(text=LESSON), subject.opened)
    with quiet():
        return rehearsal.rehearse(
            subject,
            model_inputs(subject.as_configured, text),
            answers.module_of(query).questions(query)[0].plan(subject, text),
        )


def used(folder: Path, query: TensorQuery[Any]) -> set[str]:
    """The modules with weights of their own that a query uses."""
    subject = subject_of(folder)
    found = rehearsed(subject, query)
    assert found.guessed_because is None
    assert found.modules.keys() == {path for path, _ in subject.as_configured.named_modules()}
    own = {name.rpartition(".")[0] for name in subject.as_configured.state_dict()}
    return {path for path, use in found.modules.items() if use} & own


ATTENTION = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"}
NORMS_AND_MLP = {"self_attn_layer_norm", "final_layer_norm", "fc1", "fc2"}
EMBEDDINGS = {f"{DECODER}.embed_tokens", "lm_head"}
"""The head is the embeddings' own table, so that it is there at no cost."""


def layer(index: int, *names: str) -> set[str]:
    return {f"{DECODER}.layers.{index}.{name}" for name in names}


def test_embeddings_use_one_table(opt: Path) -> None:
    assert used(opt, EmbedQuery()) == EMBEDDINGS


def test_an_untied_head_is_not_used_for_embeddings(opt_variant: Callable[[str], Path]) -> None:
    assert used(opt_variant("untied"), EmbedQuery()) == {f"{DECODER}.embed_tokens"}


def test_positions_run_no_layer(opt: Path) -> None:
    assert used(opt, PosQuery()) == EMBEDDINGS | {f"{DECODER}.embed_positions"}


def test_attention_of_a_layer_uses_the_layers_before_it(opt: Path) -> None:
    before = EMBEDDINGS | {f"{DECODER}.embed_positions"} | layer(0, *ATTENTION, *NORMS_AND_MLP)
    assert used(opt, AttnQuery(layer=1)) == before | layer(1, *ATTENTION, *NORMS_AND_MLP)
    assert not used(opt, AttnQuery(layer=1)) & layer(2, *ATTENTION, *NORMS_AND_MLP)


def test_the_whole_pass_uses_all(opt: Path) -> None:
    subject = subject_of(opt)
    own = {name.rpartition(".")[0] for name in subject.as_configured.state_dict()}
    assert used(opt, RunQuery(stages=("logits",))) == own


def test_a_check_uses_all(opt: Path) -> None:
    assert all(uses.of_all_modules(subject_of(opt)).modules.values())


def test_code_that_branches_on_weights_is_counted_by_place(opt: Path) -> None:
    """A module that asks for a value of the hidden states cannot be rehearsed: then layers after it do not count."""
    subject = subject_of(opt)
    first = subject.as_configured.get_submodule(f"{DECODER}.layers.0")
    first.register_forward_pre_hook(lambda _module, args: args[0].sum().item() and None)
    found = rehearsed(subject, RunQuery(stages=("layers.1.output",)))
    assert found.guessed_because is not None
    assert found.modules["lm_head"]
    assert found.modules[f"{DECODER}.layers.1.fc2"]
    assert not found.modules[f"{DECODER}.layers.2.fc2"]
    whole = rehearsed(subject, RunQuery(stages=("logits",)))
    assert all(whole.modules.values())


@pytest.mark.parametrize("query", [EmbedQuery(), AttnQuery(layer=2), RunQuery(stages=("**",))])
def test_nothing_is_left_behind(query: TensorQuery[Any], opt: Path) -> None:
    subject = subject_of(opt)
    rehearsed(subject, query)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in subject.as_configured.modules())
    assert all(parameter.is_meta for parameter in subject.as_configured.parameters())
