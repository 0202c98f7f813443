"""The likeliest next tokens, and how well the model knew the text."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from math import log
from typing import TYPE_CHECKING

from txinspect.answers import labels, pseudo_score
from txinspect.answers.limits import check_logits
from txinspect.answers.observing import observe
from txinspect.answers.question import Question
from txinspect.answers.running import Running
from txinspect.answers.session import Session
from txinspect.commands.logits import (
    ContinuationRecord,
    LabelRecord,
    LogitsQuery,
    LogitsReport,
    PredictionRecord,
    PseudoScoreRecord,
    ScoredRecord,
    TextScoreRecord,
)
from txinspect.errors import InspectError, UsageError, spelled
from txinspect.forward.wants import Plan, Selection, Want, plan_of, plan_of_names
from txinspect.loading.subject import Subject, context
from txinspect.measure import predictions
from txinspect.measure.predictions import Scored
from txinspect.records import InputRecord, SentenceRecord
from txinspect.texts import masking, reading, targets, tokens
from txinspect.texts.windows import Window, windows

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.forward.capture import CaughtTensor

BOTH_WAYS = (
    "{name!r} is bidirectional: each token sees those after it, so what the model gives for a position is no "
    "prediction of the next token, and the text has no score."
)

MOVED = (
    "The blanks at the text's end are scored as the beginning of each continuation: there they belong to the word that "
    "follows."
)

OVERLAP = "Windows of {step} tokens that are {step} apart overlap by one, which predicts the first of the next."


def answer(query: LogitsQuery, session: Session) -> LogitsReport:
    """The report of `logits`."""
    asked = _Reading(query)
    observed = observe(asked, session)
    own = asked.notes
    if asked.both_ways and not asked.fills_masks and not asked.labels:
        own = [BOTH_WAYS.format(name=observed.model.name), *own]
    return observed.report(
        LogitsReport,
        "logits",
        first=own,
        predictions=asked.records(),
        text_score=asked.text_score(),
        continuations=asked.continuations,
        pseudo_score=asked.pseudo_score,
        labels=asked.labels,
        bidirectional=asked.both_ways,
    )


def questions(query: LogitsQuery) -> list[_Reading]:
    """What `logits` asks."""
    return [_Reading(query)]


@dataclass
class _Position:
    """What was read at a position."""

    entropy: float
    following: Scored | None
    top: list[Scored] = field(default_factory=list)
    targets: list[Scored] = field(default_factory=list)


class _Reading(Question[LogitsQuery]):
    """Reads the logits as they come, so that they need not be kept."""

    def __init__(self, query: LogitsQuery) -> None:
        super().__init__(query)
        self.both_ways = False
        self.fills_masks = False
        self.continuations: list[ContinuationRecord] = []
        self.pseudo_score: PseudoScoreRecord | None = None
        self.labels: list[LabelRecord] = []
        self.positions: dict[int, _Position] = {}
        self.notes: list[str] = []

    def meet(self, subject: Subject, text: InputRecord) -> None:
        """Find the positions and targets that `logits` is asked about, and the windows that come."""
        query = self.query
        self.whole, self.subject, self.logits = text, subject, plan_of_names(subject, ["logits"])
        self.tokens = subject.opened.tokens(text.text)
        self.fills_masks = self.both_ways = subject.task.name == "masked-lm"
        self.text: SentenceRecord = text if self.fills_masks else text.main
        self._check(subject, query)
        if query.pll:
            self.mask = masking.needed_mask_id(subject.source, self.tokens)
        self.asked = self._positions(subject, query)
        onwards = subject.task.name == "causal-lm"
        before = "" if self.fills_masks else text.spoken  # a mask may stand anywhere, and nothing is known before it
        self.targets = [
            targets.target(
                *(self.tokens, before, each),
                f", or score it whole with {spelled('continuations', (each,))}" if onwards else "",
            )
            for each in query.targets
        ]
        parts = windows(text, context(subject), query.window_step)
        if len(parts) > 1 and query.stride == len(parts[0].text.tokens):
            self.notes = [OVERLAP.format(step=query.stride)]
        self.windows = iter(parts)

    def plan(self, subject: Subject, text: InputRecord) -> Plan:
        """What `logits` records: the logits, and a row of attention that tells whether tokens see those after them."""
        wants = list(self.logits.wants)
        main = [each for each in subject.architecture.supplies() if each.stack == subject.architecture.main.prefix]
        first = next((each for each in main if each.name.endswith(".attention.weights") and each.available), None)
        if first is not None and len(self.text.tokens) > 1 and not self.both_ways:
            wants.append(Want(first, Selection(queries=(0,)), by_glob=True, reported=False))
        return plan_of(subject.architecture, wants)

    def _positions(self, subject: Subject, query: LogitsQuery) -> set[int]:
        """Where `logits` lists the likeliest tokens: as asked, else at the masks, or after the last token."""
        if not self.fills_masks or query.position not in (-1, (-1,)):
            return set(targets.positions(query.position, self.text))
        return set() if query.pll else set(masking.positions(subject.source, self.tokens, self.whole))

    def _check(self, subject: Subject, query: LogitsQuery) -> None:
        """Raise UsageError for what `logits` is asked that another kind of model answers."""
        kind = subject.architecture.output.axes or ()
        name = f"{subject.source.name!r} ({subject.task.class_name})"
        asked = [each for each in ("targets", "continuations", "stride", "pll") if getattr(query, each)]
        asked += [each for each in ("top_k", "position") if _is_given(query, each)]
        if asked and "vocab" not in kind:
            raise UsageError(f"{name} gives labels, not tokens: omit {spelled(asked[0])}")
        if query.pll and not self.fills_masks:
            raise UsageError(f"{name} fills no masks: omit {spelled('pll', True)}; it scores the text by itself")
        if query.stride and (self.fills_masks or subject.has_decoder):
            raise UsageError(f"{name} does not read a text in windows: omit {spelled('stride')}")
        if query.continuations and (self.fills_masks or subject.has_decoder):
            instead = f"score a text by {spelled('pll', True)}"
            if subject.has_decoder:
                known = query.decoder is not None
                instead = f"write it after {spelled('decoder')}'s text" if known else f"give {spelled('decoder')}"
            raise UsageError(f"{spelled('continuations')} is about a model that reads one text onwards: {instead}")

    def look(self, caught: CaughtTensor) -> None:
        """Take in the logits, or the row of attention, as a pass gives them for `logits`."""
        tensor = caught.tensor.whole()
        if "label" in (caught.want.supply.axes or ()) or "start_end" in (caught.want.supply.axes or ()):
            self.labels = labels.records(self.subject, tensor)
            return
        if caught.want.supply.name != "logits":
            self.both_ways |= bool(tensor[0, :, 0, 1:].ne(0).any())
            return
        self._read(tensor, next(self.windows))

    def _read(self, logits: Tensor, window: Window) -> None:
        """Read the logits of a window, its predictions and scores: (batch, seq, vocab)."""
        sentence = window.text if self.fills_masks else window.text.main
        check_logits(logits, len(sentence.tokens), self.query.top_k)
        ids = [token.id for token in sentence.tokens]
        begin = max(0, window.fresh - 1 - window.begin)  # the first fresh token is predicted by the one before it
        following: list[int | None] = [*ids[1:], None]
        found = predictions.after_each(logits[0, begin:], following[begin:])
        for place, (entropy, scored) in enumerate(found, begin):
            position = _Position(entropy, scored)
            if window.begin + place in self.asked:
                position.top = predictions.top(logits[0, place], self.query.top_k)
                position.targets = predictions.scores(logits[0, place], self.targets)
            self.positions[window.begin + place] = position

    def then(self, running: Running) -> None:
        """Score the continuations that `logits` is asked for, or each token under a mask, each in a pass of its own."""
        if self.query.pll:
            counted = partial(running.counted, "masking tokens")
            scorer = self._scorer(running)
            self.pseudo_score = pseudo_score.pseudo_score(self.whole, self.tokens, self.mask, scorer, counted)
            return
        if self.query.continuations and self.both_ways:
            raise InspectError(BOTH_WAYS.format(name=running.subject.source.name) + " Leave the continuations out.")
        if self.query.continuations and reading.moves_blanks(self.query):
            self.notes.append(MOVED)
        found = [self._continuation(running, each) for each in self.query.continuations]
        self.continuations = sorted(found, key=lambda each: each.logprob if each.logprob is not None else -1e999)[::-1]

    def _scorer(self, running: Running) -> pseudo_score.Score:
        """What runs the model on a text with a mask, and scores the token that belongs there by its logits."""

        def score(masked: InputRecord, position: int) -> tuple[float, int | None]:
            found: list[Scored] = []
            own = self.text.tokens[position].id
            running.run(masked, self.logits, lambda caught: found.extend(_at(caught, position, own)))
            return found[0].logprob, found[0].rank

        return score

    def _continuation(self, running: Running, continuation: str) -> ContinuationRecord:
        """Score a continuation by teacher forcing, after the tokens that `logits` read."""
        subject, query = running.subject, self.query
        whole, start = reading.continued(query, subject.opened, self.tokens, self.whole, continuation)
        ids, limit = [token.id for token in whole.tokens], context(subject)
        positions = subject.architecture.max_positions
        if query.stride is None and positions is not None and len(ids) > positions:
            raise InspectError(
                f"the text with {continuation!r} is {len(ids)} tokens long, but {subject.source.name!r} has "
                f"{positions} positions: shorten one, or score it in windows by {spelled('stride')}"
            )
        scored: list[Scored] = []
        likeliest: list[int] = []
        for window in windows(whole, limit, query.stride):
            first = max(start, window.fresh) - window.begin  # in the window, what it is to predict first
            following = ids[window.begin + first : window.begin + len(window.text.tokens)]

            def receive(caught: CaughtTensor, first: int = first, following: list[int] = following) -> None:
                logits = caught.tensor.whole()[0, first - 1 : first - 1 + len(following)]
                scored.extend(each for _, each in predictions.after_each(logits, following) if each is not None)
                likeliest.extend(predictions.likeliest(row, 1)[0] for row in logits)

            if following:
                running.run(window.text, self.logits, receive)
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
        """The predictions that `logits` read, in the order of the text."""
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
            **tokens.spelling(self.tokens, scored.id),
            logit=scored.logit,
            prob=scored.prob,
            rank=scored.rank,
            ties=scored.ties,
        )

    def text_score(self) -> TextScoreRecord | None:
        """How well the model knew the text, as `logits` sums it; None where nothing is predicted."""
        logprobs = [each.following.logprob for each in self.positions.values() if each.following]
        if self.both_ways or not logprobs:
            return None
        total = sum(logprobs)
        size = self._predicted_bytes()
        return TextScoreRecord(
            tokens=len(logprobs),
            logprob=total,
            perplexity=predictions.perplexity(total, len(logprobs)),
            bits_per_byte=-total / log(2) / size if size else None,
        )

    def _predicted_bytes(self) -> int:
        """Bytes of the text that the logits predict: all but what its first token stands for; none if masked."""
        if self.query.masks and self.whole.decoder is None:
            return 0
        first, *others = self.text.tokens
        placed = any(token.start is not None for token in self.text.tokens)
        # A character may begin in one token and end in the next: then each counts its own bytes.
        if first.bytes or (not placed and any(token.bytes for token in others)):
            return sum(tokens.size(token) for token in others if token.start is not None or not token.special)
        if placed:
            return len((self.text.text[first.end or 0 :] + (self.whole.pair or "")).encode())
        return len(self.text.text.encode()) - len(self.tokens.decode([first.id]).encode())


def _is_given(query: LogitsQuery, name: str) -> bool:
    """Whether a field of `logits`' query is not its default; a shell gives positions as tuples."""
    value, default = getattr(query, name), getattr(LogitsQuery, name)
    return value not in (default, (default,))


def _at(caught: CaughtTensor, position: int, token_id: int) -> list[Scored]:
    return predictions.scores(caught.tensor.whole()[0, position], [token_id])
