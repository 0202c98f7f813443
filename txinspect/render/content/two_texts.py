"""Two texts that `diff` compares: where their words differ, and how many of their tokens are aligned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from txinspect.commands.diff import DiffReport
from txinspect.records import InputRecord, SentenceRecord
from txinspect.render.tables import Line, line
from txinspect.wording import counted

Spans = list[tuple[int, int]]
"""From a character of a text to one past another, in order."""


@dataclass(frozen=True)
class MarkedText:
    """A text and what is to be marked in it."""

    label: str
    text: str
    marks: Spans


def marked(report: DiffReport) -> Iterator[tuple[MarkedText, MarkedText]]:
    """The texts of both sides of `diff`, and under them what decoders read; what only one side has is marked."""
    this, other = report.input, report.other_input
    if other is None:
        return
    yield _both(this, other, report.aligned or [], "")
    if has_decoders(report) and this.decoder and other.decoder:
        yield _both(this.decoder, other.decoder, report.decoder_aligned or [], "→ ")


def aligned(report: DiffReport) -> Line | None:
    """The line about how many tokens of both texts of `diff` are aligned."""
    this, other = report.input, report.other_input
    if other is None:
        return None
    said = _counts(this, other, report.aligned or [])
    if has_decoders(report) and this.decoder and other.decoder:
        said += f" · decoders: {_counts(this.decoder, other.decoder, report.decoder_aligned or [])}"
    return line(said, "dim")


def has_decoders(report: DiffReport) -> bool:
    """Whether decoders read texts of their own on the sides of `diff`: more than a start token."""
    if report.other_input is None:
        return False
    decoders = (report.input.decoder, report.other_input.decoder)
    return any(len(each.tokens) > 1 for each in decoders if each is not None)


def _counts(this: SentenceRecord, other: SentenceRecord, pairs: Sequence[Sequence[int]]) -> str:
    sides, same = (len(this.tokens), len(other.tokens)), len(_same(this, other, pairs))
    if sides[0] == sides[1]:
        return f"{counted(len(pairs), 'token')} each, {same} the same"
    return f"{len(pairs)} of {sides[0]} and {sides[1]} tokens aligned"


def _same(this: SentenceRecord, other: SentenceRecord, pairs: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """The aligned positions where two texts have the same token."""
    return [pair for pair in pairs if this.tokens[pair[0]].id == other.tokens[pair[1]].id]


def _both(
    this: SentenceRecord, other: SentenceRecord, pairs: Sequence[Sequence[int]], before: str
) -> tuple[MarkedText, MarkedText]:
    """Two texts, each with those of its words marked that are not the same in the other."""
    same = _same(this, other, pairs)
    return (
        MarkedText(f"{before}this side   ", *_marked(this, {pair[0] for pair in same})),
        MarkedText(f"{before}other side  ", *_marked(other, {pair[1] for pair in same})),
    )


def _marked(record: SentenceRecord, same: Set[int]) -> tuple[str, Spans]:
    """A text that is compared, joined to its second one, and where it has tokens beside the `same` ones."""
    pair = record.pair if isinstance(record, InputRecord) else None
    text = record.text if pair is None else f"{record.text} | {pair}"
    spans: Spans = []
    for index, start, end in _places(record, pair):
        start, end = _without_blanks(text, start, end)
        if index in same or start >= end:
            continue
        if spans and not text[spans[-1][1] : start].strip():
            start = spans.pop()[0]
        spans.append((start, end))
    return text, spans


def _places(record: SentenceRecord, pair: str | None) -> Iterator[tuple[int, int, int]]:
    """Each token of a compared text by its index, and its place in the text that is joined to its second one."""
    reached, begin = 0, 0
    for token in record.tokens:
        if token.start is not None and token.end is not None:
            reached = max(reached, begin + token.end)
            yield token.index, begin + token.start, begin + token.end
        elif token.special and pair is not None and reached and not begin:
            begin = len(record.text) + len(" | ")  # what stands between the two
        elif not token.special and token.text and pair is None:
            # Generated text and ids have no places: each token's text follows, after a blank at most.
            word = token.text.strip()
            start = record.text.find(word, reached, reached + len(token.text) + 2)
            if word and start >= 0 and not record.text[reached:start].strip():
                reached = start + len(word)
                yield token.index, start, reached


def _without_blanks(text: str, start: int, end: int) -> tuple[int, int]:
    """The place in a compared text without the blanks around it."""
    word = text[start:end]
    return start + len(word) - len(word.lstrip()), start + len(word.rstrip())
