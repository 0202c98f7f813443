"""What a query gives to read → tokens: a text, two joined, a conversation, or ids; masked where that is asked."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from msgspec import structs

from txinspect.answers import masks
from txinspect.errors import InspectError, spelled
from txinspect.models import chat, languages, tokenizer
from txinspect.models.opened import Opened
from txinspect.models.quiet import as_source_error
from txinspect.models.tokenizer import Text, Tokens, named
from txinspect.queries import LESSON, TextQuery
from txinspect.records import InputRecord, TokenRecord
from txinspect.sources.source import Source


def encode(query: TextQuery[Any], opened: Opened) -> InputRecord:
    """What the model's tokenizer makes of what a query gives.

    Raises InspectError for what yields no token, and SourceError for a tokenizer that cannot be loaded.
    """
    source, texts = opened.source, texts_of(query)
    if query.chat:
        text, said = chat.read(query, opened)
        return _masked(query, source, text, opened.tokens(*texts), said)
    tokens = languages.tokens_for(opened, texts, query.src_lang)
    if query.ids is not None:
        return _masked(query, source, _of_ids(query.ids, tokens), tokens)
    with as_source_error(f"the tokenizer of {source.name!r} could not tokenize {named(query.text, query.pair)}"):
        text = tokenizer.as_input(query.text, tokens.encode(query.text, query.special, query.pair), query.pair)
        if query.pair is not None:
            text = structs.replace(text, segments=_segments(query, source, tokens, text, query.pair))
    return _masked(query, source, text, tokens)


def texts_of(query: TextQuery[Any]) -> list[Text]:
    """All texts that a query asks the tokenizer about, so that it is tried on them at once."""
    last = query.text if query.pair is None else query.pair
    after = [each for name in ("targets", "continuations") for each in getattr(query, name, ())]
    own = [query.text, getattr(query, "decoder", None), *after, *(last + each for each in after)]
    texts: list[Text] = [each for each in own if each is not None]
    return texts if query.pair is None else [*texts, (query.text, query.pair)]


def notes(text: InputRecord) -> list[str]:
    """What to know of how the tokens were made."""
    found = []
    if text.pair is not None and text.segments is None:
        found.append("The tokenizer has no segments: it only joins the two texts.")
    first, second = text.tokens[0], text.tokens[min(1, len(text.tokens) - 1)]
    if first.special and len(text.tokens) > 1 and first.id == second.id:
        found.append(f"The text begins with {first.token} twice: one of them is likely too many.")
    return found


def _of_ids(ids: tuple[int, ...], tokens: Tokens) -> InputRecord:
    """Ids as they are, with the text that they stand for."""
    return tokenizer.as_input(tokens.decode(list(ids)), [tokens.record(each, index) for index, each in enumerate(ids)])


def _segments(
    query: TextQuery[Any], source: Source, tokens: Tokens, text: InputRecord, pair: str
) -> list[list[int]] | None:
    """The segments of two joined texts; None for a tokenizer that only joins them.

    Raises InspectError for one that would put nothing in between.
    """
    apart = len(tokens.encode(query.text, query.special)) + len(tokens.encode(pair, False))
    if len(text.tokens) <= apart and not query.special:
        raise InspectError(
            f"without special tokens nothing would tell where {spelled('pair')} begins: omit "
            f"{spelled('special', False)}"
        )
    if len(text.tokens) <= apart:
        raise InspectError(
            f"the tokenizer of {source.name!r} knows no pairs: nothing would tell where {spelled('pair')} begins; "
            f"write both texts as one"
        )
    found = tokens.segments(query.text, query.special, pair)
    return [found] if any(found) else None


def continued(
    query: TextQuery[Any], opened: Opened, tokens: Tokens, text: InputRecord, after: str
) -> tuple[InputRecord, int]:
    """The tokens that were read with those of another text after them, and the index of the first of these.

    Blanks at a text's end belong to the word that follows, as in the texts of training; what the tokenizer puts after
    every text, such as </s>, ends none that goes on. Ids and conversations stay as they are, to the last blank.

    Raises InspectError for what cannot be told from a text: together they are other tokens than apart.
    """
    last = text.text if text.pair is None else text.pair
    given = query.ids is not None or query.chat
    before = last.rstrip(" ") if moves_blanks(query) else last
    if before != last:
        replace = dataclasses.replace
        text = encode(replace(query, text=before) if text.pair is None else replace(query, pair=before), opened)
    ending = _ending(tokens, paired=text.pair is not None) if query.special and not given else 0
    kept = len(text.tokens) - ending
    following = tokens.after(before, last[len(before) :] + after)
    if following is None and given:
        following = tokens.ids(after)
    if not following or not kept:
        raise InspectError(
            f"{spelled('continuations')} {after!r} cannot be told from the text: together they are other tokens than "
            f"apart; begin it where a token begins, such as with a blank"
        )
    added = [tokens.record(each, kept + index) for index, each in enumerate(following)]
    whole = tokenizer.as_input(text.text + after, [*text.tokens[:kept], *added])
    if text.segments is not None:
        segments = text.segments[0][:kept]
        whole = structs.replace(whole, segments=[[*segments, *segments[-1:] * len(added)]])
    return whole, kept


def moves_blanks(query: TextQuery[Any]) -> bool:
    """Whether blanks at the end of what is read are taken for the beginning of what follows it."""
    last = query.text if query.pair is None else query.pair
    return query.ids is None and not query.chat and last.endswith(" ")


def _ending(tokens: Tokens, *, paired: bool) -> int:
    """How many tokens the tokenizer puts after every text, or after a second one."""
    own = tokens.ids(LESSON)
    ids = [token.id for token in tokens.encode(LESSON, True, LESSON if paired else None)]
    ends = range(len(ids), len(own) - 1, -1)
    return next((len(ids) - end for end in ends if ids[end - len(own) : end] == own), 0)


def _masked(
    query: TextQuery[Any],
    source: Source,
    text: InputRecord,
    tokens: Tokens,
    said: Sequence[tuple[int, int]] | None = None,
) -> InputRecord:
    """The text with masks where the query asks for them; words of a conversation only in what its messages `said`."""
    if not query.masks:
        return text
    mask = masks.needed(source, tokens)
    chosen = {index for asked in query.masks for index in _indexed(asked, text)}
    words = [asked for asked in query.masks if not _INDEX.fullmatch(asked)]
    if any(token.start is not None for token in text.tokens):
        texts = [text.text] if text.pair is None else [text.text, text.pair]
        of = [0] * len(text.tokens) if text.pair is None else tokens.sequences(text.text, query.special, text.pair)
        found = [_by_place(word, text, texts, of, said) for word in words]
    else:  # tokenizers written in Python know no spans, nor do ids
        found = [_by_tokens(word, text, tokens) for word in words]
    for word, own in zip(words, found, strict=True):
        if not own:
            raise InspectError(
                f"{spelled('masks')} {word!r} is no word of the text: give one of it as it is written, or a token's "
                f"index"
            )
        chosen.update(own)
    return masks.with_mask(text, tokens, mask, tuple(chosen))


_INDEX = re.compile(r"-?[0-9]{1,9}")


def _indexed(asked: str, text: InputRecord) -> list[int]:
    """The token of an index; none for a word. Raises InspectError for one that cannot be masked."""
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
    """The tokens whose characters are a word's, in the one of the texts that each token is `of`."""
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
    """Where a word stands in a text: as it is written, and not as a part of a longer one, which shows where words have
    blanks around them."""
    before = rf"(?<!{_LETTER})" if re.match(_LETTER, word) else ""
    after = rf"(?!{_LETTER})" if re.match(_LETTER, word[-1]) else ""
    return [match.span() for match in re.finditer(f"{before}{re.escape(word)}{after}", text)]


def _is_within(token: TokenRecord, start: int, end: int) -> bool:
    return token.start is not None and token.end is not None and token.start < end and token.end > start


def _by_tokens(word: str, text: InputRecord, tokens: Tokens) -> list[int]:
    """The tokens that a word is by itself or behind a blank, where they stand one after another."""
    ids = [token.id for token in text.tokens]
    for form in (f" {word}", word):
        own = tokens.ids(form)
        starts = [i for i in range(len(ids) - len(own) + 1) if own and ids[i : i + len(own)] == own]
        if starts:
            return [start + offset for start in starts for offset in range(len(own))]
    return []
