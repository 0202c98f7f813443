"""The last step of the lesson: a part is switched off, and what the model can no longer do is counted."""

from __future__ import annotations

from dataclasses import replace
from math import exp, isfinite

from txinspect.answers.touring import Tour
from txinspect.commands.heads import HeadsQuery
from txinspect.commands.lesson import AgainRecord, OffRecord
from txinspect.commands.logits import LogitsQuery, PredictionRecord
from txinspect.edits import Edit
from txinspect.errors import InspectError
from txinspect.records import SentenceRecord

COPY = 8
"""Random tokens that are read twice."""


def question(tour: Tour) -> LogitsQuery:
    """What the lesson asks last: a text with a part switched off. Raises InspectError where there is no such part."""
    task, name = tour.subject.task.name, tour.subject.source.name
    if task not in ("causal-lm", "seq2seq-lm"):
        raise InspectError(f"{name!r} does not continue a text, so there is no copying to watch")
    if tour.subject.has_decoder:
        glob = f"{tour.prefix}layers.*.cross_attention.context"
        if not any(each.endswith(".cross_attention.context") for each in tour.available):
            raise InspectError(f"{name!r} has no attention to another text")
        read = {**tour.reading(LogitsQuery), "decoder": tour.text.text, "new": LogitsQuery.new}
        return LogitsQuery(**read, edits=(Edit(glob, "=", "0"),))
    drawn = tour.ask(HeadsQuery(model=tour.model, random=True, length=COPY), tensors=False)[0]
    ids = tuple(drawn.input.input_ids[0])
    place = f"{tour.prefix}layers.{tour.head.layer}.attention.context[head={tour.head.head}]"
    return LogitsQuery(model=tour.model, ids=ids, edits=(Edit(place, "=", "0"),))


def switched_off(tour: Tour, query: LogitsQuery) -> OffRecord:
    """What the model of the lesson can no longer do. Raises InspectError where that cannot be told."""
    (edit,) = query.changes
    changed = tour.ask(query, tensors=False)[0]
    own = tour.ask(replace(query, edits=()), tensors=False)[0]
    if own.bidirectional:
        raise InspectError(f"{own.model.name!r} reads both ways: it predicts no next token, and there is no copying")
    text: SentenceRecord = own.input.main
    is_head = not tour.subject.has_decoder
    begin = len(text.tokens) - COPY + 1 if is_head else 1
    pairs = [
        (text.tokens[index], _logprob(own.predictions[index - 1]), _logprob(changed.predictions[index - 1]))
        for index in range(begin, len(text.tokens))
    ]
    if not pairs:
        raise InspectError("the text is one token, of which none is predicted")
    return OffRecord(
        part="head" if is_head else "cross",
        edit=str(edit),
        layer=tour.head.layer if is_head else None,
        head=tour.head.head if is_head else None,
        tokens=[
            AgainRecord(position=token.index, id=token.id, text=token.text, on=exp(on), off=exp(off))
            for token, on, off in pairs
        ],
        on=sum(on for _, on, _ in pairs) / len(pairs),
        off=sum(off for _, _, off in pairs) / len(pairs),
    )


def _logprob(prediction: PredictionRecord) -> float:
    """The logarithm of the next token's probability. Raises InspectError for one that is no number."""
    if prediction.surprisal is None or not isfinite(prediction.surprisal):
        raise InspectError("not all probabilities are numbers")
    return -prediction.surprisal
