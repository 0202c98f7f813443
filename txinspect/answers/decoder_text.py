"""What the decoder of an encoder–decoder reads: a text that was given, or what the model itself generates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import structs

from txinspect.errors import InspectError, SourceError, UsageError, first_line, spelled
from txinspect.forward import decoding
from txinspect.loading import generation
from txinspect.loading.subject import Subject
from txinspect.queries import PassQuery
from txinspect.records import InputRecord, SentenceRecord
from txinspect.texts import languages
from txinspect.texts.tokens import Tokens
from txinspect.wording import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor
    from transformers import PreTrainedModel


def before_the_run(
    subject: Subject, query: PassQuery[Any], text: InputRecord, known: SentenceRecord | None
) -> InputRecord:
    """The text with what its decoder reads, `known` or not; what is yet to be generated is as many start tokens.

    Raises UsageError for a decoder's text where there is no decoder.
    """
    if not subject.has_decoder:
        new = (query.new != PassQuery.new and not query.continues) or None
        named = {"decoder": query.decoder, "tgt_lang": query.tgt_lang, "new": new}
        given = next((name for name, value in named.items() if value is not None), None)
        if given is not None:
            raise UsageError(
                f"{subject.source.name!r} is no encoder–decoder: {spelled(given)} is about a decoder that reads a text "
                f"of its own; omit it"
            )
        return text
    if reads_the_text(subject) and query.decoder is not None:
        raise UsageError(
            f"{subject.source.name!r} ({subject.task.class_name}) lets its decoder read the text itself: omit "
            f"{spelled('decoder')}"
        )
    if known is not None:
        return structs.replace(text, decoder=known)
    tokens = subject.opened.tokens(text.text)
    start = _start(subject, query, tokens)
    if query.decoder is not None:
        return _with(text, tokens, [*start, *tokens.ids(query.decoder)], query.decoder)
    if reads_the_text(subject):
        return _with(text, tokens, [_known(subject, subject.start_id), *text.input_ids[0][:-1]], text.text)
    missing = _most(subject, query) if is_generated(subject, query) else 0
    return _with(text, tokens, [*start, *start[-1:] * missing], "")


def with_start_alone(subject: Subject, query: PassQuery[Any], text: InputRecord) -> InputRecord:
    """The text where the decoder is not reached: the decoder is given no more than what it begins with."""
    tokens = subject.opened.tokens(text.text)
    return _with(text, tokens, _start(subject, query, tokens), "")


def reads_the_text(subject: Subject) -> bool:
    """Whether the decoder is given the encoder's text, too, after its start token, as a BART that fills masks or
    classifies is (shift_tokens_right of modeling_bart.py)."""
    return subject.has_decoder and subject.task.name not in ("seq2seq-lm", "base")


def is_generated(subject: Subject, query: PassQuery[Any]) -> bool:
    """Whether the model itself generates the decoder's text."""
    return subject.has_decoder and query.decoder is None and subject.task.name == "seq2seq-lm"


def generated(
    subject: Subject, query: PassQuery[Any], text: InputRecord, model: PreTrainedModel, inputs: Mapping[str, Tensor]
) -> tuple[InputRecord, list[str]]:
    """The text with what the model generates from it for its decoder, after the start token; and notes of how.

    Raises InspectError for settings that transformers cannot generate by.
    """
    tokens, name = subject.opened.tokens(text.text), subject.source.name
    start, settings = _start(subject, query, tokens), generation.settings(subject.source, subject.config)
    try:
        ids = decoding.greedy(model, inputs, start, _most(subject, query), settings)
    except Exception as error:
        raise InspectError(
            f"{name!r} could not generate what its decoder reads ({type(error).__name__}: {first_line(error)}): give "
            f"{spelled('decoder')}, or mend its {generation.FILE}"
        ) from error
    others = generation.left_out(settings)
    notes = [f"Of {generation.FILE} this is not followed: {', '.join(others)}."] if others else []
    limit = generation.longest(subject.source, settings, len(start))
    if limit is not None and len(ids) > limit[2]:
        notes.append(f"{generation.FILE} has {limit[0]} {limit[1]}, and as many as were asked for were generated.")
    return _with(text, tokens, [*start, *ids], tokens.decode(ids)), notes


def begun(subject: Subject, query: PassQuery[Any], tokens: Tokens) -> tuple[list[int], int]:
    """What a decoder that generates its text begins with, and how many tokens follow at most."""
    return _start(subject, query, tokens), _most(subject, query)


def with_ids(
    subject: Subject, query: PassQuery[Any], text: InputRecord, tokens: Tokens, ids: Sequence[int]
) -> InputRecord:
    """The text with these ids as what its decoder reads, after what that begins with."""
    return _with(text, tokens, [*_start(subject, query, tokens), *ids], tokens.decode(list(ids)))


def _start(subject: Subject, query: PassQuery[Any], tokens: Tokens) -> list[int]:
    """What a decoder begins with where it generates or is given a text: its start token, and the language that it is
    asked for.

    Some begin with the language itself (mBART's first models). Raises InspectError for an unknown language.
    """
    source = subject.source
    start = _known(subject, generation.start(source, generation.settings(source, subject.config)))
    if query.tgt_lang is None:
        return [start]
    language = languages.language_id(source, tokens, "tgt_lang", query.tgt_lang)
    return [language] if start in languages.languages(tokens).values() else [start, language]


def _known(subject: Subject, start: int | None) -> int:
    """The id that a decoder's text begins with. Raises InspectError for none, or for one beyond its vocabulary."""
    if start is None:
        raise InspectError(
            f"neither config.json nor {generation.FILE} of {subject.source.name!r} names a decoder_start_token_id: "
            f"what its decoder begins with is not known"
        )
    path = subject.architecture.main.token_embeddings
    rows = getattr(subject.as_loaded.get_submodule(path), "num_embeddings", None) if path is not None else None
    if rows is not None and start >= rows:
        raise SourceError(
            f"the decoder of {subject.source.name!r} would begin with the token {shown(start)}, but its vocabulary has "
            f"{rows:,}: mend decoder_start_token_id in its config.json or {generation.FILE}"
        )
    return start


def _most(subject: Subject, query: PassQuery[Any]) -> int:
    """How many tokens of a decoder's text are generated at most; a language asked for is one of them."""
    limit = subject.architecture.main.max_positions
    count = query.new if query.tgt_lang is None else max(query.new - 1, 0)
    return count if limit is None else min(count, limit - 2)


def _with(text: InputRecord, tokens: Tokens, ids: Sequence[int], words: str) -> InputRecord:
    """The text with these ids as the decoder's text."""
    sentence = SentenceRecord(
        text=words,
        input_ids=[list(ids)],
        attention_mask=[[1] * len(ids)],
        tokens=[tokens.record(each, index) for index, each in enumerate(ids)],
    )
    return structs.replace(text, decoder=sentence)
