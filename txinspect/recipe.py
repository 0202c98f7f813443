"""How a sentence encoder makes one vector of a sentence: plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Pooling = Literal["cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]

WAYS: dict[Pooling, str] = {
    "cls": "the first token's vector",
    "mean": "the mean over the tokens",
    "max": "the largest number of all tokens in each place",
    "mean_sqrt_len_tokens": "the sum over the tokens by the root of their number",
    "weightedmean": "the mean over the tokens, later ones counting more",
    "lasttoken": "the last token's vector",
}
"""The ways of pooling that sentence-transformers knows, in words."""

Activation = Literal["Identity", "Tanh", "ReLU", "GELU", "Sigmoid"]


@dataclass(frozen=True, eq=False)
class Dense:
    """A layer behind the pooling: its activation of weight·x + bias."""

    weight: NDArray[np.float64]
    """(out, in)"""
    bias: NDArray[np.float64] | None
    activation: Activation


@dataclass(frozen=True)
class Normalize:
    """The vector is scaled to length 1."""


Step = Dense | Normalize


@dataclass(frozen=True)
class Recipe:
    """What becomes of the last hidden states."""

    pooling: tuple[Pooling, ...]
    steps: tuple[Step, ...]
    """What follows the pooling."""

    def sentence(self) -> str:
        """It in words."""
        ways = ", and beside it ".join(WAYS[way] for way in self.pooling)
        return f"Pooled as modules.json says: {''.join([ways, *(_words(step) for step in self.steps)])}."


def _words(step: Step) -> str:
    if isinstance(step, Normalize):
        return ", scaled to length 1"
    out, width = step.weight.shape
    return f", through a layer from {width} to {out} numbers ({step.activation})"
