"""Masks of a text: the tokens that a query asks to mask, and the masks that stand in a text; words' tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from msgspec import structs

from txinspect import opening
from txinspect.errors import InspectError, spelled
from txinspect.queries import TextQuery
from txinspect.records import InputRecord, TokenRecord
from txinspect.sources.source import Source
from txinspect.texts.tokens import Tokens

_MASKS = ("[MASK]", "<mask>")
"""What stands for a masked token where the tokenizer's files do not say."""


def mask_id(source: Source, tokens: Tokens) -> int | None:
    """The id of a tokenizer's mask token; None if it has none."""
    named = list[str]()
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        file = source.tokenizer_file(name)
        if file is not None:
            what = f"{name} of {source.name!r}"
            own = source.files.read_object(file, opening.VOCABULARY, what).get("mask_token")
            own = own.get("content") if isinstance(own, dict) else own
            named += [own] if isinstance(own, str) else []
    ids = (tokens.find(token) for token in dict.fromkeys((*named, *_MASKS)))
    return next((each for each in ids if each in tokens.special), None)


def positions(source: Source, tokens: Tokens, text: InputRecord) -> tuple[int, ...]:
    """Where the masks of a text stand. Raises InspectError for a text without one."""
    mask = needed_mask_id(source, tokens)
    found = tuple(token.index for token in text.tokens if token.id == mask)
    if not found:
        raise InspectError(
            f"the text has no mask, and {source.name!r} fills masks: write {tokens.spell(mask)[0]} in it, mask "
            f"a word of it with {spelled('masks')}, or score all of it with {spelled('pll', True)}"
        )
    return found


def masks(
    source: Source, tokens: Tokens, text: InputRecord, *, named: str = "the text", otherwise: str = ""
) -> list[int]:
    """Where the masks of a text stand, whose own tokens are what is predicted, whatever a decoder reads.

    Raises InspectError for a text without one, as it is `named`; what could be done `otherwise` is said.
    """
    mask = needed_mask_id(source, tokens)
    found = [token.index for token in text.tokens if token.id == mask]
    if not found:
        raise InspectError(
            f"{source.name!r} fills masks, and {named} has none", f"mask a word by {spelled('masks')}{otherwise}"
        )
    return found


def needed_mask_id(source: Source, tokens: Tokens) -> int:
    """The id of the tokenizer's mask token. Raises InspectError where it has none."""
    mask = mask_id(source, tokens)
    if mask is None:
        raise InspectError(f"the tokenizer of {source.name!r} has no mask token: nothing can be masked")
    return mask


def with_mask(text: InputRecord, tokens: Tokens, mask: int, indices: tuple[int, ...]) -> InputRecord:
    """The text with a mask in the place of some of its tokens."""
    spot = tokens.record(mask)
    records = [
        structs.replace(spot, index=token.index, start=token.start, end=token.end) if token.index in indices else token
        for token in text.tokens
    ]
    ids, decoder = [token.id for token in records], text.decoder
    if decoder is not None:  # it reads the text itself after its first token: see decoder_text
        decoder = structs.replace(decoder, input_ids=[[decoder.input_ids[0][0], *ids[:-1]]])
    return structs.replace(text, tokens=records, input_ids=[ids], decoder=decoder)


def masked(
    query: TextQuery[Any],
    source: Source,
    text: InputRecord,
    tokens: Tokens,
    said: Sequence[tuple[int, int]] | None = None,
) -> InputRecord:
    """The text with masks where the query asks for them; words of a conversation only in what its messages `said`."""
    if not query.masks:
        return text
    mask = needed_mask_id(source, tokens)
    chosen = {index for asked in query.masks for index in _indexed(asked, text)}
    words = [asked for asked in query.masks if not _INDEX.fullmatch(asked)]
    found = of_words(words, query, text, tokens, said)
    for word, own in zip(words, found, strict=True):
        if not own:
            raise InspectError(
                f"{spelled('masks')} {word!r} is no word of the text: give one of it as it is written, or a token's "
                f"index"
            )
        chosen.update(own)
    return with_mask(text, tokens, mask, tuple(chosen))


def of_words(
    words: Sequence[str],
    query: TextQuery[Any],
    text: InputRecord,
    tokens: Tokens,
    said: Sequence[tuple[int, int]] | None = None,
) -> list[list[int]]:
    """The tokens of each of some words, wherever it stands in the text; of a conversation only in what was `said`."""
    if any(token.start is not None for token in text.tokens):
        texts = [text.text] if text.pair is None else [text.text, text.pair]
        of = [0] * len(text.tokens) if text.pair is None else tokens.sequences(text.text, query.special, text.pair)
        return [_by_place(word, text, texts, of, said) for word in words]
    # Tokenizers written in Python know no spans, nor do ids.
    return [_by_tokens(word, text, tokens) for word in words]


_INDEX = re.compile(r"-?[0-9]{1,9}")


def _indexed(asked: str, text: InputRecord) -> list[int]:
    """The token to mask by its index; none for a word. Raises InspectError for one that cannot be masked."""
    if not _INDEX.fullmatch(asked):
        return []
    count = len(text.tokens)
    if not -count <= int(asked) < count:
        raise InspectError(f"{spelled('masks')} {asked} is out of range: the text has tokens 0 to {count - 1}")
    token = text.tokens[int(asked) % count]
    if token.special:
        raise InspectError(
            f"{spelled('masks')} {asked} is {token.token}, a special token: give the index of a token of the text"
        )
    return [token.index]


def _by_place(
    word: str,
    text: InputRecord,
    texts: Sequence[str],
    of: Sequence[int | None],
    said: Sequence[tuple[int, int]] | None,
) -> list[int]:
    """The tokens to mask whose characters are a word's, in the one of the texts that each token is `of`."""
    spans = [_spans(word, each) for each in texts]
    if said is not None:
        spans = [[span for span in spans[0] if any(start <= span[0] and span[1] <= end for start, end in said)]]
    return [
        token.index
        for token, which in zip(text.tokens, of, strict=True)
        if which is not None and any(_is_within(token, *span) for span in spans[which])
    ]


_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
"""Characters of scripts that put no blanks between words: Thai, Lao, Burmese, Khmer, Tai, kana, Chinese characters."""

_LETTER = rf"(?:(?![{_UNSPACED}])\w)"
"""What a word ends at where there is none of it: a letter of a script with blanks, a digit, an underscore."""


def _spans(word: str, text: str) -> list[tuple[int, int]]:
    """Where a word to mask stands in a text: as it is written, and not as a part of a longer one.

    That shows where words have blanks around them.
    """
    before = rf"(?<!{_LETTER})" if re.match(_LETTER, word) else ""
    after = rf"(?!{_LETTER})" if re.match(_LETTER, word[-1]) else ""
    return [match.span() for match in re.finditer(f"{before}{re.escape(word)}{after}", text)]


def _is_within(token: TokenRecord, start: int, end: int) -> bool:
    return token.start is not None and token.end is not None and token.start < end and token.end > start


def _by_tokens(word: str, text: InputRecord, tokens: Tokens) -> list[int]:
    """The tokens to mask that a word is by itself or after a blank, where they stand one after another."""
    ids = [token.id for token in text.tokens]
    for form in (f" {word}", word):
        own = tokens.ids(form)
        starts = [i for i in range(len(ids) - len(own) + 1) if own and ids[i : i + len(own)] == own]
        if starts:
            return [start + offset for start in starts for offset in range(len(own))]
    return []
