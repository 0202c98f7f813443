"""How long a text may be, and which ids and layers may be asked for, of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from txinspect.errors import InspectError, spelled
from txinspect.forward.wants import check_layers
from txinspect.loading.subject import Subject, context
from txinspect.queries import PassQuery
from txinspect.records import InputRecord, SentenceRecord
from txinspect.sources.config import layer_count, number
from txinspect.sources.source import Source

LONGEST_TOKENS = 64
"""Characters that a token has at most, on average."""

UNSTATED = 65_536
"""Positions of a model that says nothing of them, where a text is too long to be true."""

BEYOND = 4
"""Times the positions that a model was made for beyond which its attention would take hours."""

if TYPE_CHECKING:
    from torch import Tensor


def check_layer_numbers(query: PassQuery[Any], source: Source) -> None:
    """Raise InspectError for a layer beyond the limit that a model has by its config.json."""
    raw = source.config
    layers = layer_count(raw)
    if layers is not None and raw.get("is_encoder_decoder") is not True:  # else each stack has a count of its own
        check_layers(source.name, query.layers_asked, layers)


def check_size(query: PassQuery[Any], source: Source) -> None:
    """Raise InspectError for a text that is far too long for the model, before it is even tokenized."""
    positions = number(source.config, "max_position_embeddings")
    most = (positions or UNSTATED) * LONGEST_TOKENS
    if query.fits and query.window_step is None and query.max_tokens is None and len(query.text) > most:
        raise InspectError(
            f"the text has {len(query.text):,} characters, far more than {source.name!r} has positions"
            f"{f', {positions:,}' if positions else ''}: {query.too_long(positions or UNSTATED)}"
        )


def check_text(subject: Subject, text: InputRecord, query: PassQuery[Any]) -> None:
    """Raise InspectError for a text with more tokens, or other ones, than the model has rows for."""
    too_long, given = query.too_long if subject.task.name == "causal-lm" else query.too_long_unread, query.ids
    count, limit = len(text.tokens), subject.architecture.max_positions
    if limit is not None and count > limit:
        raise InspectError(
            f"the text is {count} tokens long, but {subject.source.name!r} has {limit} positions: {too_long(limit)}"
        )
    stated = context(subject) or UNSTATED
    if count > BEYOND * stated:
        raise InspectError(
            f"the text is {count:,} tokens long, more than {BEYOND} times the {stated:,} that "
            f"{subject.source.name!r} was made for: {too_long(stated)}"
        )
    if text.decoder is not None:
        _check_decoder(subject, text.decoder)
    rows = getattr(subject.as_configured.get_input_embeddings(), "num_embeddings", None)
    largest = max(text.tokens, key=lambda token: token.id)
    if rows is not None and largest.id >= rows and given is not None:
        raise InspectError(
            f"{spelled('ids')} {largest.id} is beyond the vocabulary of {subject.source.name!r}: give ids from 0 to "
            f"{rows - 1}"
        )
    if rows is not None and largest.id >= rows:
        raise InspectError(
            f"the tokenizer of {subject.source.name!r} gives token id {largest.id}, but the embedding table has {rows} "
            f"rows: the tokenizer does not belong to these weights"
        )


def _check_decoder(subject: Subject, sentence: SentenceRecord) -> None:
    """Raise InspectError for a decoder's text with more tokens than the decoder has positions."""
    count, limit = len(sentence.tokens), subject.architecture.main.max_positions
    if limit is not None and count > limit:
        raise InspectError(
            f"the decoder's text is {count} tokens long with its start token, but the decoder of "
            f"{subject.source.name!r} has {limit} positions: shorten {spelled('decoder')}"
        )


def check_step(subject: Subject, query: PassQuery[Any]) -> None:
    """Raise InspectError for a step between windows beyond the positions that the model has."""
    limit = context(subject)
    if query.window_step is not None and limit is not None and query.window_step > limit:
        raise InspectError(
            f"{spelled('stride')} {query.window_step} would leave tokens out: give at most {limit}, the positions of "
            f"{subject.source.name!r}"
        )


def check_logits(logits: Tensor, count: int, top_k: int) -> None:
    """Check logits against limits: raise InspectError unless (1, `count`, vocab), with `top_k` tokens at least."""
    if logits.ndim != 3 or tuple(logits.shape[:2]) != (1, count):
        raise InspectError(
            f"the logits are {list(logits.shape)} for {count} tokens: this model does not predict one token after each"
        )
    if top_k > logits.shape[2]:
        raise InspectError(
            f"{spelled('top_k')} {top_k} is more than the vocabulary has: give at most {logits.shape[2]}"
        )
