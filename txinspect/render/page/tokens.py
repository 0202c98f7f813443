"""The texts on a page, token by token, on the probability of the token that follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from txinspect.commands.logits import LogitsReport, PredictionRecord
from txinspect.records import InputRecord, Report, SentenceRecord
from txinspect.render.page.peeks import Peek, shade, top
from txinspect.render.spelling import percent, token_text, visible, word


@dataclass(frozen=True)
class Token(Peek):
    """A token of a text on a page."""

    index: int
    special: bool


@dataclass(frozen=True)
class TextPart:
    """A text on a page."""

    index: int
    """0 for the text itself, 1 for what a decoder reads."""
    title: str
    tokens: Sequence[Token]


@dataclass(frozen=True)
class TokensPart:
    """The texts of a page."""

    kind: ClassVar = "tokens"
    texts: Sequence[TextPart]
    coloured: bool
    """Whether any token has a shade, or something to say."""


def read(reports: Sequence[Report]) -> InputRecord | None:
    """What was read for a page: the last of the reports knows what was generated, too."""
    inputs = [each for report in reports if isinstance(each := getattr(report, "input", None), InputRecord)]
    return next((each for each in inputs if each.decoder is not None), inputs[0] if inputs else None)


def parts(reports: Sequence[Report]) -> Iterator[TokensPart]:
    """The texts of a page as a part of it, if any was read."""
    text = read(reports)
    if text is None:
        return
    scored = next((report for report in reports if isinstance(report, LogitsReport)), None)
    predictions = {each.position: each for each in scored.predictions} if scored else {}
    at = "at" if scored is not None and scored.bidirectional else "after"
    texts = [TextPart(0, "Text" if text.decoder is None else "Encoder", _tokens(text, {}, at))]
    if text.decoder is not None:
        texts.append(TextPart(1, "Decoder", _tokens(text.decoder, predictions, at)))
    else:
        texts = [TextPart(0, "Tokens", _tokens(text, predictions, at))]
    yield TokensPart(texts, coloured=bool(predictions))


def _tokens(text: SentenceRecord, predictions: Mapping[int, PredictionRecord], at: str) -> list[Token]:
    """The tokens of a page's text, each with what the model gives after it."""
    return [
        Token(
            text=token_text(token),
            shade=shade(each.next.prob if (each := predictions.get(token.index)) and each.next else None),
            what=_what(text, token.index, predictions.get(token.index), at),
            top=top(predictions[token.index].top if token.index in predictions else []),
            index=token.index,
            special=token.special,
        )
        for token in text.tokens
    ]


def _what(text: SentenceRecord, index: int, prediction: PredictionRecord | None, at: str) -> str:
    """What a page says first of a token."""
    token = text.tokens[index]
    if prediction is None:
        return f"{index} {token_text(token)} · id {token.id}"
    following = prediction.next
    known = f"; the text goes on with {visible(word(following))}, {percent(following.prob)}" if following else ""
    return f"{at} {index} {token_text(token)}{known}"
