"""A vector for each token → one for the sentence, as sentence-transformers pools it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from txinspect.errors import InspectError
from txinspect.recipe import Dense, Pooling, Recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    Numbers = tuple[NDArray[np.float64], NDArray[np.float64] | None]


def pooled(hidden: Tensor, recipe: Recipe, layers: Sequence[Numbers]) -> Tensor:
    """(batch, seq, hidden) → (batch, hidden), several ways side by side where the recipe has several.

    `layers` are the numbers of the recipe's own, in their order: weight, (out, in), and bias, (out,) or None. Padding
    is none of a text's tokens here, so that every token counts (models/Pooling.py of sentence-transformers).
    """
    import torch

    vector = torch.cat([_WAYS[way](hidden) for way in recipe.pooling], dim=-1)
    numbers = iter(layers)
    for step in recipe.steps:
        if isinstance(step, Dense):
            vector = _through(vector, step, next(numbers))
        else:
            vector = torch.nn.functional.normalize(vector, p=2, dim=1)
    return vector


def _through(vector: Tensor, dense: Dense, numbers: Numbers) -> Tensor:
    """(batch, in) → (batch, out) (models/Dense.py of sentence-transformers)."""
    import torch

    weight, bias = (
        None if each is None else torch.from_numpy(each).to(vector.device, vector.dtype) for each in numbers
    )
    assert weight is not None
    if weight.shape[1] != vector.shape[1]:
        raise InspectError(
            f"a layer behind the pooling reads {weight.shape[1]} numbers, but the pooled vector has {vector.shape[1]}: "
            f"its files do not belong together"
        )
    activation: Tensor = getattr(torch.nn, dense.activation)()(torch.nn.functional.linear(vector, weight, bias))
    return activation


def _weighted(hidden: Tensor) -> Tensor:
    """Token i counts i times, from 1 (Muennighoff 2022, SGPT)."""
    import torch

    weights = torch.arange(1, hidden.shape[1] + 1, device=hidden.device, dtype=hidden.dtype)[None, :, None]
    return (hidden * weights).sum(1) / weights.sum()


_WAYS: dict[Pooling, Callable[[Tensor], Tensor]] = {
    "cls": lambda hidden: hidden[:, 0],
    "mean": lambda hidden: hidden.mean(1),
    "max": lambda hidden: hidden.max(1).values,
    "mean_sqrt_len_tokens": lambda hidden: hidden.sum(1) / hidden.shape[1] ** 0.5,
    "weightedmean": _weighted,
    "lasttoken": lambda hidden: hidden[:, -1],
}
