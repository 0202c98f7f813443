"""What a query gives to read → tokens: a text, two joined, a conversation, or ids; masked where that is asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from msgspec import structs

from txinspect.errors import InspectError, spelled
from txinspect.guards.quiet import as_source_error
from txinspect.queries import LESSON, TextQuery
from txinspect.records import InputRecord
from txinspect.sources.source import Source
from txinspect.texts import chat, languages
from txinspect.texts.cutting import cut
from txinspect.texts.masking import masked
from txinspect.texts.opened import Opened
from txinspect.texts.tokens import Text, Tokens, as_input, quoted_texts
from txinspect.wording import shown


def encode(query: TextQuery[Any], opened: Opened) -> InputRecord:
    """Read what a query gives into tokens, by the model's tokenizer.

    Raises InspectError for what yields no token, and SourceError for a tokenizer that cannot be loaded.
    """
    source, texts = opened.source, texts_of(query)
    if query.chat:
        text, said = chat.read(query, opened)
        return masked(query, source, text, opened.tokens(*texts), said)
    tokens = languages.tokens_for(opened, texts, query.src_lang)
    if query.ids is not None:
        return masked(query, source, cut(_of_ids(query.ids, tokens), tokens, query.max_tokens), tokens)
    with as_source_error(f"the tokenizer of {source.name!r} could not tokenize {quoted_texts(query.text, query.pair)}"):
        text = as_input(query.text, tokens.encode(query.text, query.special, query.pair), query.pair)
        if query.pair is not None:
            text = structs.replace(text, segments=_segments(query, source, tokens, text, query.pair))
    if query.max_tokens is not None:
        text = cut(text, tokens, query.max_tokens, [token.id for token in tokens.encode(query.text, False)])
    return masked(query, source, text, tokens)


def texts_of(query: TextQuery[Any]) -> list[Text]:
    """All texts that a query gives to read, so that the tokenizer is tried on them at once."""
    last = query.text if query.pair is None else query.pair
    after = [each for name in ("targets", "continuations") for each in getattr(query, name, ())]
    own = [query.text, getattr(query, "decoder", None), *after, *(last + each for each in after)]
    texts: list[Text] = [each for each in own if each is not None]
    return texts if query.pair is None else [*texts, (query.text, query.pair)]


def notes(text: InputRecord) -> list[str]:
    """What to know of how the tokens that a query gives to read were made."""
    found = []
    if text.pair is not None and text.segments is None:
        found.append("The tokenizer has no segments: it only joins the two texts.")
    if text.uncut is not None:
        found.append(f"{len(text.tokens):,} of {text.uncut:,} tokens are read (--max-tokens): {shown(text.text)}.")
    first, second = text.tokens[0], text.tokens[min(1, len(text.tokens) - 1)]
    if first.special and len(text.tokens) > 1 and first.id == second.id:
        found.append(f"The text begins with {first.token} twice: one of them is likely too many.")
    return found


def _of_ids(ids: tuple[int, ...], tokens: Tokens) -> InputRecord:
    """Ids that a query gives to read, as they are, with the text that they stand for."""
    return as_input(tokens.decode(list(ids)), [tokens.record(each, index) for index, each in enumerate(ids)])


def _segments(
    query: TextQuery[Any], source: Source, tokens: Tokens, text: InputRecord, pair: str
) -> list[list[int]] | None:
    """The segments of two joined texts that are read; None for a tokenizer that only joins them.

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
    """The tokens that were read with those of a text that continues them, and the index of the first of these.

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
    whole = as_input(text.text + after, [*text.tokens[:kept], *added])
    if text.segments is not None:
        segments = text.segments[0][:kept]
        whole = structs.replace(whole, segments=[[*segments, *segments[-1:] * len(added)]])
    return whole, kept


def with_tokens(text: InputRecord, tokens: Tokens, ids: Sequence[int]) -> InputRecord:
    """A text, or its decoder's, with these tokens behind it."""
    own = text.main
    records = [*own.tokens, *(tokens.record(each, len(own.tokens) + place) for place, each in enumerate(ids))]
    fields = {
        "tokens": records,
        "input_ids": [[each.id for each in records]],
        "attention_mask": [[1] * len(records)],
    }
    if text.decoder is not None:
        return structs.replace(text, decoder=structs.replace(text.decoder, **fields))
    segments = text.segments and [[*text.segments[0], *text.segments[0][-1:] * len(ids)]]
    return structs.replace(text, segments=segments, **fields)


def moves_blanks(query: TextQuery[Any]) -> bool:
    """Whether blanks at the end of a text that is read are taken for the beginning of what continues it."""
    last = query.text if query.pair is None else query.pair
    return query.ids is None and not query.chat and last.endswith(" ")


def _ending(tokens: Tokens, *, paired: bool) -> int:
    """How many tokens the tokenizer puts after every text that is read, or after a second one."""
    own = tokens.ids(LESSON)
    ids = [token.id for token in tokens.encode(LESSON, True, LESSON if paired else None)]
    ends = range(len(ids), len(own) - 1, -1)
    return next((len(ids) - end for end in ends if ids[end - len(own) : end] == own), 0)
