"""One layer's self-attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from txinspect.answers.observing import observe
from txinspect.commands.attn import AttnQuery, AttnReport, HeadRecord
from txinspect.errors import InspectError, StageError
from txinspect.forward.edits import SkipNorm
from txinspect.forward.wants import Plan, Selection, Want, check_layer, plan_of
from txinspect.measure.heads import head_records
from txinspect.models.subject import Subject
from txinspect.queries import Notify
from txinspect.records import InputRecord
from txinspect.stages import ATTENTION_PARTS

if TYPE_CHECKING:
    from txinspect.forward.capture import CaughtTensor

SKIPPED = "--skip-norm: the attention was fed the layer's input, which it reads anyway where no norm stands in between."


def answer(query: AttnQuery, notify: Notify) -> AttnReport:
    """The report of `attn`."""
    heads: list[HeadRecord] = []

    def look(caught: CaughtTensor) -> None:
        if caught.want.supply.part == "weights" and len(caught.tensor.shape) == 4:
            heads.extend(head_records(caught.tensor.blocks, caught.tensor.shape, caught.coordinates or {}, caught.run))

    fields = observe(query, notify, plan, look).fields("attn")
    return AttnReport(**fields, layer=query.layer, heads=heads)


def plan(subject: Subject, query: AttnQuery, text: InputRecord) -> Plan:
    """Everything about the layer's attention. Raises InspectError for a layer, stage or query that is not there."""
    check_layer(subject, query.layer)
    names = [f"layers.{query.layer}.attention.{part}" for part in ATTENTION_PARTS]
    supplies = [supply for supply in subject.architecture.supplies() if supply.name in names]
    reasons = tuple(dict.fromkeys(supply.reason for supply in supplies if supply.reason is not None))
    if not any(supply.available for supply in supplies):
        raise StageError(f"{subject.source.name!r}: {reasons[0]}")
    beyond = [index for index in query.queries or () if index >= len(text.tokens)]
    if beyond:
        raise InspectError(f"query {beyond[0]} is out of range: the text has tokens 0 to {len(text.tokens) - 1}")
    selection = Selection(query.heads, query.queries)
    wants = [Want(supply, selection) for supply in supplies if supply.available]
    if not query.skip_norm:
        return plan_of(subject.architecture, wants, notes=reasons)
    edit = SkipNorm(subject.architecture.layers[query.layer])
    return plan_of(subject.architecture, wants, (edit,), (SKIPPED, *reasons))
