"""What an edit of a pass changes in its predictions, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from txinspect.measure.predictions import divergences

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Effect:
    """Means over positions of what an edit changes."""

    delta: float
    """Of the log-probability of the tokens looked at, in nats."""
    kl: float
    """KL(plain ‖ edited), in nats."""
    changed: int
    """Positions whose likeliest token is another one."""


def effect(edited: Tensor, plain: Tensor, ids: Sequence[int]) -> Effect:
    """The effect of an edit on logits, (position, vocab), by the tokens of `ids` at each position."""
    import torch

    left, right = (torch.log_softmax(each.detach().to("cpu", torch.float64), -1) for each in (plain, edited))
    chosen = torch.tensor(list(ids))[:, None]
    delta = (right.gather(1, chosen) - left.gather(1, chosen)).mean()
    kls = divergences(left, right)
    changed = int((left.argmax(-1) != right.argmax(-1)).sum())
    return Effect(float(delta), sum(kls) / len(kls), changed)


def logprob(logits: Tensor, ids: Sequence[int]) -> float:
    """The mean log-probability of the tokens of `ids` by logits, (position, vocab), in nats."""
    import torch

    logprobs = torch.log_softmax(logits.detach().to("cpu", torch.float64), -1)
    return float(logprobs.gather(1, torch.tensor(list(ids))[:, None]).mean())
