"""What kind of head each one is."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from txinspect.answers import stacks
from txinspect.answers.observing import observe
from txinspect.answers.question import Question
from txinspect.answers.session import Session
from txinspect.commands.heads import HeadsQuery, HeadsReport, KindRecord
from txinspect.errors import InspectError, StageError, UsageError, spelled
from txinspect.forward.projections import Projections
from txinspect.forward.wants import Plan, Want, check_layers, plan_of
from txinspect.loading.subject import Subject
from txinspect.measure import kinds
from txinspect.records import InputRecord
from txinspect.texts.opened import Opened
from txinspect.texts.tokens import as_input
from txinspect.wording import ranges

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.anatomy.architecture import Stack
    from txinspect.forward.capture import CaughtTensor


def answer(query: HeadsQuery, session: Session) -> HeadsReport:
    """The report of `heads`."""
    reading = _Reading(query)
    return observe(reading, session).report(
        HeadsReport,
        "heads",
        last=reading.notes(),
        stack=reading.stack,
        heads=reading.heads,
        sinks=kinds.sinks(reading.on_keys),
        copies=query.length if query.random else None,
    )


def questions(query: HeadsQuery) -> list[_Reading]:
    """What `heads` asks."""
    return [_Reading(query)]


class _Reading(Question[HeadsQuery]):
    """Measures the heads as their weights come."""

    def __init__(self, query: HeadsQuery) -> None:
        super().__init__(query)
        self.stack: Any = None
        self.heads: list[KindRecord] = []
        self.on_keys: list[list[float]] = []
        self.scales: dict[tuple[str | None, int], Tensor] = {}  # values: (kv_head, key, head_dim)
        self.other: list[int] = []
        self.projections: Projections | None = None

    def read(self, opened: Opened) -> InputRecord:
        """The text that `heads` reads; with `random`, repeated ordinary tokens after the first special token.

        Each is drawn for itself, by `choice` of Python's random.Random. Raises InspectError for a tokenizer without
        ordinary tokens.
        """
        query = self.query
        if not query.random:
            return super().read(opened)
        tokens = opened.tokens()
        ordinary = tokens.ordinary()
        if not ordinary:
            raise InspectError(f"the tokenizer of {opened.source.name!r} has no ordinary tokens to draw from")
        before = [token.id for token in tokens.encode("a", query.special)[:1] if token.special]
        drawn = random.Random(query.seed)
        copy = [drawn.choice(ordinary) for _ in range(query.length)]
        ids = [*before, *copy * query.repeats]
        records = [tokens.record(token_id, index) for index, token_id in enumerate(ids)]
        shown = "".join(record.text or "�" for record in records[len(before) :])
        return as_input(shown, records)

    def meet(self, subject: Subject, text: InputRecord) -> None:
        """Find the stack whose heads are asked about, the tokens that it reads, what weighs their values."""
        query = self.query
        stack = subject.architecture.main
        if query.encoder:
            stack = stacks.encoder(subject, "encoder")
        elif query.random and subject.has_decoder:
            raise UsageError(
                f"{spelled('random', True)} repeats tokens of the text that the encoder reads: add "
                f"{spelled('encoder', True)}"
            )
        self.text, self.stack = text.read_by(stack.prefix), stack.prefix.rstrip(".") or None
        if len(self.text.tokens) < 2:
            raise InspectError("the text is one token, which can look at nothing but itself: give a longer one")
        self.wants = self._wants(subject, stack)
        if query.weighted == "output":
            paths = dict.fromkeys(want.supply.module for want in self.wants if want.supply.module)
            self.projections = Projections(list(paths))

    def _wants(self, subject: Subject, stack: Stack) -> list[Want]:
        """The attention weights that `heads` measures; before each the values where they are weighed by them."""
        query, name = self.query, subject.source.name
        layers = check_layers(stacks.whose(subject, stack), query.layers, len(stack.layers))
        parts = ("v", "weights") if query.weighted else ("weights",)
        wanted = {f"{stack.prefix}layers.{layer}.attention.{part}" for layer in layers for part in parts}
        supplies = [supply for supply in subject.architecture.supplies() if supply.name in wanted]
        if not any(supply.available for supply in supplies):
            raise StageError(f"{name!r}: {supplies[0].reason}" if supplies else f"{name!r} has no layers")
        kept = query.save is not None or query.values or bool(query.fail_on)
        return [
            Want(supply, by_glob=True, reported=kept and supply.part == "weights")
            for supply in supplies
            if supply.available
        ]

    def plan(self, subject: Subject, text: InputRecord) -> Plan:
        """What `heads` records: attention weights, and which module makes an output of the values that weigh them."""
        watches = () if self.projections is None else (self.projections,)
        return plan_of(subject.architecture, self.wants, watches=watches)

    def look(self, caught: CaughtTensor) -> None:
        """Measure what kind each head of an attention is, as its weights come."""
        layer, place = caught.want.supply.layer or 0, (caught.want.supply.module, caught.run)
        if caught.want.supply.part == "v":
            self.scales[place] = caught.tensor.whole()[0]
            return
        shape, count = caught.tensor.shape, len(self.text.tokens)
        if len(shape) != 4 or shape[2] != count or shape[3] != count:
            self.other.append(layer)
            return
        measured = kinds.measure(
            caught.tensor.blocks,
            layer,
            caught.run,
            special=self.text.specials,
            copy=self.query.length if self.query.random else None,
            skipped=len(self.text.tokens) - self.query.length * self.query.repeats if self.query.random else 0,
            scale=self._scale(place, shape[1]),
        )
        self.heads += measured.heads
        self.on_keys += measured.on_keys

    def _scale(self, place: tuple[str | None, int], heads: int) -> Tensor | None:
        """How long what each key passes on is, by which `heads` weighs: (head, key); heads may share a value."""
        values = self.scales.pop(place, None)
        if values is None:
            return None
        values = values.repeat_interleave(heads // values.shape[0], dim=0)
        if self.projections is None or place[0] is None:
            lengths: Tensor = values.float().norm(dim=-1)
            return lengths
        return self.projections.lengths(place[0], values)

    def notes(self) -> list[str]:
        """What the numbers that `heads` gives are of, and which layers are left out."""
        how = {
            "value": "the length of each value",
            "output": "the length of what the output projection makes of a value",
        }
        notes = [f"Weights are shares of what is moved, by {how[self.query.weighted]}."] if self.query.weighted else []
        if not self.other:
            return notes
        return [
            *notes,
            f"Layers {ranges(sorted(set(self.other)))} attend to positions that are not the text's tokens: their heads "
            f"are left out.",
        ]
