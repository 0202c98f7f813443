"""Vectors made of hidden states of two kinds of text, and how they lie beside what they were made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


def direction(differences: Tensor, method: Literal["mean", "pca"]) -> Tensor:
    """A vector, (hidden,), of the differences of pairs, (pair, hidden) in float64.

    `mean` is their mean, the difference of means. `pca` is their first principal component about zero (the first right
    singular vector, as in Zou et al. 2023, where differences have either sign), pointing to where their mean does
    and as long as that is along it.
    """
    import torch

    mean = differences.mean(0)
    if method == "mean":
        return mean
    first: Tensor = torch.linalg.svd(differences, full_matrices=False).Vh[0]
    return first * (mean @ first)


def agreement(differences: Tensor, vector: Tensor) -> float:
    """The mean cosine of a vector with the differences of pairs, (pair, hidden), that are no zero."""
    lengths = differences.norm(dim=-1) * vector.norm()
    cosines = (differences @ vector)[lengths > 0] / lengths[lengths > 0]
    return float(cosines.mean()) if len(cosines) else 0.0


def mean_norm(hidden: Tensor) -> float:
    """The mean Euclidean norm of the rows of hidden states, (seq, hidden)."""
    return float(hidden.double().norm(dim=-1).mean())


def random_like(vector: Tensor, seed: int) -> Tensor:
    """A direction drawn evenly from all, as long as a vector, (hidden,)."""
    import torch

    drawn: Tensor = torch.randn(vector.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scaled: Tensor = drawn * (vector.double().norm() / drawn.norm())
    return scaled
