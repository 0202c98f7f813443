"""What logits make of answers, in float64: log-probabilities of one token or several, and what is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, floor, inf, log2
from typing import TYPE_CHECKING

from txinspect.commands.patch import Metric
from txinspect.measure.predictions import divergences

if TYPE_CHECKING:
    from torch import Tensor

Ids = tuple[int, ...]
"""Tokens of an answer, in order."""

Read = Mapping[Ids, "Tensor"]
"""Logits, (place, vocab), at the places where an answer's tokens are predicted, by the tokens that the text is
continued with there; by none for what is predicted of the text alone."""


def logprob(read: Read, answers: Sequence[Ids], *, continued: bool) -> float:
    """The log-probability of answers of which any will do, in nats: each is the product of its tokens' probabilities.

    Answers are `continued` where a token is predicted from those before it, and are not at masks.
    """
    import torch

    sums = []
    for ids in answers:
        rows = read[ids[:-1] if continued else ()].detach().to("cpu", torch.float64)
        logprobs = torch.log_softmax(rows[: len(ids)], -1)
        sums.append(logprobs.gather(1, torch.tensor(ids)[:, None]).sum())
    return float(torch.logsumexp(torch.stack(sums), 0))


def measured(
    metric: Metric, read: Read, plain: Read, answers: Sequence[Ids], wrong: Sequence[Ids], *, continued: bool
) -> float:
    """A metric of a pass that was `read`. A `logit-difference` of answers is that of their log-probabilities, which of
    two tokens is that of their logits; `kl` is KL(plain ‖ read) in nats, the mean over what is predicted of the text.
    """
    import torch

    if metric == "kl":
        left, right = (torch.log_softmax(each[()].detach().to("cpu", torch.float64), -1) for each in (plain, read))
        found = divergences(left, right)
        return sum(found) / len(found)
    own = logprob(read, answers, continued=continued)
    if metric == "logit-difference":
        return own - logprob(read, wrong, continued=continued)
    return own if metric == "logprob" else exp(own)


def step(logits: Tensor) -> float:
    """The step between neighbours of the logits' type, at the size of the largest one."""
    import torch

    top = float(logits.abs().max())
    return torch.finfo(logits.dtype).eps * 2 ** floor(log2(top)) if 0 < top < inf else 0.0
