"""What each layer would predict: the model's own tail on every layer's output (logit lens, nostalgebraist 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING

from txinspect.answers import dumps, limits, stacks
from txinspect.answers.observing import observe
from txinspect.answers.question import Question
from txinspect.answers.running import Running
from txinspect.answers.session import Session
from txinspect.commands.lens import (
    LAST,
    CellRecord,
    DecidedRecord,
    FollowedRecord,
    LensQuery,
    LensReport,
    LensRowRecord,
    LikelyRecord,
)
from txinspect.errors import StageError, spelled
from txinspect.forward.tail import Tail
from txinspect.forward.translators import Translator, translators
from txinspect.forward.wants import Plan, check_layers, plan_of, plan_of_names
from txinspect.guards.quiet import quiet
from txinspect.loading.subject import Subject
from txinspect.measure import predictions
from txinspect.records import InputRecord
from txinspect.texts import masking, targets, tokens

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.forward.capture import CaughtTensor

KEPT = 1 << 29
"""Bytes of logits that are kept for the second look at them; beyond that, the tail runs again."""

ENTERING = -1
"""The row of what enters layer 0."""


def answer(query: LensQuery, session: Session) -> LensReport:
    """The report of `lens`."""
    reading = _Reading(query)
    observed = observe(reading, session)
    return observed.report(
        LensReport,
        "lens",
        last=reading.notes,
        rows=reading.rows,
        positions=reading.decided,
        last_row_equals_logits=reading.equal,
    )


def questions(query: LensQuery) -> list[_Reading]:
    """What `lens` asks."""
    return [_Reading(query)]


@dataclass
class _Row:
    """A layer's hidden states, and the first look at what they would predict."""

    layer: int
    hidden: Tensor
    likeliest: list[list[int]]
    """At each position asked for: the ids of the likeliest tokens."""
    compared: list[tuple[float, float]]
    """Entropy and divergence."""


class _Reading(Question[LensQuery]):
    """Reads the rows once the pass is over."""

    def __init__(self, query: LensQuery) -> None:
        super().__init__(query)
        self.rows: list[LensRowRecord] = []
        self.decided: list[DecidedRecord] = []
        self.equal = False
        self.notes: list[str] = []
        self.final: Tensor | None = None
        self.kept: dict[int, Tensor] = {}
        self.translators: dict[int, Translator] | None = None

    def meet(self, subject: Subject, text: InputRecord) -> None:
        """Find the layers, positions and targets that `lens` is asked about."""
        query = self.query
        count = len(subject.architecture.layers)
        if "vocab" not in (subject.architecture.output.axes or ("vocab",)):
            raise StageError(
                f"{subject.source.name!r} ({subject.task.class_name}) gives labels, not tokens: no layer predicts one"
            )
        if not count:
            raise StageError(f"{subject.source.name!r} has no layers to read")
        self.asked = check_layers(stacks.whose(subject, subject.architecture.main), query.layers_asked, count)
        self.text = text
        self.tokens = subject.opened.tokens(text.text)
        self.positions = self._positions(subject, text)
        before = "" if subject.task.name == "masked-lm" else text.spoken
        self.targets = [targets.target(self.tokens, before, each) for each in query.targets]
        self.tail = Tail(subject.architecture.layers, inside=query.at != "output")

    def plan(self, subject: Subject, text: InputRecord) -> Plan:
        """What `lens` records: the logits, with what every layer passes on remembered."""
        return plan_of(subject.architecture, plan_of_names(subject, ["logits"]).wants, watches=(self.tail,))

    def _positions(self, subject: Subject, text: InputRecord) -> list[int]:
        """Where `lens` reads predictions: as asked; else at the masks if there are some, or after the last tokens."""
        if self.query.position != LAST:
            return targets.positions(self.query.position, text.main)
        mask = masking.mask_id(subject.source, self.tokens) if subject.task.name == "masked-lm" else None
        masks = [token.index for token in text.main.tokens if mask is not None and token.id == mask]
        return masks or [token.index for token in text.main.tokens[-len(LAST) :]]

    def look(self, caught: CaughtTensor) -> None:
        """Keep the model's own logits, for `lens` to compare layers with: (batch, seq, vocab)."""
        self.final = caught.tensor.whole().detach().clone()

    def then(self, running: Running) -> None:
        """Read what every layer would predict, then follow the targets through the layers, for `lens`."""
        assert self.final is not None
        limits.check_logits(self.final, len(self.text.main.tokens), self.query.top_k)
        self.running, self.inputs = running, running.inputs(self.text)
        with quiet():
            self._check_last()
            rows = [self._row(*each) for each in running.counted("reading layers", list(self._hidden()))]
            final = [predictions.likeliest(row, 1)[0] for row in self._own()]
            self.decided = [self._decided(place, final[place], rows) for place in range(len(self.positions))]
            self._note_nan(rows)
            self.rows = [self._record(row, self._followed(rows)) for row in rows]

    def _note_nan(self, rows: Sequence[_Row]) -> None:
        """Say which layers' rows of the lens give no numbers."""
        broken = [row.layer for row in rows if any(isnan(entropy) for entropy, _ in row.compared)]
        if broken:
            first = "what enters layer 0" if broken[0] == ENTERING else f"layer {broken[0]}"
            self.notes.append(f"Not every number is finite in {len(broken)} of {len(rows)} rows, from {first}.")

    def _check_last(self) -> None:
        """Whether the lens on the last layer's output gives the model's logits to the last bit."""
        import torch

        index = len(self.running.subject.architecture.layers) - 1
        last = self.tail.outputs(index)
        if last is not None and self.final is not None:
            again = self.tail.logits(self.running.model, self.inputs, last)
            self.equal = torch.equal(torch.nan_to_num(again), torch.nan_to_num(self.final))
        if self.equal and self.query.at == "output":
            self.kept[index] = self._own()
        if not self.equal:
            self.notes.append(
                "The way from the last layer's output did not give the logits again: the rows are not sure."
            )

    def _hidden(self) -> Iterator[tuple[int, Tensor]]:
        """The hidden states of each row of the lens, from the first; the last layer's output is there in any case."""
        last = len(self.running.subject.architecture.layers) - 1
        shape = None if (end := self.tail.outputs(last)) is None else end.shape
        if self.query.layers is None and self.query.at == "output" and self.tail.entered:
            yield ENTERING, self._translated(ENTERING, self.tail.entered[-1])
        for layer in sorted({*self.asked, last}):
            hidden = self._at(layer) if layer in self.asked else self.tail.outputs(layer)
            if hidden is not None and hidden.shape == shape:
                yield layer, hidden if layer == last else self._translated(layer, hidden)
            else:
                self.notes.append(f"Layer {layer} passes on nothing of the last layer's shape: it has no row.")

    def _translated(self, layer: int, hidden: Tensor) -> Tensor:
        """What a lens from a file makes of a row's hidden states; the last row is the model's own."""
        if self.query.lens is None:
            return hidden
        if self.translators is None:
            count = len(self.running.subject.architecture.layers)
            self.translators = translators(self.query.lens, dumps.lens(self.query.lens), hidden.shape[-1], count)
            rows = [row for row in range(ENTERING, count - 1) if row not in self.translators]
            if rows:
                self.notes.append(
                    f"{self.query.lens} has nothing for {len(rows)} rows, from {rows[0]}: read as they are."
                )
        translator = self.translators.get(layer)
        return hidden if translator is None else translator(hidden)

    def _at(self, layer: int) -> Tensor | None:
        """What the lens reads of a layer. Raises StageError where it has no stream between attention and MLP."""
        if self.query.at == "output":
            return self.tail.outputs(layer)
        between = self.tail.between(layer)
        if between is None:
            name = self.running.subject.source.name
            raise StageError(
                f"{spelled('at', self.query.at)} is not to be had in layer {layer} of {name!r}: no module of it reads "
                f"what attention adds to the stream before its MLP adds to it, so no stream lies between them; read "
                f"its output"
            )
        return between if self.query.at == "attention" else self.tail.outputs(layer)

    def _logits(self, row: int, hidden: Tensor) -> Tensor:
        """What a row of the lens would predict at the positions asked for: (position, vocab)."""
        if row in self.kept:
            return self.kept[row]
        found = self.tail.logits(self.running.model, self.inputs, hidden, self.positions)[0]
        if sum(each.nbytes for each in self.kept.values()) + found.nbytes <= KEPT:
            self.kept[row] = found
        return found

    def _own(self) -> Tensor:
        """The model's own logits at the positions that `lens` asks for: (position, vocab)."""
        assert self.final is not None
        return self.final[0, self.positions]

    def _row(self, layer: int, hidden: Tensor) -> _Row:
        logits = self._logits(layer, hidden)
        likeliest = [predictions.likeliest(each, self.query.top_k) for each in logits]
        return _Row(layer, hidden, likeliest, predictions.compared(logits, self._own()))

    def _followed(self, rows: Sequence[_Row]) -> list[list[int]]:
        """The tokens to follow through the layers, by position: targets, or the likeliest in some row of the lens."""
        if self.targets:
            return [self.targets] * len(self.positions)
        return [
            list(dict.fromkeys(row.likeliest[place][0] for row in reversed(rows)))
            for place in range(len(self.positions))
        ]

    def _decided(self, place: int, final: int, rows: Sequence[_Row]) -> DecidedRecord:
        """In which layer the model's own likeliest token was the likeliest first, and from which on."""
        agreeing = [row.likeliest[place][0] == final for row in rows]
        from_end = next((i for i, agrees in enumerate(reversed(agreeing)) if not agrees), len(rows))
        position = self.positions[place]
        return DecidedRecord(
            position=position,
            token=self.text.main.tokens[position].text,
            decided_at=rows[min(len(rows) - from_end, len(rows) - 1)].layer,
            first_at=rows[agreeing.index(True)].layer if True in agreeing else rows[-1].layer,
        )

    def _record(self, row: _Row, followed: Sequence[Sequence[int]]) -> LensRowRecord:
        logits = self._logits(row.layer, row.hidden)
        return LensRowRecord(
            layer=row.layer,
            at="output" if row.layer == ENTERING else self.query.at,
            cells=[self._cell(row, place, logits[place], followed[place]) for place in range(len(self.positions))],
        )

    def _cell(self, row: _Row, place: int, logits: Tensor, followed: Sequence[int]) -> CellRecord:
        """What a layer's row of the lens would predict at one position, by its logits, (vocab)."""
        likeliest = row.likeliest[place]
        scored = predictions.scores(logits, [*likeliest, *followed])
        return CellRecord(
            position=self.positions[place],
            entropy=row.compared[place][0],
            kl=row.compared[place][1],
            top=[self._likely(each) for each in scored[: len(likeliest)]],
            targets=[self._target(each) for each in scored[len(likeliest) :]],
        )

    def _likely(self, scored: predictions.Scored) -> LikelyRecord:
        return LikelyRecord(**tokens.spelling(self.tokens, scored.id), prob=scored.prob)

    def _target(self, scored: predictions.Scored) -> FollowedRecord:
        return FollowedRecord(**tokens.spelling(self.tokens, scored.id), rank=scored.rank, prob=scored.prob)
