"""Logits → what they predict: probabilities, ranks, entropies; in float64, a few positions at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, isfinite, isnan
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 1 << 21
"""Logits that are float64 at a time: 16 MB."""


@dataclass(frozen=True)
class Scored:
    """A token's row, and what the logits give for it."""

    id: int
    logit: float
    logprob: float
    """Natural logarithm of the softmax."""
    rank: int | None
    """1 + the number of larger logits; None for a logit that is no number."""
    ties: int
    """Other tokens with the same logit."""

    @property
    def prob(self) -> float:
        """The probability of a token by the softmax of the logits."""
        return exp(self.logprob)


def after_each(logits: Tensor, following: Sequence[int | None]) -> list[tuple[float, Scored | None]]:
    """What each position of logits, (seq, vocab), predicts: entropy in nats, and the token that follows, if any."""
    found = []
    for begin, exact, logprobs in _chunks(logits):
        ids = list(following[begin : begin + len(exact)])
        scored = _scored(exact, logprobs, [token_id or 0 for token_id in ids])
        pairs = zip(_entropies(logprobs), ids, scored, strict=True)
        found += [(entropy, None if token_id is None else each) for entropy, token_id, each in pairs]
    return found


def scores(logits: Tensor, ids: Sequence[int]) -> list[Scored]:
    """Ranks and probabilities of tokens at one position of logits, (vocab); the whole row is looked at once."""
    import torch

    exact = logits.detach().to("cpu", torch.float64)
    total = float(exact.logsumexp(-1))
    own = exact[list(ids)]
    steps = own.nan_to_num(nan=-torch.inf).unique()
    ranked = exact.nan_to_num(nan=-torch.inf)
    # How many logits are at most, and how many below, each of the tokens' own.
    at_most, below = (
        torch.bincount(torch.bucketize(ranked, steps, right=right), minlength=len(steps) + 1).cumsum(0)
        for right in (False, True)
    )
    places = torch.searchsorted(steps, own.nan_to_num(nan=-torch.inf))
    return [
        Scored(
            token_id,
            logit,
            logit - total,
            rank=None if isnan(logit) else len(exact) - int(at_most[place]) + 1,
            ties=max(0, int(at_most[place] - below[place]) - 1),
        )
        for token_id, logit, place in zip(ids, own.tolist(), places.tolist(), strict=True)
    ]


def top(logits: Tensor, count: int) -> list[Scored]:
    """The tokens that are predicted first at one position of logits, (vocab); equal ones by id."""
    return scores(logits, likeliest(logits, count))


def likeliest(logits: Tensor, count: int) -> list[int]:
    """The ids of the tokens predicted first at one position of logits, (vocab); equal ones by id."""
    import torch

    logits = torch.nan_to_num(logits, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)  # NaN comes last
    least = torch.topk(logits, count).values[-1]
    ids = (logits >= least).nonzero().flatten()
    ordered = ids[torch.sort(logits[ids], descending=True, stable=True).indices]
    return [int(each) for each in ordered[:count]]


def perplexity(logprob: float, count: int) -> float | None:
    """Perplexity, exp(-logprob / count) of `count` tokens; None where that is no number that can be written."""
    mean = -logprob / count
    return exp(mean) if isfinite(mean) and mean < 700 else None


def _chunks(logits: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Some positions of logits at a time: the first, logits and log-probabilities, (position, vocab) in float64."""
    step = max(1, CHUNK // logits.shape[-1])
    for begin in range(0, len(logits), step):
        yield begin, *_exact(logits[begin : begin + step])


def _exact(logits: Tensor) -> tuple[Tensor, Tensor]:
    import torch

    exact = logits.detach().to("cpu", torch.float64)
    return exact, torch.log_softmax(exact, -1)


def _entropies(logprobs: Tensor) -> list[float]:
    import torch

    found: list[float] = torch.special.entr(logprobs.exp()).sum(-1).tolist()
    return found


def _scored(exact: Tensor, logprobs: Tensor, ids: Sequence[int]) -> list[Scored]:
    """What each row of logits, (row, vocab), gives for one token."""
    import torch

    index = torch.tensor(ids)[:, None]
    own = exact.gather(1, index)
    logit, logprob = own[:, 0].tolist(), logprobs.gather(1, index)[:, 0].tolist()
    larger, same = (exact > own).sum(1).tolist(), (exact == own).sum(1).tolist()
    return [
        Scored(token_id, each, logprob[i], None if isnan(each) else larger[i] + 1, max(0, same[i] - 1))
        for i, (token_id, each) in enumerate(zip(ids, logit, strict=True))
    ]


def compared(logits: Tensor, final: Tensor) -> list[tuple[float, float]]:
    """What each position of logits, (seq, vocab), predicts beside others: entropy, and KL(final ‖ logits), in nats."""
    found: list[tuple[float, float]] = []
    for begin, _, logprobs in _chunks(logits):
        _, others = _exact(final[begin : begin + len(logprobs)])
        found += zip(_entropies(logprobs), divergences(others, logprobs), strict=True)
    return found


def divergences(left: Tensor, right: Tensor) -> list[float]:
    """KL(left ‖ right) of rows of log-probabilities; a token that the left gives no probability counts nothing."""
    weights = left.exp()
    terms = weights * (left - right)
    found: list[float] = terms.masked_fill(weights == 0, 0.0).sum(-1).clamp(min=0).tolist()
    return found
