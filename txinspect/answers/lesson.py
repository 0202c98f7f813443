"""A tour from text to prediction: the questions of several commands, asked of one model, and their numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isfinite
from typing import TYPE_CHECKING, Any

import msgspec

from txinspect.answers import switching_off
from txinspect.answers.reporting import head
from txinspect.answers.session import Session
from txinspect.answers.touring import LIKELY, Tour
from txinspect.commands.lesson import (
    STEPS,
    EmbeddingRecord,
    GuessRecord,
    LayerGuessRecord,
    LessonQuery,
    LessonReport,
    PositionRecord,
    PredictedRecord,
    StepRecord,
    StreamRecord,
    WorkingHeadRecord,
)
from txinspect.commands.pos import PosQuery
from txinspect.commands.run import RunQuery
from txinspect.commands.stages import StagesQuery
from txinspect.commands.typed import line
from txinspect.errors import InspectError
from txinspect.measure import lesson as measure

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.answers.saving import KeptTensor


def answer(query: LessonQuery, session: Session) -> LessonReport:
    """The report of `lesson`. What the model does not have is said in its step."""
    session.keeps_weights = True  # for all its questions
    lesson = _Lesson(Tour(query, session))
    wanted = [query.step] if query.step is not None else list(range(1, STEPS + 1))
    for step in wanted:
        lesson.take(step)
    tour = lesson.tour
    return LessonReport(
        **head("lesson", tour.report.notes),
        model=tour.report.model,
        input=tour.report.input,
        step=query.step,
        steps=[StepRecord(step=step, line=lesson.line(step), missing=lesson.missing.get(step)) for step in wanted],
        **{"heads": [], "layers": [], **dict.fromkeys(_ALONE), **lesson.found},
    )


_ALONE = ("embedding", "positions", "head", "stream", "predicted", "off")
"""Facts of a lesson that are one record each."""


class _Lesson:
    """The facts of a lesson, step by step."""

    def __init__(self, tour: Tour) -> None:
        self.tour = tour
        self.found: dict[str, Any] = {}
        self.missing: dict[int, str] = {}
        self._last: str | None = None

    def take(self, step: int) -> None:
        """Find the facts of a step of the lesson, or why there are none."""
        finding: dict[int, tuple[str, Callable[[], Any]]] = {
            2: ("embedding", self._embedding),
            3: ("positions", self._positions),
            4: ("head", self._head),
            5: ("head", self._head),
            6: ("heads", lambda: measure.in_layer(self.tour.heads.heads, self.tour.head.layer)),
            7: ("stream", self._stream),
            8: ("stream", self._stream),
            9: ("layers", self._layers),
            10: ("predicted", self._predicted),
            11: ("off", self._off),
        }
        if step not in finding:
            return
        name, find = finding[step]
        try:
            if name not in self.found:
                self.found[name] = _finite(find())
            if step == 5 and self.found[name].apart > measure.EXACT:  # positions may be why
                self.found.setdefault("positions", self._positions())
            if step == 8 and self.found[name].mlp is None:
                raise InspectError("this layer has no MLP whose result is known by itself")
        except InspectError as error:
            wrong = error.said().wrong
            self.missing[step] = wrong.removeprefix(f"{self.tour.model.name!r}: ")

    def line(self, step: int) -> str:
        """The command line that shows a step of the lesson."""
        if step < STEPS:
            return line(self.tour.lines()[step - 1])
        return self._last or line(StagesQuery(model=self.tour.model))

    def _embedding(self) -> EmbeddingRecord:
        """What the lesson says of a token's embedding."""
        tour = self.tour
        rows = _rows(tour.first.get(f"{tour.prefix}token_embeddings"), len(tour.text.tokens))
        if rows is None:
            raise InspectError(f"{tour.report.model.name!r} has no vectors of tokens to look at")
        row = rows[tour.token]
        return EmbeddingRecord(
            position=tour.token,
            id=tour.text.tokens[tour.token].id,
            first=measure.first(row),
            norm=measure.norm(row),
            width=len(row),
            rows=tour.report.model.vocab_size,
        )

    def _positions(self) -> PositionRecord:
        """What the lesson says of the positions."""
        tour = self.tour
        begin = f"{tour.prefix}position_embeddings"
        try:
            report, tensors = tour.ask(PosQuery(**tour.reading(PosQuery)))
        except InspectError as error:
            why = error.said().wrong.partition(": ")[2] or error.said().wrong
            kind: Any = "relative" if "relative" in why or "distance" in why or "bucket" in why else "none"
            return PositionRecord(kind="rotary" if "rotary" in why else kind, position=tour.token, first=[], why=why)
        own = {name: each for name, each in tensors.items() if name.startswith(begin)}
        if not own:
            return PositionRecord(kind="none", position=tour.token, first=[], why="the positions are elsewhere")
        name, kept = next(iter(own.items()))
        sinusoids = {each.name for each in report.sinusoids}
        kind, numbers = _of_table(kept.axes or [], kept.tensor, tour.token)
        if kind == "learned" and name in sinusoids:
            kind = "sinusoid"
        return PositionRecord(kind=kind, position=tour.token, first=measure.first(numbers), why=None)

    def _head(self) -> WorkingHeadRecord:
        """What the lesson says of one head at work."""
        tour = self.tour
        place, begin = (tour.head.layer, tour.head.head), f"{tour.prefix}layers.{tour.head.layer}.attention."
        _, tensors = tour.ask(tour.attn_query())
        parts = {each: tensors.get(f"{begin}{each}") for each in ("q", "k", "v", "scores", "weights")}
        if any(each is None or each.tensor.ndim != 4 for each in parts.values()):
            lost = next(name for name, each in parts.items() if each is None or each.tensor.ndim != 4)
            raise InspectError(f"{tour.report.model.name!r} has no {lost} of the usual shape in layer {place[0]}")
        q, k, v, scores, weights = (each for each in parts.values() if each is not None)
        count = len(tour.text.tokens)
        if scores.tensor.shape[-1] != count or k.tensor.shape[2] != count or q.tensor.shape[-1] != k.tensor.shape[-1]:
            raise InspectError(f"layer {place[0]} attends to positions that are not the text's tokens")
        at = (scores.coordinates or {}).get("query", list(range(count)))
        rows = (
            scores.tensor[0, 0, at.index(tour.token)],
            weights.tensor[0, 0, at.index(tour.token)],
            weights.tensor[0, 0, at.index(tour.middle)],
        )
        vectors = (q.tensor[0, 0, tour.token], k.tensor[0, 0], v.tensor[0, 0])
        position = tensors.get(f"{begin}scores.position")
        added = self._added(place, count) if position is None else position.tensor[0, 0, at.index(tour.token)]
        return measure.head_at_work(place, (tour.token, tour.middle), vectors, rows, added)

    def _added(self, place: tuple[int, int], count: int) -> Tensor | None:
        """What the model adds to the scores of the lesson's head for distances: ALiBi, or a table of it; else None."""
        import torch

        tour, begin = self.tour, f"{self.tour.prefix}position_embeddings"
        name = next((each for each in (f"{begin}.bias", begin) if each in tour.available), None)
        if name is None:
            return None
        kept = tour.ask(RunQuery(**tour.reading(RunQuery), stages=(name,)))[1].get(name)
        if kept is None:
            return None
        table = kept.tensor
        if kept.axes == ["head"]:
            return table[place[1]].double() * (torch.arange(count) - tour.token)
        if name == begin:
            return None
        found: Tensor = (table[place[0]] if table.ndim == 4 else table)[place[1], tour.token]
        return found if found.shape == (count,) else None

    def _stream(self) -> StreamRecord:
        """What the lesson says of what its layer adds."""
        tour, names = self.tour, self.tour.parts()
        if not names[0] or not names[4]:
            raise InspectError(f"{tour.report.model.name!r} has no layers whose input and output are known")
        _, tensors = tour.ask(RunQuery(**tour.reading(RunQuery), stages=tuple(each for each in names if each)))
        rows = [_rows(tensors.get(name), len(tour.text.tokens)) for name in names]
        before, *others, after = (None if each is None else each[tour.token] for each in rows)
        if before is None or after is None:
            raise InspectError(f"{tour.report.model.name!r} has no vector for each token in layer {tour.layer}")
        same = [each if each is None or each.shape == before.shape else None for each in others]
        return measure.stream(tour.layer, tour.token, [before, *same], after, self._inner(names[3], len(before)))

    def _inner(self, name: str, width: int) -> int | None:
        """How many numbers there are inside the MLP of the lesson's layer, by its matrices."""
        tour = self.tour
        paths = {each.module for each in tour.subject.architecture.supplies() if each.name == name and each.module}
        model = tour.subject.as_configured
        sizes = {
            size
            for path in paths
            for weight in model.get_submodule(path).parameters()
            if weight.ndim == 2 and width in weight.shape
            for size in weight.shape
        }
        inner = sizes - {width}
        return next(iter(inner)) if len(inner) == 1 else None

    def _layers(self) -> list[LayerGuessRecord]:
        """What the lesson says of what each layer would predict."""
        report = self.tour.ask(self.tour.lens_query, tensors=False)[0]
        return [LayerGuessRecord(layer=row.layer, guess=_guess(row.cells[-1].top[0])) for row in report.rows]

    def _predicted(self) -> PredictedRecord:
        """What the lesson says of the prediction."""
        tour = self.tour
        report = tour.ask(tour.logits_query, tensors=False)[0]
        if report.labels:
            likely = sorted(report.labels, key=lambda each: -(each.prob or 0.0))[:LIKELY]
            top = [GuessRecord(id=each.id, text=each.label, prob=each.prob) for each in likely]
            return PredictedRecord(kind="label", position=None, masked=None, top=top)
        listed = [each for each in report.predictions if each.top]
        if not listed or (report.bidirectional and not tour.fills_masks):
            raise InspectError(f"{report.model.name!r} reads both ways: what it gives is no next token")
        return PredictedRecord(
            kind="mask" if tour.fills_masks else "next",
            position=listed[-1].position,
            masked=tour.masked,
            top=[_guess(each) for each in listed[-1].top],
        )

    def _off(self) -> Any:
        """What the lesson says of a part that is switched off."""
        query = switching_off.question(self.tour)
        self._last = line(query)
        return switching_off.switched_off(self.tour, query)


def _finite(found: Any) -> Any:
    """Facts of a step of the lesson. Raises InspectError where a number among them is none."""
    if not all(map(isfinite, _floats(msgspec.to_builtins(found)))):
        raise InspectError("not all of its numbers are finite: 'txinspect run' shows where they are not")
    return found


def _floats(value: Any) -> Iterator[float]:
    """The numbers of a step of the lesson, however deep."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _floats(each)


def _guess(token: Any) -> GuessRecord:
    """A likely token of the lesson."""
    return GuessRecord(id=token.id, text=token.token if token.text is None else token.text, prob=token.prob)


def _rows(kept: KeptTensor | None, count: int) -> Tensor | None:
    """A vector for each token of the lesson's text; None where the tensor is no such thing."""
    if kept is None:
        return None
    tensor = kept.tensor
    rows = tensor[0] if tensor.ndim == 3 and tensor.shape[0] == 1 else tensor
    return rows if rows.ndim == 2 and rows.shape[0] == count else None


def _of_table(axes: list[str], table: Tensor, token: int) -> tuple[Any, Tensor]:
    """The kind of the lesson's positions, by the axes of what the model has, and the numbers that are shown."""
    if "rotary_dim" in axes:
        rows = table.reshape(-1, table.shape[-1])
        return "rotary", rows[min(token, len(rows) - 1)]
    if "head" in axes and "bucket" not in axes and table.ndim == 1:
        return "alibi", table
    if "bucket" in axes or "distance" in axes or "query" in axes:
        return "relative", table.reshape(-1, *table.shape[-2:])[0][:, 0] if table.ndim > 1 else table
    rows = table.reshape(-1, table.shape[-1])
    return "learned", rows[min(token, len(rows) - 1)]
