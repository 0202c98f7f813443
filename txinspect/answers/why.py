"""Why the model says what it says: what several commands find of one prediction, and whether ablation confirms it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from msgspec import structs

from txinspect.answers import module_of, sweeping
from txinspect.answers.editing import Editing
from txinspect.answers.observing import observe
from txinspect.answers.question import Question
from txinspect.answers.running import Running
from txinspect.answers.session import Session
from txinspect.commands.attribute import AttributeQuery, AttributeReport, PartRecord
from txinspect.commands.heads import HeadsQuery, Kind
from txinspect.commands.lens import LensQuery, LikelyRecord
from txinspect.commands.why import ReadRecord, StoryRecord, Verdict, WhyQuery, WhyReport, WithoutRecord
from txinspect.edits import Edit
from txinspect.errors import InspectError, StageError
from txinspect.forward.wants import Plan, Selection, Want, plan_of, plan_of_names
from txinspect.loading.subject import Subject
from txinspect.measure import predictions
from txinspect.measure.reading import shares
from txinspect.queries import read_by
from txinspect.records import InputRecord
from txinspect.texts import tokens

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.forward.capture import CaughtTensor
    from txinspect.texts.opened import Opened

LIKELY = 3
"""Likeliest tokens that are named."""

READS = 2
"""Tokens that a head is said to read from."""

COMPUTED = ("head", "cross head", "attention", "cross attention", "mixer", "mlp")
"""Kinds of parts that compute what they write from the text, and so can be left out."""

CARRIERS = 2
"""Parts that are named besides, without which the difference falls."""

CARRIES = 0.25
"""Of the difference, how much it must fall without one of them."""

ENOUGH = 0.5
"""Of what the parts wrote, how much the difference must fall without them."""

TIMES = 2.0
"""How much more it must fall without them than without others."""

ABOVE = 10.0
"""Times the noise that a fall must be."""


def answer(query: WhyQuery, session: Session) -> WhyReport:
    """The report of `why`."""
    session.keeps_weights = True  # for all its questions
    wrote = _wrote(query, session)
    asked = _Without(wrote, query, session)
    observed = observe(asked, session)
    when = _when(query, wrote, session)
    return observed.report(
        WhyReport,
        "why",
        position=wrote.position,
        likely=asked.likely,
        target=wrote.target,
        wrong=wrote.wrong,
        logit=asked.logit,
        parts=asked.story(asked.chosen),
        carriers=asked.story(asked.carriers),
        written=asked.sum,
        others=len(wrote.parts) - len(asked.chosen),
        without=asked.without,
        control=asked.control,
        noise=asked.noise,
        verdict=verdict(asked.sum, asked.logit, asked.without, asked.control, asked.noise),
        first_at=when[0],
        decided_at=when[1],
    )


def questions(query: WhyQuery) -> list[Question[Any]]:
    """What `why` asks: attribute's pass is all of the model's, as its other passes are."""
    return [Question(_attribute(query))]


def _attribute(query: WhyQuery) -> AttributeQuery:
    """What `why` asks of `attribute`."""
    return AttributeQuery(**_read(query), target=query.target, wrong=query.wrong, position=query.position)


def _wrote(query: WhyQuery, session: Session) -> AttributeReport:
    """What wrote the difference that `why` is about."""
    report: AttributeReport = module_of(_attribute(query)).answer(_attribute(query), session)
    failed = next((check.detail for check in report.checks or () if check.passed is False), None)
    if failed is not None:
        raise InspectError(f"which parts wrote it cannot be said: {failed}")
    if report.wrong is None:
        raise InspectError(f"the vocabulary of {report.model.name!r} has one token: there is nothing to tell it from")
    return report


def _when(query: WhyQuery, wrote: AttributeReport, session: Session) -> tuple[int | None, int | None]:
    """When the likeliest token was there, by the lens; null where that cannot be read."""
    asked = LensQuery(**_read(query), position=(wrote.position,), top_k=1)
    try:
        (found,) = module_of(asked).answer(asked, session).positions
    except InspectError:
        return None, None
    return found.first_at, found.decided_at


def _read(query: WhyQuery) -> dict[str, Any]:
    """The fields of a query about the model and the text of `why`."""
    return {**read_by(query), "model": query.model}


class _Without(Question[AttributeQuery]):
    """Runs the text without the parts that wrote the most, and without others, in one batch."""

    def __init__(self, wrote: AttributeReport, query: WhyQuery, session: Session) -> None:
        super().__init__(_attribute(query))
        self.wrote, self.why, self.session = wrote, query, session
        self.decoder = wrote.input.decoder
        self.computed = [part for part in wrote.parts if part.kind in COMPUTED]
        self.chosen = sorted(self.computed, key=lambda part: -abs(part.value or 0.0))[: query.top_k]
        self.sum = sum(part.value or 0.0 for part in self.chosen)
        self.noise = 0.0
        self._weights: dict[str, Tensor] = {}
        self._values: dict[str, Tensor] = {}
        if not self.chosen:
            raise StageError(f"{wrote.model.name!r} has no parts that compute what they write")

    def read(self, opened: Opened) -> InputRecord:
        """The tokens that `why` runs on."""
        self.opened = opened
        return super().read(opened)

    def meet(self, subject: Subject, text: InputRecord) -> None:
        """Find the stages that `why` looks at: the logits, and where its heads look."""
        self.subject, self.text = subject, text
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
            self._weights[supply.name.removesuffix("weights")] = caught.copied()[0, :, 0].double().cpu()
        elif supply.part == "v" and caught.run == 1:
            self._values[supply.name.removesuffix("v")] = caught.copied()[0].double().cpu()

    def then(self, running: Running) -> None:
        """Run the text without each part, without those of the story, and without as many others."""
        edits = [_edit(part) for part in self.computed]
        editing = Editing(edits, self.query, self.subject, self.text, generates=False)
        self._changes = dict(zip(edits, editing.changes(running, self.opened), strict=True))
        many, count = sweeping.at_once(self.size), len(self.computed)
        batches = [self.computed[begin : begin + many] for begin in range(0, count, many)]
        alone = [
            logit
            for batch in running.counted("leaving out parts", batches)
            for logit in self._left_out(running, [[part] for part in batch])
        ]
        self.falls = {_name(part): self.logit - each for part, each in zip(self.computed, alone, strict=True)}
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
        way = -1.0 if self.logit < 0 else 1.0
        others = [part for part in self.computed if part not in self.chosen and way * self._fall(part) >= least]
        return sorted(others, key=lambda part: -way * self._fall(part))[:CARRIERS]

    def _fall(self, part: PartRecord) -> float:
        """How much the difference falls without a part alone."""
        return self.falls[_name(part)]

    def story(self, parts: Sequence[PartRecord]) -> list[StoryRecord]:
        """Parts of the story, each head with its kinds and the tokens that it reads from."""
        kinds = self._kinds
        return [
            StoryRecord(
                **structs.asdict(part),
                fall=self._fall(part),
                labels=kinds.get((part.layer, part.head), []) if part.kind == "head" else [],
                reads=list(self._reads(part)),
            )
            for part in parts
        ]

    def _others(self) -> list[PartRecord]:
        """As many other parts of each kind, drawn at random; of few others all."""
        story = [*self.chosen, *self.carriers]
        drawn: list[PartRecord] = []
        chance = random.Random(self.why.seed)
        for kind in dict.fromkeys(part.kind for part in story):
            wanted = sum(part.kind == kind for part in story)
            left = [part for part in self.computed if part.kind == kind and part not in story]
            drawn += chance.sample(left, min(wanted, len(left)))
        return drawn

    @cached_property
    def _kinds(self) -> dict[tuple[int | None, int | None], list[Kind]]:
        """The kinds of heads by this text, by layer and head; none where they cannot be told."""
        story = (*self.chosen, *self.carriers)
        layers = tuple(sorted({part.layer for part in story if part.kind == "head" and part.layer is not None}))
        if not layers:
            return {}
        asked = HeadsQuery(**_read(self.why), layers=layers)
        try:
            report = module_of(asked).answer(asked, self.session)
        except InspectError:
            return {}
        return {(head.layer, head.head): head.labels for head in report.heads}

    def _reads(self, part: PartRecord) -> Iterator[ReadRecord]:
        """The tokens that a head of `why` reads from the most, by weight times the length of the value."""
        begin = part.name.removesuffix("context")
        if part.head is None or begin not in self._weights:
            return
        text = self.text if part.kind == "cross head" else self.text.main
        found = shares(self._weights[begin][part.head], self._values.get(begin), part.head, len(self._weights[begin]))
        for index in sorted(range(len(found)), key=lambda each: -found[each])[:READS]:
            if index < len(text.words):
                yield ReadRecord(index=index, token=text.words[index], share=found[index])

    def _difference(self, row: Tensor) -> float:
        """The target's logit less the wrong one's."""
        assert self.wrote.wrong is not None
        return float(row[self.wrote.target.id].double() - row[self.wrote.wrong.id].double())

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


def verdict(
    written: float, logit: float, without: WithoutRecord, control: WithoutRecord | None, noise: float
) -> Verdict:
    """Whether leaving parts out confirms that they `written` so much of a difference of logits."""
    way = -1.0 if logit < 0 else 1.0
    if way * written < ENOUGH * abs(logit):
        return "too few"
    fall, other = (
        way * (logit - each.logit) if each is not None and each.logit is not None else 0.0
        for each in (without, control)
    )
    if abs(fall) <= ABOVE * noise:
        return "below the noise"
    if fall < ENOUGH * abs(written):
        return "made up for" if fall > 0 else "not confirmed"
    return "confirmed" if fall >= TIMES * abs(other) else "no more than others"
