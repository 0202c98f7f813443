"""Which parts of the model wrote a logit: a sum beside the model's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any

from txinspect.answers import attributing
from txinspect.answers.attributing.tokens import GAP, by_token
from txinspect.answers.observing import observe
from txinspect.answers.question import Question
from txinspect.answers.running import Running
from txinspect.answers.session import Session
from txinspect.commands.attribute import (
    AttributeQuery,
    AttributeReport,
    ExpertRecord,
    NeuronRecord,
    PartKind,
    PartRecord,
    TokensRecord,
)
from txinspect.errors import InspectError, StageError, spelled
from txinspect.forward.contributions import EXACT, Contribution, Sum
from txinspect.forward.wants import Plan, plan_of_names
from txinspect.loading.subject import Subject
from txinspect.records import CheckRecord, InputRecord, VocabularyRecord
from txinspect.texts import masking, targets, tokens

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.forward.capture import CaughtTensor
    from txinspect.texts.opened import Opened

KINDS: dict[str, PartKind] = {
    "token_embeddings": "embedding",
    "position_embeddings": "positions",
    "token_type_embeddings": "segments",
    "attention.context": "head",
    "attention.output": "attention",
    "cross_attention.context": "cross head",
    "cross_attention.output": "cross attention",
    "mixer.output": "mixer",
    "mlp.output": "mlp",
}
"""What a stage is called as a part; parameters and rests are called what they are."""

STEPS = 4
"""In half precision: of both logits, in steps between its numbers."""


def answer(query: AttributeQuery, session: Session) -> AttributeReport:
    """The report of `attribute`."""
    asked = _Attribution(query)
    observed = observe(asked, session)
    found = asked.records()
    return replace(observed, checks=asked.checks()).report(AttributeReport, "attribute", last=asked.notes(), **found)


def questions(query: AttributeQuery) -> list[_Attribution]:
    """What `attribute` asks."""
    return [_Attribution(query)]


class _Attribution(Question[AttributeQuery]):
    """Runs the text once more, with the graph cut where parts write."""

    def read(self, opened: Opened) -> InputRecord:
        """The tokens that `attribute` runs on."""
        self.opened = opened
        return super().read(opened)

    def meet(self, subject: Subject, text: InputRecord) -> None:
        """Find where the logit is that `attribute` is about, and whose; refuse what is no sum."""
        self.subject, self.text = subject, text
        self.logits = plan_of_names(subject, ["logits"])
        self.tokens = subject.opened.tokens(text.text)
        attributing.check(subject)
        self.position = self._position(subject, text)
        before = "" if subject.task.name == "masked-lm" else text.spoken
        query = self.query
        one = partial(targets.target, self.tokens, before)
        self.target = None if query.target is None else one(query.target, field="target")
        self.wrong = one(query.wrong, field="wrong") if query.wrong else None
        if self.target is not None and self.target == self.wrong:
            raise InspectError(f"{spelled('target')} and {spelled('wrong')} are the same token: give another")

    def plan(self, subject: Subject, text: InputRecord) -> Plan:
        """What `attribute` records: the logits, of which it reports none."""
        return replace(self.logits, wants=[replace(want, reported=False) for want in self.logits.wants])

    def look(self, caught: CaughtTensor) -> None:
        """Learn the likeliest tokens from the model's own logits, where `attribute` is not told."""
        row = caught.copied()[0, self.position]
        likeliest = [each for each in row.topk(min(2, len(row))).indices.tolist() if each != self.wrong]
        if self.target is None:
            self.target = likeliest[0]
        if self.wrong is None and self.query.wrong != "":
            self.wrong = next(each for each in likeliest if each != self.target)

    def then(self, running: Running) -> None:
        """Run the text with the graph cut, for `attribute`, and look into MLPs and tokens where that is asked."""
        query = self.query
        self.half = running.model.dtype.itemsize < 4
        self.eps = attributing.eps(running.model)
        inside = attributing.Inside(self.position, query.neurons, query.experts)
        self.sum = attributing.summed(running, self.text, self.value, inside)
        self.neurons = [NeuronRecord(**vars(each)) for each in inside.neurons]
        self.experts = [ExpertRecord(**vars(each)) for each in inside.experts]
        self.by_token: TokensRecord | None = None
        if query.tokens is not None:
            self.by_token = by_token(query.tokens, running, self.text, self.logits, self.value)

    def value(self, logits: Tensor) -> Tensor:
        """What the sum of `attribute` is of logits, (batch, seq, vocab): (batch)."""
        row = logits[:, self.position]
        return row[:, self.target] - row[:, self.wrong] if self.wrong is not None else row[:, self.target]

    def records(self) -> dict[str, Any]:
        """The fields of the report that `attribute` found."""
        parts = [*self._parts(self.sum)]
        row = self.sum.logits[0, self.position].double()
        own, other = float(row[self.target]), None if self.wrong is None else float(row[self.wrong])
        self.logit = own - (other or 0.0)
        self.total = sum(part.value or 0.0 for part in parts)
        self.tolerance = STEPS * self.eps * (abs(own) + abs(other or 0.0))
        if not self.half:
            self.tolerance = EXACT * sum(abs(part.value or 0.0) for part in parts)
        return {
            "position": self.position,
            "target": self._spelled(self.target),
            "wrong": None if self.wrong is None else self._spelled(self.wrong),
            "target_logit": own,
            "wrong_logit": other,
            "cap": self.sum.cap,
            "parts": parts,
            "total": self.total,
            "logit": self.logit,
            "remainder": self.logit - self.total,
            "tolerance": self.tolerance,
            "neurons": self.neurons,
            "experts": self.experts,
            "by_token": self.by_token,
        }

    def checks(self) -> list[CheckRecord]:
        """Whether the parts of `attribute` add up to the model's logit, and the tokens' shares to its change."""
        found = [self._adds_up()]
        if self.by_token is not None and self.by_token.gap is not None:
            gap, steps = self.by_token.gap, self.by_token.steps
            detail = f"the tokens' shares miss the change that they are of by {gap:.2%} in {steps} steps, 1 % at most"
            found.append(CheckRecord(name="completeness", passed=gap < GAP, detail=detail))
        return found

    def _adds_up(self) -> CheckRecord:
        """Whether the parts of `attribute` add up."""
        remainder = abs(self.logit - self.total)
        passed = isfinite(remainder) and remainder <= self.tolerance
        detail = f"the parts add up to {self.total:.6g}, and the model's logit is {self.logit:.6g}"
        told = "; give --dtype float32" if self.half and not passed else ""
        return CheckRecord(name="sum", passed=passed, detail=f"{detail}: {self.tolerance:.2g} apart at most{told}")

    def notes(self) -> list[str]:
        """What to know of the sum of `attribute`."""
        said = ["Norms' scales are frozen: a part's share is not what is lost without it."]
        if self.sum.activations:
            said.append(f"So is the slope of the head's {', '.join(sorted(self.sum.activations))}.")
        if self.sum.cap is not None:
            said.append(f"The logits are as they are before the cap of {self.sum.cap:g}.")
        if self.half:
            said.append("Half precision rounds: --dtype float32 leaves less over.")
        if any(part.kind == "rest" for part in self.sum.parts):
            said.append("A rest is what a layer adds to the stream that none of its named parts explains.")
        return said

    def _spelled(self, token: int | None) -> VocabularyRecord:
        assert token is not None
        return VocabularyRecord(**tokens.spelling(self.tokens, token))

    def _position(self, subject: Subject, text: InputRecord) -> int:
        """Where the logit is that `attribute` is about. Raises InspectError for a position there is not."""
        if "vocab" not in (subject.architecture.output.axes or ()):
            raise StageError(f"{subject.source.name!r} ({subject.task.class_name}) gives no logits of tokens to add up")
        if self.query.position is not None:
            return targets.positions((self.query.position,), text.main)[0]
        if subject.task.name != "masked-lm":
            return len(text.main.tokens) - 1
        masks = masking.masks(subject.source, self.tokens, text, otherwise=f", or give {spelled('position')}")
        if len(masks) > 1:
            raise InspectError(
                f"the text has {len(masks)} masks, at {', '.join(map(str, masks))}", f"give {spelled('position')}"
            )
        return masks[0]

    def _parts(self, found: Sum) -> Iterator[PartRecord]:
        """The parts of the sum of `attribute` as records: each head of a context by itself."""
        for part in sorted(found.parts, key=_place):
            by_head = part.kind.endswith("context")
            for head, value in enumerate(part.values):
                yield PartRecord(
                    kind=KINDS.get(part.kind, part.kind),  # type: ignore[arg-type]
                    layer=part.layer,
                    head=head if by_head else None,
                    name=part.name,
                    value=value,
                )


ORDER = ("token_embeddings", "position_embeddings", "token_type_embeddings", "embedding bias")
WITHIN = (
    *("attention.context", "attention.output", "attention bias"),
    *("cross_attention.context", "cross_attention.output"),
)


def _place(part: Contribution) -> tuple[int, int]:
    """Where a part of a sum stands: in the order of the pass."""
    if part.kind in ORDER:
        return -1, ORDER.index(part.kind)
    if part.layer is not None:
        return part.layer, WITHIN.index(part.kind) if part.kind in WITHIN else len(WITHIN)
    return (1 << 20), 1 if part.kind == "head bias" else 0
