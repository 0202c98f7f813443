"""One layer's self-attention."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from txinspect.answers.observing import observe
from txinspect.commands.attn import AttnQuery, AttnReport, HeadRecord
from txinspect.errors import InspectError, StageError
from txinspect.forward.edits import SkipNorm
from txinspect.forward.wants import Plan, Selection, Want, check_layers, plan_of
from txinspect.measure.heads import head_records
from txinspect.models.subject import Subject
from txinspect.queries import Notify, from_start
from txinspect.records import InputRecord
from txinspect.stages import ATTENTION_PARTS
from txinspect.wording import ranges

if TYPE_CHECKING:
    from txinspect.forward.capture import CaughtTensor

SKIPPED = "--skip-norm: the attention was fed the layer's input, which it reads anyway where no norm stands in between."


def answer(query: AttnQuery, notify: Notify) -> AttnReport:
    """The report of `attn`."""
    heads: list[HeadRecord] = []

    def look(caught: CaughtTensor) -> None:
        if caught.want.supply.part == "weights" and len(caught.tensor.shape) == 4:
            layer = int(caught.want.supply.name.split(".")[1])
            tensor, kept = caught.tensor, caught.coordinates or {}
            heads.extend(head_records(tensor.blocks, tensor.shape, kept, layer, caught.run, query.map_size))

    fields = observe(query, notify, plan, look).fields("attn")
    layers = list(dict.fromkeys(int(tensor.name.split(".")[1]) for tensor in fields["tensors"]))
    return AttnReport(**fields, layer=layers[0], layers=layers, heads=heads)


def plan(subject: Subject, query: AttnQuery, text: InputRecord) -> Plan:
    """Everything about the layers' attention. Raises InspectError for a layer, stage or query that is not there."""
    name, count = subject.source.name, len(subject.architecture.layers)
    asked = check_layers(name, query.layers_asked, count)
    names = {f"layers.{layer}.attention.{part}" for layer in asked for part in ATTENTION_PARTS}
    supplies = [supply for supply in subject.architecture.supplies() if supply.name in names]
    reasons = _folded(list(dict.fromkeys(supply.reason for supply in supplies if supply.reason is not None)))
    if not any(supply.available for supply in supplies):
        raise StageError(f"{name!r}: {reasons[0]}")
    selection = Selection(query.heads, query.queries and _tokens(query.queries, text))
    wants = [Want(supply, selection) for supply in supplies if supply.available]
    if not query.skip_norm:
        return plan_of(subject.architecture, wants, notes=reasons)
    edit = SkipNorm(subject.architecture.layers[asked[0]])
    return plan_of(subject.architecture, wants, (edit,), (SKIPPED, *reasons))


def _folded(reasons: list[str]) -> tuple[str, ...]:
    """Reasons that say the same of several layers, once."""
    layers: dict[str, list[int]] = {}
    for reason in reasons:
        match = re.match(r"layer ([0-9]+) (.*)", reason)
        layers.setdefault(match[2] if match else reason, []).extend([int(match[1])] if match else [])
    return tuple(
        f"layers {ranges(found)}: each {rest}" if len(found) > 1 else f"layer {found[0]} {rest}" if found else rest
        for rest, found in layers.items()
    )


def _tokens(queries: tuple[int, ...], text: InputRecord) -> tuple[int, ...]:
    """Query tokens, from the first. Raises InspectError for one beyond the text."""
    count = len(text.tokens)

    def wrong(query: int) -> InspectError:
        return InspectError(f"query {query} is out of range: the text has tokens 0 to {count - 1}")

    return from_start(queries, count, wrong)
