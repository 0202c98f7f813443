"""A text beyond a model's positions, in windows that overlap."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import structs

from txinspect.records import InputRecord


@dataclass(frozen=True)
class Window:
    """A part of a text that the model runs on."""

    text: InputRecord
    begin: int
    """The index of its first token in the whole text."""
    fresh: int
    """The index in the whole text of the first token that no window before it has."""


def windows(text: InputRecord, limit: int | None, step: int | None) -> list[Window]:
    """The windows of a text: itself where it fits into `limit` positions, else parts so long, `step` tokens apart.

    Each has `step` tokens that no window before it has, after as much of the text as fits; the last may have fewer.
    Windows overlap by one token at least, which predicts the first that is new.
    """
    count = len(text.tokens)
    if limit is None or step is None or count <= limit:
        return [Window(text, 0, 0)]
    ends = [*range(limit, count, min(step, limit - 1)), count]
    begins = [(end - limit, before) for end, before in zip(ends, [0, *ends], strict=False)]
    return [Window(_part(text, begin, begin + limit), begin, fresh) for begin, fresh in begins]


def _part(text: InputRecord, begin: int, end: int) -> InputRecord:
    """A window of a text: some of its tokens."""
    return structs.replace(
        text,
        input_ids=[row[begin:end] for row in text.input_ids],
        attention_mask=[row[begin:end] for row in text.attention_mask],
        tokens=text.tokens[begin:end],
        segments=text.segments and [row[begin:end] for row in text.segments],
    )
