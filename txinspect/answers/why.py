"""Why the model says what it says: what several commands find of one prediction, and whether ablation confirms it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

from msgspec import structs

from txinspect.answers import module_of
from txinspect.answers.leaving_out import ABOVE, LeavingOut
from txinspect.answers.observing import observe
from txinspect.answers.question import Question
from txinspect.answers.session import Session
from txinspect.commands.attribute import AttributeQuery, AttributeReport, PartRecord
from txinspect.commands.heads import HeadsQuery, Kind
from txinspect.commands.lens import LensQuery
from txinspect.commands.why import ReadRecord, StoryRecord, Verdict, WhyQuery, WhyReport, WithoutRecord
from txinspect.errors import InspectError
from txinspect.measure.reading import shares
from txinspect.queries import read_by

READS = 2
"""Tokens that a head is said to read from."""

ENOUGH = 0.5
"""Of what the parts wrote, how much the difference must fall without them."""

TIMES = 2.0
"""How much more it must fall without them than without others."""


def answer(query: WhyQuery, session: Session) -> WhyReport:
    """The report of `why`."""
    session.keeps_weights = True  # for all its questions
    wrote = _wrote(query, session)
    left = LeavingOut(_attribute(query), wrote, query.top_k, query.seed)
    observed = observe(left, session)
    first, decided = _when(query, wrote, session)
    kinds = _kinds(query, [*left.chosen, *left.carriers], session)
    failed = [check for check in wrote.checks or () if check.passed is False]
    return replace(observed, checks=failed or None).report(
        WhyReport,
        "why",
        position=wrote.position,
        likely=left.likely,
        target=wrote.target,
        wrong=wrote.wrong,
        first_at=first,
        decided_at=decided,
        logit=left.logit,
        parts=_story(left, left.chosen, kinds),
        carriers=_story(left, left.carriers, kinds),
        written=left.sum,
        others=len(wrote.parts) - len(left.chosen),
        without=left.without,
        control=left.control,
        cap=wrote.cap,
        noise=left.noise,
        verdict=verdict(left.sum, left.logit, left.without, left.control, left.noise),
    )


def questions(query: WhyQuery) -> list[Question[Any]]:
    """What `why` asks: attribute's pass is all of the model's, as its other passes are."""
    return [Question(_attribute(query))]


def _read(query: WhyQuery) -> dict[str, Any]:
    """The fields of a query about the model and the text of `why`."""
    return {**read_by(query), "model": query.model}


def _attribute(query: WhyQuery) -> AttributeQuery:
    """What `why` asks of `attribute`."""
    return AttributeQuery(**_read(query), target=query.target, wrong=query.wrong, position=query.position)


def _wrote(query: WhyQuery, session: Session) -> AttributeReport:
    """What wrote the difference that `why` is about."""
    report: AttributeReport = module_of(_attribute(query)).answer(_attribute(query), session)
    if report.wrong is None:
        raise InspectError(f"the vocabulary of {report.model.name!r} has one token: there is nothing to tell it from")
    return report


def _when(query: WhyQuery, wrote: AttributeReport, session: Session) -> tuple[int | None, int | None]:
    """When the likeliest token was there, by the lens: first, and for good; None where that cannot be read."""
    asked = LensQuery(**_read(query), position=(wrote.position,), top_k=1)
    try:
        (found,) = module_of(asked).answer(asked, session).positions
    except InspectError:
        return None, None
    return found.first_at, found.decided_at


Kinds = dict[tuple[int | None, int | None], list[Kind]]


def _kinds(query: WhyQuery, story: Sequence[PartRecord], session: Session) -> Kinds:
    """The kinds of the story's heads by this text, by layer and head; none where they cannot be told."""
    layers = tuple(sorted({part.layer for part in story if part.kind == "head" and part.layer is not None}))
    if not layers:
        return {}
    asked = HeadsQuery(**_read(query), layers=layers)
    try:
        report = module_of(asked).answer(asked, session)
    except InspectError:
        return {}
    return {(head.layer, head.head): head.labels for head in report.heads}


def _story(left: LeavingOut, parts: Sequence[PartRecord], kinds: Kinds) -> list[StoryRecord]:
    """Parts of the story, each head with its kinds and the tokens that it reads from."""
    return [
        StoryRecord(
            **structs.asdict(part),
            fall=left.fall(part),
            labels=kinds.get((part.layer, part.head), []) if part.kind == "head" else [],
            reads=list(_reads(left, part)),
        )
        for part in parts
    ]


def _reads(left: LeavingOut, part: PartRecord) -> Iterator[ReadRecord]:
    """The tokens that a head of `why` reads from the most, by weight times the length of the value."""
    begin = part.name.removesuffix("context")
    if part.head is None or begin not in left.weights:
        return
    words = (left.text if part.kind == "cross head" else left.text.main).words
    weights = left.weights[begin]
    found = shares(weights[part.head], left.values.get(begin), part.head, len(weights))
    for index in sorted(range(min(len(found), len(words))), key=lambda each: -found[each])[:READS]:
        yield ReadRecord(index=index, token=words[index], share=found[index])


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
    if not isfinite(fall):
        return "not confirmed"
    if abs(fall) <= ABOVE * noise:
        return "below the noise"
    if fall < ENOUGH * abs(written):
        return "made up for" if fall > 0 else "not confirmed"
    return "confirmed" if fall >= TIMES * abs(other) else "no more than others"
