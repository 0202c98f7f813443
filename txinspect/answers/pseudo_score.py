"""How well a model knew each token of a text that is masked in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from txinspect.commands.logits import MaskedTokenRecord, PseudoScoreRecord
from txinspect.errors import InspectError, spelled
from txinspect.measure.predictions import perplexity
from txinspect.records import InputRecord, TokenRecord
from txinspect.texts.masking import with_mask
from txinspect.texts.tokens import Tokens

Score = Callable[[InputRecord, int], tuple[float, int | None]]
"""Given a text in which a token is masked, and its position: the logarithm of its own token's probability, its rank."""


def pseudo_score(
    text: InputRecord,
    tokens: Tokens,
    mask: int,
    score: Score,
    counted: Callable[[Sequence[TokenRecord]], Iterable[TokenRecord]],
) -> PseudoScoreRecord:
    """Pseudo-score: each ordinary token masked in turn, and the sum (Salazar et al. 2020, equation 2)."""
    found = []
    for token in counted([token for token in text.tokens if not token.special]):
        logprob, rank = score(with_mask(text, tokens, mask, (token.index,)), token.index)
        found.append(MaskedTokenRecord(position=token.index, token=token.text, logprob=logprob, rank=rank))
    if not found:
        raise InspectError(f"the text has special tokens alone: {spelled('pll', True)} has nothing to mask")
    total = sum(each.logprob or 0.0 for each in found)
    return PseudoScoreRecord(tokens=found, pll=total, pseudo_perplexity=perplexity(total, len(found)))
