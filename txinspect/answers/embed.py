"""The token embeddings of a text, or the vector that a sentence encoder makes of its last hidden states."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from txinspect.anatomy.architecture import Supply
from txinspect.answers import sentences
from txinspect.answers.observing import observe
from txinspect.answers.reading import encode
from txinspect.commands.embed import EmbedQuery
from txinspect.errors import InspectError, spelled
from txinspect.forward.recorded import TensorBlocks
from txinspect.forward.wants import Plan, Want, in_stacks, plan_of
from txinspect.measure import pooling
from txinspect.models.opened import Opened
from txinspect.models.subject import Subject
from txinspect.queries import Notify
from txinspect.recipe import Normalize
from txinspect.records import InputRecord, TensorsReport
from txinspect.sources import recipes
from txinspect.sources.source import resolve

if TYPE_CHECKING:
    from txinspect.forward.capture import CaughtTensor

POOLED = "pooled"
"""The name of a sentence's vector."""


def answer(query: EmbedQuery, notify: Notify) -> TensorsReport:
    """The report of `embed`."""
    if not query.pooled:
        return TensorsReport(**observe(query, notify, plan, token_rows=True).fields("embed"))
    recipe = recipes.recipe(resolve(query.model))
    layers = [recipes.numbers(step) for step in recipe.steps if not isinstance(step, Normalize)]
    reads: list[sentences.Read] = []

    def make_text(query: EmbedQuery, opened: Opened) -> InputRecord:
        reads.append(sentences.read(query, opened, recipe))
        return reads[-1].text

    def pool(caught: CaughtTensor) -> CaughtTensor:
        vector = pooling.pooled(caught.tensor.whole(), recipe, layers, reads[-1].left_out)
        supply = replace(caught.want.supply, name=POOLED, axes=("batch", "hidden"))
        return replace(caught, want=replace(caught.want, supply=supply), tensor=TensorBlocks.of(vector))

    observed = observe(query, notify, plan, made=pool, make_text=make_text)
    pooled = " ".join((recipe.sentence(reads[-1].left_out), *reads[-1].notes))
    notes = [*observed.notes, *recipe.notes, pooled]
    return TensorsReport(**observed.fields("embed") | {"notes": notes})


def text(query: EmbedQuery, opened: Opened) -> InputRecord:
    """What the model reads: of what is pooled, what the settings of a sentence encoder make of the text."""
    if not query.pooled:
        return encode(query, opened)
    return sentences.read(query, opened, recipes.recipe(opened.source)).text


def plan(subject: Subject, query: EmbedQuery, text: InputRecord) -> Plan:
    """What `embed` records: the embeddings, or the hidden states that are pooled."""
    if not query.pooled:
        return in_stacks(subject, "token_embeddings")
    recipes.recipe(subject.source)
    if subject.has_decoder:
        raise InspectError(
            f"{subject.source.name!r} is built with a decoder, whose hidden states are no sentence's: "
            f"{spelled('pooled', True)} needs an encoder alone, such as a T5EncoderModel, in its config.json's "
            f"architectures; or omit it"
        )
    model = subject.as_loaded
    base = model.base_model_prefix if subject.task.name != "base" else ""
    module = base if base and hasattr(model, base) else ""
    supply = Supply("last_hidden_state", "logits", "", type(model).__name__, ("batch", "seq", "hidden"))
    if module:
        supply = replace(supply, tap="output", module=module, class_name=type(model.get_submodule(module)).__name__)
    return plan_of(subject.architecture, [Want(supply)])
