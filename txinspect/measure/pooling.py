"""A vector for each token → one for the sentence, as sentence-transformers pools it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from txinspect.errors import InspectError
from txinspect.sentence_vectors import Dense, LayerNorm, Normalize, Pooling, Recipe, Similarity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    Numbers = tuple[NDArray[np.float64], NDArray[np.float64] | None]


def pooled(hidden: Tensor, recipe: Recipe, layers: Sequence[Numbers], left_out: int = 0) -> Tensor:
    """Pool (batch, seq, hidden) to (batch, hidden), several ways side by side where the recipe has several.

    `layers` are the numbers of the recipe's own, in their order: weight and bias, (out,) or None. The first `left_out`
    tokens do not count. Padding is none of a text's tokens here, so that every other one does. Half precisions are
    summed in float32, and rounded then (modules/pooling.py of sentence-transformers).
    """
    import torch

    summed = hidden.float() if hidden.dtype in (torch.float16, torch.bfloat16) else hidden
    ways = [_WAYS[way](summed, left_out) for way in recipe.pooling]
    vector = torch.cat(ways, dim=-1).to(hidden.dtype)
    numbers = iter(layers)
    for step in recipe.steps:
        if isinstance(step, Normalize):
            vector = torch.nn.functional.normalize(vector, p=2, dim=1)
        else:
            vector = _through(vector, step, next(numbers))
    return vector[:, : recipe.first]


def similarity(one: Tensor, other: Tensor, how: Similarity) -> float | None:
    """How alike two vectors (hidden,) are, in float64: more is more alike; None where that is no number.

    Distances are negative (util/similarity.py of sentence-transformers).
    """
    from math import isfinite

    import torch

    first, second = one.double(), other.double()
    if how == "cosine":
        found = torch.dot(first, second) / (first.norm() * second.norm())
    elif how == "dot":
        found = torch.dot(first, second)
    else:
        found = -torch.dist(first, second, p=2 if how == "euclidean" else 1)
    value = float(found)
    return value if isfinite(value) else None


def _through(vector: Tensor, step: Dense | LayerNorm, numbers: Numbers) -> Tensor:
    """A pooled vector through a dense layer: (batch, in) → (batch, out). Raises InspectError for another width."""
    import torch

    weight, bias = (
        None if each is None else torch.from_numpy(each).to(vector.device, vector.dtype) for each in numbers
    )
    assert weight is not None
    width = weight.shape[-1]
    if width != vector.shape[1]:
        raise InspectError(
            f"a layer after the pooling reads {width} numbers, but the pooled vector has {vector.shape[1]}: "
            f"its files do not belong together"
        )
    if isinstance(step, LayerNorm):
        return torch.nn.functional.layer_norm(vector, (width,), weight, bias)
    activation: Tensor = getattr(torch.nn, step.activation)()(torch.nn.functional.linear(vector, weight, bias))
    return activation


def _weighted(hidden: Tensor, left_out: int) -> Tensor:
    """Weighted mean pooling: token i counts i times, counted from 1 even where left out (Muennighoff 2022, SGPT)."""
    import torch

    weights = torch.arange(1, hidden.shape[1] + 1, device=hidden.device, dtype=hidden.dtype)[None, left_out:, None]
    return (hidden[:, left_out:] * weights).sum(1) / weights.sum()


_WAYS: dict[Pooling, Callable[[Tensor, int], Tensor]] = {
    "cls": lambda hidden, left_out: hidden[:, left_out],
    "mean": lambda hidden, left_out: hidden[:, left_out:].mean(1),
    "max": lambda hidden, left_out: hidden[:, left_out:].max(1).values,
    "mean_sqrt_len_tokens": lambda hidden, left_out: hidden[:, left_out:].sum(1) / (hidden.shape[1] - left_out) ** 0.5,
    "weightedmean": _weighted,
    "lasttoken": lambda hidden, _: hidden[:, -1],
}
