"""Masked tokens: where they are in a text, and how well a model knew each token that is masked in turn."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from txinspect.commands.logits import MaskedTokenRecord, PseudoScoreRecord
from txinspect.errors import InspectError, spelled
from txinspect.measure.predictions import perplexity
from txinspect.models import tokenizer
from txinspect.models.subject import Subject
from txinspect.models.tokenizer import Tokens
from txinspect.records import InputRecord
from txinspect.sources.source import Source

Score = Callable[[InputRecord, int], tuple[float, int | None]]
"""Given a text in which a token is masked, and its position: the logarithm of its own token's probability, its rank."""


def positions(subject: Subject, tokens: Tokens, text: InputRecord) -> tuple[int, ...]:
    """The masks of a text. Raises InspectError for a text without one."""
    mask = needed(subject.source, tokens)
    found = tuple(token.index for token in text.tokens if token.id == mask)
    if not found:
        raise InspectError(
            f"the text has no mask, and {subject.source.name!r} fills masks: write {tokens.spell(mask)[0]} in it, mask "
            f"a word of it with {spelled('masks')}, or score all of it with {spelled('pll', True)}"
        )
    return found


def needed(source: Source, tokens: Tokens) -> int:
    """The id of the tokenizer's mask. Raises InspectError where it has none."""
    mask = tokenizer.mask_id(source, tokens)
    if mask is None:
        raise InspectError(f"the tokenizer of {source.name!r} has no mask token: nothing can be masked")
    return mask


def with_mask(text: InputRecord, tokens: Tokens, mask: int, masked: tuple[int, ...]) -> InputRecord:
    """The text with a mask in the place of some of its tokens."""
    spot = tokens.record(mask)
    records = [
        structs.replace(spot, index=token.index, start=token.start, end=token.end) if token.index in masked else token
        for token in text.tokens
    ]
    ids, decoder = [token.id for token in records], text.decoder
    if decoder is not None:  # it reads the text itself behind its first token: see decoder_text
        decoder = structs.replace(decoder, input_ids=[[decoder.input_ids[0][0], *ids[:-1]]])
    return structs.replace(text, tokens=records, input_ids=[ids], decoder=decoder)


def pseudo_score(text: InputRecord, tokens: Tokens, mask: int, score: Score) -> PseudoScoreRecord:
    """Each ordinary token masked in turn, and the sum (Salazar et al. 2020, equation 2)."""
    found = []
    for token in text.tokens:
        if token.special:
            continue
        logprob, rank = score(with_mask(text, tokens, mask, (token.index,)), token.index)
        found.append(MaskedTokenRecord(position=token.index, token=token.text, logprob=logprob, rank=rank))
    if not found:
        raise InspectError(f"the text has special tokens alone: {spelled('pll', True)} has nothing to mask")
    total = sum(each.logprob or 0.0 for each in found)
    return PseudoScoreRecord(tokens=found, pll=total, pseudo_perplexity=perplexity(total, len(found)))
