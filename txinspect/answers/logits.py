"""The likeliest next tokens, and how well the model knew the text."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, isfinite, log
from typing import TYPE_CHECKING

from txinspect.answers import words
from txinspect.answers.observing import Running, observe
from txinspect.answers.windows import Window, windows
from txinspect.commands.logits import (
    ContinuationRecord,
    LogitsQuery,
    LogitsReport,
    PredictionRecord,
    ScoredRecord,
    TextScoreRecord,
)
from txinspect.errors import InspectError, spelled
from txinspect.forward.wants import Plan, Selection, Want, named, plan_of
from txinspect.measure import predictions
from txinspect.measure.predictions import Scored
from txinspect.models import tokenizer
from txinspect.models.subject import Subject, context
from txinspect.queries import Notify
from txinspect.records import InputRecord

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.forward.capture import CaughtTensor

BOTH_WAYS = (
    "{name!r} is bidirectional: each token sees those after it, so what the model gives for a position is no "
    "prediction of the next token, and the text has no score."
)


def answer(query: LogitsQuery, notify: Notify) -> LogitsReport:
    """The report of `logits`."""
    reading = _Reading(query)
    observed = observe(query, notify, reading.plan, reading.look, then=reading.continue_on)
    notes = observed.notes
    if reading.both_ways:
        notes = [*observed.findings, BOTH_WAYS.format(name=observed.model.name), *notes[len(observed.findings) :]]
    fields = observed.fields("logits") | {"notes": notes}
    return LogitsReport(
        **fields,
        predictions=reading.records(),
        text_score=reading.text_score(),
        continuations=reading.continuations,
        bidirectional=reading.both_ways,
    )


def plan(subject: Subject, query: LogitsQuery, text: InputRecord) -> Plan:
    """What `logits` records."""
    return _Reading(query).plan(subject, query, text)


@dataclass
class _Position:
    """What was read at a position."""

    entropy: float
    following: Scored | None
    top: list[Scored] = field(default_factory=list)
    targets: list[Scored] = field(default_factory=list)


class _Reading:
    """Reads the logits as they come, so that they need not be kept."""

    def __init__(self, query: LogitsQuery) -> None:
        self.query = query
        self.both_ways = False
        self.continuations: list[ContinuationRecord] = []
        self.positions: dict[int, _Position] = {}

    def plan(self, subject: Subject, query: LogitsQuery, text: InputRecord) -> Plan:
        """The logits, and a row of attention that tells whether a token sees those after it."""
        self.text = text
        self.tokens = tokenizer.load(subject.source, query.model.trust_remote_code, text.text)
        self.asked = set(words.positions(query.position, text))
        self.targets = [
            words.target(self.tokens, text, each, f", or score it whole with {spelled('continuations', (each,))}")
            for each in query.targets
        ]
        self.windows = iter(windows(text, context(subject), query.window_step))
        wants = list(named(subject, ["logits"]).wants)
        first = next(
            (s for s in subject.architecture.supplies() if s.name.endswith("attention.weights") and s.available), None
        )
        if first is not None and len(text.tokens) > 1:
            wants.append(Want(first, Selection(queries=(0,)), by_glob=True, reported=False))
        return plan_of(subject.architecture, wants)

    def look(self, caught: CaughtTensor) -> None:
        """Read what was caught."""
        tensor = caught.tensor.whole()
        if caught.want.supply.name != "logits":
            self.both_ways |= bool(tensor[0, :, 0, 1:].ne(0).any())
            return
        self.read(tensor, next(self.windows))

    def read(self, logits: Tensor, window: Window) -> None:
        """Read the logits of a window: (batch, seq, vocab)."""
        words.check_logits(logits, len(window.text.tokens), self.query.top_k)
        ids = [token.id for token in window.text.tokens]
        begin = max(0, window.fresh - 1 - window.begin)  # the first fresh token is predicted by the one before it
        following: list[int | None] = [*ids[1:], None]
        found = predictions.after_each(logits[0, begin:], following[begin:])
        for place, (entropy, scored) in enumerate(found, begin):
            position = _Position(entropy, scored)
            if window.begin + place in self.asked:
                position.top = predictions.top(logits[0, place], self.query.top_k)
                position.targets = predictions.scores(logits[0, place], self.targets)
            self.positions[window.begin + place] = position

    def continue_on(self, running: Running) -> None:
        """Score the continuations, each in a pass of its own."""
        if self.query.continuations and self.both_ways:
            raise InspectError(BOTH_WAYS.format(name=running.subject.source.name) + " Leave the continuations out.")
        found = [self._continuation(running, each) for each in self.query.continuations]
        self.continuations = sorted(found, key=lambda each: each.logprob if each.logprob is not None else -1e999)[::-1]

    def _continuation(self, running: Running, continuation: str) -> ContinuationRecord:
        """Teacher forcing. Blanks at the prompt's end belong to the word that follows, as in the texts of training."""
        prompt = self.text.text.rstrip(" ")
        moved = self.text.text[len(prompt) :] + continuation
        before = self.tokens.encode(prompt, self.query.special)
        whole = tokenizer.as_input(prompt + moved, self.tokens.encode(prompt + moved, self.query.special))
        ids, start = [token.id for token in whole.tokens], len(before)
        if [token.id for token in before] != ids[:start] or start == len(ids) or not start:
            raise InspectError(
                f"{spelled('continuations')} {continuation!r} cannot be told from the text: together they are other "
                f"tokens than apart; begin it where a token begins, such as with a blank"
            )
        limit = running.subject.architecture.max_positions
        if limit is not None and len(ids) > limit:
            raise InspectError(
                f"the text with {continuation!r} is {len(ids)} tokens long, but {running.subject.source.name!r} has "
                f"{limit} positions: shorten one"
            )
        scored: list[Scored] = []
        likeliest: list[int] = []

        def receive(caught: CaughtTensor) -> None:
            logits = caught.tensor.whole()[0, start - 1 : -1]
            scored.extend(each for _, each in predictions.after_each(logits, ids[start:]) if each is not None)
            likeliest.extend(predictions.likeliest(row, 1)[0] for row in logits)

        running.run(whole, named(running.subject, ["logits"]), receive)
        logprob = sum(each.logprob for each in scored)
        return ContinuationRecord(
            text=continuation,
            tokens=len(scored),
            pieces=[token.text for token in whole.tokens[start:]],
            logprob=logprob,
            greedy=likeliest == ids[start:],
            per_byte=logprob / len(continuation.encode()),
        )

    def records(self) -> list[PredictionRecord]:
        """What was read, in the order of the text."""
        return [self._record(index, position) for index, position in sorted(self.positions.items())]

    def _record(self, index: int, position: _Position) -> PredictionRecord:
        following = None if self.both_ways else position.following
        return PredictionRecord(
            position=index,
            token=self.text.tokens[index].text,
            next=self._scored(following) if following else None,
            surprisal=-following.logprob if following else None,
            entropy=position.entropy,
            top=[self._scored(each) for each in position.top],
            targets=[self._scored(each) for each in position.targets],
        )

    def _scored(self, scored: Scored) -> ScoredRecord:
        return ScoredRecord(
            **words.spelling(self.tokens, scored.id),
            logit=scored.logit,
            prob=scored.prob,
            rank=scored.rank,
            ties=scored.ties,
        )

    def text_score(self) -> TextScoreRecord | None:
        """The sum over the text; None where nothing is predicted."""
        logprobs = [each.following.logprob for each in self.positions.values() if each.following]
        if self.both_ways or not logprobs:
            return None
        total = sum(logprobs)
        size = len(_predicted(self.text).encode())
        return TextScoreRecord(
            tokens=len(logprobs),
            logprob=total,
            perplexity=_exp(-total / len(logprobs)),
            bits_per_byte=-total / log(2) / size if size else None,
        )


def _exp(value: float) -> float | None:
    return exp(value) if isfinite(value) and value < 700 else None


def _predicted(text: InputRecord) -> str:
    """The part of a text that is predicted: all but what its first token stands for."""
    first = text.tokens[0]
    return text.text[first.end or 0 :]
