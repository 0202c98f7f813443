"""Logits of two sides → what their differences come to in what is predicted after each token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from txinspect.commands.diff import ChangedRecord, LogitsDiffRecord
from txinspect.loading.subject import Subject
from txinspect.measure import predictions
from txinspect.records import InputRecord
from txinspect.texts.aligning import Pairs

if TYPE_CHECKING:
    from torch import Tensor

Tops = Sequence[tuple[int, int]]
"""The likeliest token after each, on either side."""


def no_prediction(this: Tensor, other: Tensor, text: InputRecord, count: int) -> str | None:
    """Why the sides' logits predict no token after each of so many, in a sentence; None where they do."""
    tokens, common = text.main.tokens, min(this.shape[-1], other.shape[-1])
    largest = max(token.id for token in tokens)
    if largest >= common:
        return (
            f"The text has the token {largest}, and the logits are {common} wide on one side: they are compared as "
            f"numbers alone."
        )
    if this.ndim == 3 and tuple(this.shape[:2]) == (1, count):
        return None
    return (
        f"The logits are {list(this.shape)} for {count} tokens, no prediction after each: they are compared as "
        f"numbers alone."
    )


def likeliest(this: Tensor, other: Tensor) -> Tops:
    """The likeliest tokens that each of two sides predicts, from logits: (seq, vocab) each."""
    pairs = zip(this, other, strict=True)
    return [(predictions.likeliest(left, 1)[0], predictions.likeliest(right, 1)[0]) for left, right in pairs]


def compared(this: Tensor, other: Tensor, tops: Tops, ids: Sequence[int] | None) -> LogitsDiffRecord:
    """How far the predictions of two sides are apart, from logits: (seq, vocab) each.

    `ids` are the tokens that both read, to compare perplexities; None where these are not of one text.
    """
    import torch

    ours, theirs = (each[:, : min(this.shape[-1], other.shape[-1])] for each in (this, other))
    divergences = torch.tensor([kl for _, kl in predictions.compared(theirs, ours)], dtype=torch.float64)
    return LogitsDiffRecord(
        kl_mean=float(divergences.mean()),
        kl_median=float(divergences.median()),
        kl_p99=float(divergences.quantile(0.99)),
        kl_max=float(divergences.max()),
        same_top1=sum(left == right for left, right in tops) / len(tops),
        ln_perplexity_ratio=_ln_perplexity_ratio(this, other, ids) if ids and len(ids) > 1 else None,
    )


def _ln_perplexity_ratio(this: Tensor, other: Tensor, ids: Sequence[int]) -> float:
    """The logarithm of the perplexity that one side predicts a text with, over that of the other."""
    scores = [
        sum(scored.logprob for _, scored in predictions.after_each(each, [*ids[1:], None]) if scored is not None)
        for each in (this, other)
    ]
    return (scores[0] - scores[1]) / (len(ids) - 1)


def changed(tops: Tops, places: Pairs, subject: Subject, text: InputRecord) -> list[ChangedRecord]:
    """The positions where the two sides predict another likeliest token."""
    vocabulary = subject.opened.tokens(text.text)

    def spell(token_id: int) -> str | None:
        token = vocabulary.record(token_id)  # a vocabulary that grew has others
        return token.text or token.token or f"token {token_id}"

    return [
        ChangedRecord(
            position=position,
            other_position=other if other != position else None,
            token=text.main.tokens[position].text,
            from_=spell(left),
            to=spell(right),
        )
        for (position, other), (left, right) in zip(places, tops, strict=True)
        if left != right
    ]
