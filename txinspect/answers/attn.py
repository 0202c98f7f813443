"""Layers' attention: to their own text, or to the encoder's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from txinspect.anatomy.architecture import Stack
from txinspect.answers import stacks
from txinspect.answers.observing import observe
from txinspect.answers.question import Question
from txinspect.answers.session import Session
from txinspect.commands.attn import AttnQuery, AttnReport, HeadRecord
from txinspect.errors import InspectError, StageError, spelled
from txinspect.forward.edits import SkipNorm
from txinspect.forward.wants import Plan, Selection, Want, check_layers, plan_of
from txinspect.indices import from_start
from txinspect.loading.subject import Subject
from txinspect.measure.heads import head_records, labelled
from txinspect.records import InputRecord, SentenceRecord
from txinspect.stages import ATTENTION_PARTS, POSITION_PARTS
from txinspect.wording import ranges

if TYPE_CHECKING:
    from txinspect.forward.capture import CaughtTensor
    from txinspect.forward.recorded import TensorBlocks

SKIPPED = "--skip-norm: the attention was fed the layer's input, which it reads anyway where no norm stands in between."


def answer(query: AttnQuery, session: Session) -> AttnReport:
    """The report of `attn`."""
    asked = _Attention(query)
    observed = observe(asked, session)
    stack: Any = asked.stack.rstrip(".") or None
    kind: Any = "cross" if query.cross else "self"
    own = {"layer": asked.layers[0], "layers": asked.layers, "attention": kind, "stack": stack, "heads": asked.heads}
    return observed.report(AttnReport, "attn", **own)


def questions(query: AttnQuery) -> list[_Attention]:
    """What `attn` asks."""
    return [_Attention(query)]


class _Attention(Question[AttnQuery]):
    """The layers' attention, and each head's weights."""

    def __init__(self, query: AttnQuery) -> None:
        super().__init__(query)
        self.stack = ""
        self.layers: list[int] = []
        self.heads: list[HeadRecord] = []

    def plan(self, subject: Subject, text: InputRecord) -> Plan:
        """What `attn` records: every part of the layers' attention."""
        return _plan(subject, self.query, text)

    def meet(self, subject: Subject, text: InputRecord) -> None:
        """Find the tokens that the attention's stack reads."""
        self.text = text.read_by(_stack(subject, self.query).prefix)

    def look(self, caught: CaughtTensor) -> None:
        """Note which layer's attention passed something on, and make the records of its heads for `attn`."""
        supply = caught.want.supply
        layer = supply.layer or 0
        self.stack = supply.stack
        if layer not in self.layers:
            self.layers.append(layer)
        if supply.part == "weights" and len(caught.tensor.shape) == 4:
            tensor, kept = caught.tensor, caught.coordinates or {}
            records = head_records(tensor.blocks, tensor.shape, kept, layer, caught.run, self.query.map_size)
            self.heads += self._labelled(records, tensor, layer, caught.run)

    def _labelled(self, records: list[HeadRecord], weights: TensorBlocks, layer: int, run: int) -> list[HeadRecord]:
        """The records of an attention's heads with their kinds, where `attn` recorded all queries of one text."""
        count = len(self.text.tokens)
        if self.query.cross or self.query.queries is not None or weights.shape[2:] != (count, count) or count < 2:
            return records
        return labelled(records, weights.blocks, layer, run)


def _plan(subject: Subject, query: AttnQuery, text: InputRecord) -> Plan:
    """Plan every part of the attention that `attn` asks for. Raises InspectError for what is not there."""
    name, stack = subject.source.name, _stack(subject, query)
    asked = check_layers(stacks.whose(subject, stack), query.layer, len(stack.layers))
    kind = "cross_attention" if query.cross else "attention"
    names = {
        f"{stack.prefix}layers.{layer}.{kind}.{part}" for layer in asked for part in (*ATTENTION_PARTS, *POSITION_PARTS)
    }
    supplies = [supply for supply in subject.architecture.supplies() if supply.name in names]
    supplies = [each for each in supplies if each.available or each.within.partition(".")[2] in ATTENTION_PARTS]
    reasons = _folded(list(dict.fromkeys(supply.reason for supply in supplies if supply.reason is not None)))
    if not any(supply.available for supply in supplies):
        raise StageError(f"{name!r}: {reasons[0]}")
    selection = Selection(query.heads, query.queries and _tokens(query.queries, text.read_by(stack.prefix)))
    wants = [Want(supply, selection) for supply in supplies if supply.available]
    if not query.skip_norm:
        return plan_of(subject.architecture, wants, notes=reasons)
    edit = SkipNorm(stack.layers[asked[0]])
    return plan_of(subject.architecture, wants, edits=(edit,), notes=(SKIPPED, *reasons))


def _stack(subject: Subject, query: AttnQuery) -> Stack:
    """The stack whose attention `attn` asks for. Raises StageError where there is none, or no attention between two."""
    if query.encoder:
        return stacks.encoder(subject, "encoder")
    main = subject.architecture.main
    if query.cross:
        stacks.encoder(subject, "cross")
        if not any(layer.cross_attentions for layer in main.layers):
            raise StageError(
                f"{subject.source.name!r} has no module that attends to the encoder's text alone: omit "
                f"{spelled('cross', True)}, and see 'txinspect stages'"
            )
    return main


def _folded(reasons: list[str]) -> tuple[str, ...]:
    """Reasons why layers have no such attention; what is the same of several layers is said once."""
    layers: dict[str, list[int]] = {}
    for reason in reasons:
        match = re.match(r"layer ([0-9]+) (.*)", reason)
        layers.setdefault(match[2] if match else reason, []).extend([int(match[1])] if match else [])
    return tuple(
        f"layers {ranges(found)}: each {rest}" if len(found) > 1 else f"layer {found[0]} {rest}" if found else rest
        for rest, found in layers.items()
    )


def _tokens(queries: tuple[int, ...], text: SentenceRecord) -> tuple[int, ...]:
    """The query tokens that `attn` asks for, from the first. Raises InspectError for one beyond the text."""
    count = len(text.tokens)

    def wrong(query: int) -> InspectError:
        return InspectError(f"query {query} is out of range: what is read there has tokens 0 to {count - 1}")

    return from_start(queries, count, wrong)
