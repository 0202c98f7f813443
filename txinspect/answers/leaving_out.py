"""What falls without parts of the model that wrote a difference of logits: each alone, some of them, others beside."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from txinspect.answers import sweeping
from txinspect.answers.editing import Editing
from txinspect.answers.question import Question
from txinspect.answers.running import Running
from txinspect.commands.attribute import AttributeQuery, AttributeReport, PartRecord
from txinspect.commands.lens import LikelyRecord
from txinspect.commands.why import WithoutRecord
from txinspect.edits import Edit
from txinspect.errors import InspectError, StageError, spelled
from txinspect.forward.wants import Plan, Selection, Want, plan_of, plan_of_names
from txinspect.loading.subject import Subject
from txinspect.measure import predictions
from txinspect.records import InputRecord
from txinspect.texts import masking, tokens

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.forward.capture import CaughtTensor
    from txinspect.texts.opened import Opened

LIKELY = 3
"""Likeliest tokens that are named."""

COMPUTED = ("head", "cross head", "attention", "cross attention", "mixer", "mlp")
"""Kinds of parts that compute what they write from the text, and so can be left out."""

CARRIERS = 2
"""Parts that are named besides, without which the difference falls."""

CARRIES = 0.25
"""Of the difference, how much it must fall without one of them."""

ABOVE = 10.0
"""Times the noise that a fall must be."""


class LeavingOut(Question[AttributeQuery]):
    """Runs the text without each part that computes what it writes, without those of the story, and without others."""

    def __init__(self, query: AttributeQuery, wrote: AttributeReport, most: int, seed: int) -> None:
        super().__init__(query)
        self.wrote, self.seed = wrote, seed
        self.decoder = wrote.input.decoder
        self.computed = [part for part in wrote.parts if part.kind in COMPUTED]
        self.chosen = sorted(self.computed, key=lambda part: -abs(part.value or 0.0))[:most]
        self.sum = sum(part.value or 0.0 for part in self.chosen)
        self.noise = 0.0
        self.weights: dict[str, Tensor] = {}
        self.values: dict[str, Tensor] = {}
        if not self.chosen:
            raise StageError(f"{wrote.model.name!r} has no parts that compute what they write")

    def read(self, opened: Opened) -> InputRecord:
        """The tokens that `why` runs on."""
        self.opened = opened
        return super().read(opened)

    def meet(self, subject: Subject, text: InputRecord) -> None:
        """Find the stages that `why` looks at: the logits, and where its heads look."""
        self.subject, self.text = subject, text
        own = text if subject.task.name == "masked-lm" else text.main
        token = own.tokens[self.wrote.position]
        if token.special and token.id != masking.mask_id(subject.source, subject.opened.tokens(text.text)):
            raise InspectError(
                f"token {token.index}, {token.token}, is special: a mean over ordinary tokens leaves it as it is, and "
                f"nothing there could be left out",
                f"give another by {spelled('position')}, or a longer text",
            )
        self.logits = plan_of_names(subject, ["logits"])
        self.swept = sweeping.Sweep(self.logits)

    def plan(self, subject: Subject, text: InputRecord) -> Plan:
        """What `why` records: the logits, the weights and values of the heads that it names."""
        heads = {part.name.removesuffix("context") for part in self.computed if part.head is not None}
        names = {f"{name}{part}" for name in heads for part in ("weights", "v")}
        here = Selection(queries=(self.wrote.position,))
        looked = [
            Want(supply, here if supply.part == "weights" else Selection(), by_glob=True)
            for supply in subject.architecture.supplies()
            if supply.name in names and supply.available
        ]
        return plan_of(subject.architecture, [replace(each, reported=False) for each in (*self.logits.wants, *looked)])

    def look(self, caught: CaughtTensor) -> None:
        """Keep what `why` needs of the pass: one row of the logits, one query's weights, the values."""
        supply, place = caught.want.supply, self.wrote.position
        if supply.tap == "logits":
            whole = caught.copied()
            self.size, row = whole.numel(), whole[0, place]
            self.logit = self._difference(row)
            self.likely = self._likely(row)
        elif supply.part == "weights" and caught.run == 1:
            self.weights[supply.name.removesuffix("weights")] = caught.copied()[0, :, 0].double().cpu()
        elif supply.part == "v" and caught.run == 1:
            self.values[supply.name.removesuffix("v")] = caught.copied()[0].double().cpu()

    def then(self, running: Running) -> None:
        """Run the text without each part, without those of the story, and without as many others."""
        edits = [_edit(part) for part in self.computed]
        editing = Editing(edits, self.query, self.subject, self.text, generates=False)
        self._changes = editing.by_edit(running, self.opened)
        many, count = sweeping.at_once(self.size), len(self.computed)
        batches = [self.computed[begin : begin + many] for begin in range(0, count, many)]
        alone = [
            logit
            for batch in running.counted("leaving out parts", batches)
            for logit in self._left_out(running, [[part] for part in batch])
        ]
        self.falls = {
            _name(part): self.way * (self.logit - each) for part, each in zip(self.computed, alone, strict=True)
        }
        self.carriers = self._carriers()
        sets = [[*self.chosen, *self.carriers], *([others] if (others := self._others()) else [])]
        records = [
            WithoutRecord(parts=[_name(part) for part in parts], logit=logit)
            for parts, logit in zip(sets, self._left_out(running, sets), strict=True)
        ]
        self.without, self.control = records[0], records[1] if len(records) > 1 else None

    def _left_out(self, running: Running, sets: Sequence[Sequence[PartRecord]]) -> list[float]:
        """The difference without each set of parts, in one batch with the text as it is."""
        changed = [[each for part in parts for each in self._changes[_edit(part)]] for parts in sets]
        # What is changed is written in all rows: in the first two, as it was.
        found = self.swept.rows(running, self.text, [[], [], *changed])
        plain, null, *without = (self._difference(row[0, self.wrote.position]) for row in found)
        self.noise = max(self.noise, abs(plain - self.logit), abs(null - plain))
        return without

    def _carriers(self) -> list[PartRecord]:
        """Parts that wrote little, and without which the difference falls: those of the story read what is theirs."""
        least = max(CARRIES * abs(self.logit), ABOVE * self.noise)
        others = [part for part in self.computed if part not in self.chosen and self.fall(part) >= least]
        return sorted(others, key=lambda part: -self.fall(part))[:CARRIERS]

    def fall(self, part: PartRecord) -> float:
        """How much the difference falls without a part alone."""
        return self.falls[_name(part)]

    def _others(self) -> list[PartRecord]:
        """As many other parts of each kind, drawn at random; of few others all."""
        story = [*self.chosen, *self.carriers]
        drawn: list[PartRecord] = []
        chance = random.Random(self.seed)
        for kind in dict.fromkeys(part.kind for part in story):
            wanted = sum(part.kind == kind for part in story)
            left = [part for part in self.computed if part.kind == kind and part not in story]
            drawn += chance.sample(left, min(wanted, len(left)))
        return drawn

    def _difference(self, row: Tensor) -> float:
        """The target's logit less the wrong one's, before a cap: what was written is of that."""
        assert self.wrote.wrong is not None
        target, wrong = (row[each.id].double() for each in (self.wrote.target, self.wrote.wrong))
        cap = self.wrote.cap
        return float(target - wrong) if cap is None else float(cap * ((target / cap).atanh() - (wrong / cap).atanh()))

    @property
    def way(self) -> float:
        """The sign of the difference: it falls toward zero and beyond."""
        return -1.0 if self.logit < 0 else 1.0

    def _likely(self, row: Tensor) -> list[LikelyRecord]:
        """The likeliest tokens of a row of logits."""
        spelled_by = self.subject.opened.tokens(self.text.text)
        return [
            LikelyRecord(**tokens.spelling(spelled_by, each.id), prob=each.prob)
            for each in predictions.top(row, min(LIKELY, len(row)))
        ]


def _edit(part: PartRecord) -> Edit:
    """What leaves a part out: its mean over the text's tokens."""
    return Edit(part.name if part.head is None else f"{part.name}[head={part.head}]", "=", "mean")


def _name(part: PartRecord) -> str:
    return part.name if part.head is None else f"{part.name}[head={part.head}]"
