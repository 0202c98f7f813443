"""What each side of a comparison is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from txinspect.answers.run import Stages
from txinspect.commands.diff import DiffQuery
from txinspect.commands.run import RunQuery
from txinspect.errors import InspectError, UsageError, spelled
from txinspect.forward.wants import Plan, Want, plan_of, plan_of_names
from txinspect.loading.subject import Subject
from txinspect.model_choice import ModelChoice
from txinspect.queries import read_by
from txinspect.records import InputRecord
from txinspect.sources.resolving import resolve
from txinspect.texts.opened import Opened

if TYPE_CHECKING:
    from txinspect.anatomy.architecture import Supply

COMPARED = (
    *(
        "input",
        "attention.weights",
        "attention.output",
        "cross_attention.weights",
        "cross_attention.output",
        "mixer.output",
        "mlp.router.experts",
        "mlp.output",
        "output",
    ),
    "token_embeddings",
    "final_norm",
    "logits",
)
"""The stages that are compared where none are named: within a layer, and outside of them."""


def side(query: DiffQuery, model: ModelChoice) -> RunQuery:
    """The query that one side of a comparison is asked."""
    stages = query.stages or COMPARED[-1:]
    return RunQuery(model=model, **read_by(query), stages=stages, check=query.check)


def other_side(query: DiffQuery) -> RunQuery:
    """The query that the other side of a comparison is asked. Raises UsageError for no adapter to leave out."""
    if query.against_text is not None:
        # It stands in the place of whatever this side reads: a text, ids, a message.
        return replace(side(query, query.model), text=query.against_text, ids=None, user=None)
    if query.against_edit:
        return replace(side(query, query.model), edits=query.against_edit)
    if not query.against_no_adapter:
        return side(query, query.other())
    source = resolve(query.model)
    if source.adapter is None or source.adapter.base is None:
        raise UsageError(f"{spelled('against_no_adapter', True)} leaves out an adapter, and {source.name!r} is none")
    return side(query, replace(query.model, name=source.adapter.base, revision=None))


def chosen(subject: Subject, query: DiffQuery) -> list[Want]:
    """The stages of a side's model that are compared, each received and not reported."""
    if query.stages:
        wants: Sequence[Want] = plan_of_names(subject, query.stages).wants
    else:
        supplies = subject.architecture.supplies()
        wants = [Want(supply) for supply in supplies if supply.available and supply.within in COMPARED]
    wanted = [Want(want.supply, want.selection, by_glob=True, reported=False) for want in wants]
    return [*wanted, *(Want(supply, by_glob=True, reported=False) for supply in read_alone(subject, query))]


def read_alone(subject: Subject, query: DiffQuery) -> list[Supply]:
    """What a side's layers read, where each is to be fed that alone and nobody asked to compare it."""
    if not (query.isolated and query.stages):
        return []
    asked = {want.supply.name for want in plan_of_names(subject, query.stages).wants}
    inputs = (supply for supply in subject.architecture.supplies() if supply.within == "input" and supply.available)
    return [supply for supply in inputs if supply.layer is not None and supply.name not in asked]


class Side(Stages):
    """What one side is asked: the stages that are compared."""

    def __init__(self, whole: DiffQuery, query: RunQuery) -> None:
        super().__init__(query)
        self.whole = whole

    @property
    def names(self) -> tuple[str, ...]:
        """The stages of a side that were asked for by name; of none, those that both have are compared."""
        return self.whole.stages

    def plan(self, subject: Subject, text: InputRecord) -> Plan:
        """What is recorded of a side: the stages that are compared, each received and not reported."""
        return plan_of(subject.architecture, chosen(subject, self.whole))


class OtherSide(Side):
    """What the other side is asked, which may be about another text."""

    def __init__(self, whole: DiffQuery) -> None:
        super().__init__(whole, other_side(whole))

    def read(self, opened: Opened) -> InputRecord:
        """The tokens of the other side; an error is about the text that it was given."""
        try:
            return super().read(opened)
        except InspectError as error:
            if self.whole.against_text is None:
                raise
            raise type(error)(f"{spelled('against_text')}: {error}") from error
