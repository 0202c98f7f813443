"""The token embeddings of a text, or the vector that a sentence encoder makes of its last hidden states."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from txinspect.anatomy.architecture import Supply
from txinspect.answers import sentences
from txinspect.answers.observing import observe
from txinspect.answers.question import Question
from txinspect.answers.session import Session
from txinspect.commands.embed import EmbedQuery, EmbedReport, SimilarRecord
from txinspect.errors import InspectError, spelled
from txinspect.forward.recorded import TensorBlocks
from txinspect.forward.wants import Plan, Want, in_stacks, plan_of
from txinspect.loading.subject import Subject
from txinspect.measure import pooling
from txinspect.records import InputRecord
from txinspect.sentence_vectors import Normalize
from txinspect.sources import sentence_transformers
from txinspect.texts.opened import Opened

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.forward.capture import CaughtTensor

POOLED = "pooled"
"""The name of a sentence's vector."""


def answer(query: EmbedQuery, session: Session) -> EmbedReport:
    """The report of `embed`."""
    if not query.pooled:
        return observe(_Embeddings(query), session).report(EmbedReport, "embed", similar=[])
    asked = _Pooled(query)
    return observe(asked, session).report(EmbedReport, "embed", last=asked.notes(), similar=asked.similar())


def questions(query: EmbedQuery) -> list[_Embeddings | _Pooled]:
    """What `embed` asks."""
    return [_Pooled(query) if query.pooled else _Embeddings(query)]


class _Embeddings(Question[EmbedQuery]):
    """The embeddings of a text's tokens."""

    token_rows = True

    def plan(self, subject: Subject, text: InputRecord) -> Plan:
        """What `embed` records: the token embeddings of both stacks."""
        return in_stacks(subject, "token_embeddings")


class _Pooled(Question[EmbedQuery]):
    """The vector of a sentence, and of others: the hidden states, pooled as the model's settings have it."""

    def read(self, opened: Opened) -> InputRecord:
        """What the settings of a sentence encoder make of the text that `embed` reads."""
        self.recipe = sentence_transformers.recipe(opened.source)
        self.layers = [
            sentence_transformers.stored_numbers(step) for step in self.recipe.steps if not isinstance(step, Normalize)
        ]
        self.texts = [sentences.read(self.query, opened, self.recipe)]
        self.vectors: list[Tensor] = []
        return self.texts[0].text

    def others(self, opened: Opened) -> list[InputRecord]:
        """What the settings of a sentence encoder make of the texts that `embed` compares with the first."""
        alone = replace(self.query, similar=(), masks=(), ids=None, chat=False, system=None, user=None, assistant=None)
        alone = replace(alone, max_tokens=None)
        queries = [replace(alone, text=each) for each in self.query.similar]
        self.texts += [sentences.read(each, opened, self.recipe) for each in queries]
        return [each.text for each in self.texts[1:]]

    def made(self, caught: CaughtTensor) -> CaughtTensor:
        """The one vector of the sentence, which `embed` reports in the place of the hidden states."""
        left_out = self.texts[caught.run - 1].left_out
        vector = pooling.pooled(caught.tensor.whole(), self.recipe, self.layers, left_out)
        self.vectors.append(vector[0])
        supply = replace(caught.want.supply, name=POOLED, axes=("batch", "hidden"))
        return replace(caught, want=replace(caught.want, supply=supply), tensor=TensorBlocks.of(vector))

    def notes(self) -> list[str]:
        """How `embed` pooled the hidden states into one vector."""
        return [*self.recipe.notes, " ".join((self.recipe.sentence(self.texts[0].left_out), *self.texts[0].notes))]

    def similar(self) -> list[SimilarRecord]:
        """How alike the vectors of the other texts are to that of the first, for `embed`."""
        first, how = self.vectors[0], self.recipe.similarity
        return [
            SimilarRecord(
                text=text,
                tokens=len(read.text.tokens),
                tensor=f"{POOLED}#{run}",
                cosine=pooling.similarity(first, vector, "cosine"),
                function=how,
                score=pooling.similarity(first, vector, how),
            )
            for run, (text, read, vector) in enumerate(
                zip(self.query.similar, self.texts[1:], self.vectors[1:], strict=True), 2
            )
        ]

    def plan(self, subject: Subject, text: InputRecord) -> Plan:
        """Plan the hidden states that `embed` pools. Raises InspectError for a model with a decoder."""
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
