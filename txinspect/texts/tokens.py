"""A tokenizer at hand: texts → tokens, ids → what they stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from txinspect.errors import InspectError
from txinspect.records import InputRecord, TokenRecord


class Encode(Protocol):
    """A text, and whether to add special tokens → tokens; with a second text, those of both joined."""

    def __call__(self, text: str, special: bool, pair: str | None = None) -> list[TokenRecord]:
        """The tokens of a text by a tokenizer; a span is one of the text that its token is of."""


Text = str | tuple[str, str]
"""A text, or two that are joined."""

Segments = Callable[[str, bool, str], list[int]]
"""(text, whether to add special tokens, second text) → the segment of each token."""

Sequences = Callable[[str, bool, str], list[int | None]]
"""(text, whether to add special tokens, second text) → which of the two, 0 or 1, each token is of; None for what the
tokenizer adds, and where it does not say."""

Spell = Callable[[int], tuple[str | None, str | bytes | None]]
"""An id → the token as the vocabulary stores it, and its text, or its bytes where they are not whole characters; None
for what is not in the vocabulary."""


def untried(_texts: Sequence[Text]) -> None:
    """Try no tokenizer: what comes with the program is known, and what is in no file cannot be tried in a process."""


@dataclass(frozen=True)
class Tokens:
    """A model's tokenizer: texts → tokens, ids → what they stand for."""

    encode: Encode
    segments: Segments
    sequences: Sequences
    spell: Spell
    size: int
    """Ids, special ones among them."""
    special: frozenset[int]
    """Ids of special tokens."""
    decode: Callable[[list[int]], str]
    """The text that ids stand for, without special tokens."""
    find: Callable[[str], int | None]
    """The id of a token as the vocabulary stores it; None for one that is not in it."""
    unknown: int | None
    """The id that stands for what is not in the vocabulary; None where everything is."""
    attempt: Callable[[Sequence[Text]], None] = untried
    """Tries it on further texts. Raises SourceError for one that it does not get done with."""

    def ids(self, text: str) -> list[int]:
        """The ids of a text's tokens alone, without special tokens."""
        return [token.id for token in self.encode(text, False)]

    def after(self, text: str, following: str) -> list[int] | None:
        """The ids of a text's tokens that follow another one; None where they are others together than apart."""
        own, together = self.ids(text), self.ids(text + following)
        return together[len(own) :] if together[: len(own)] == own and len(together) > len(own) else None

    def ordinary(self) -> list[int]:
        """The ids of tokens that stand for text of whole characters, without special ones."""
        return [each for each in range(self.size) if each not in self.special and isinstance(self.spell(each)[1], str)]

    def record(self, token_id: int, index: int = 0) -> TokenRecord:
        """The record of a token of the vocabulary, without a place in a text."""
        token, text = self.spell(token_id)
        return TokenRecord(
            index=index,
            id=token_id,
            token=token,
            text=text if isinstance(text, str) else None,
            start=None,
            end=None,
            special=token_id in self.special,
            bytes=text.hex(" ") if isinstance(text, bytes) else None,
        )


def as_input(text: str, tokens: list[TokenRecord], pair: str | None = None) -> InputRecord:
    """A text, or two that are joined, with their tokens, as the input. Raises InspectError for none."""
    if not tokens:
        advice = (
            "the tokenizer makes none of it; give another"
            if text or pair
            else "give a text with at least one character"
        )
        raise InspectError(f"the text {quoted_texts(text, pair)} yields no tokens: {advice}")
    return InputRecord(
        text=text,
        input_ids=[[token.id for token in tokens]],
        attention_mask=[[1] * len(tokens)],
        tokens=tokens,
        pair=pair,
        segments=None,
        uncut=None,
        roles=None,
        decoder=None,
    )


def quoted(text: str) -> str:
    """A text to tokenize, quoted in a sentence."""
    return repr(text if len(text) <= 40 else text[:39] + "…")


def quoted_texts(text: str, pair: str | None = None) -> str:
    """A text to tokenize, or two that are joined, quoted in a sentence."""
    return quoted(text) if pair is None else f"{quoted(text)} with {quoted(pair)}"


def size(token: TokenRecord) -> int:
    """How many bytes a token at hand stands for, in UTF-8."""
    return len(bytes.fromhex(token.bytes) if token.bytes else (token.text or "").encode())


def spelling(tokens: Tokens, token_id: int) -> dict[str, Any]:
    """The fields of a VocabularyRecord that spell a token by its id."""
    found = tokens.record(token_id)
    return {"id": token_id, "token": found.token, "text": found.text}
