"""How a sentence encoder makes one vector of a sentence: plain values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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


@dataclass(frozen=True)
class Dense:
    """A layer behind the pooling: its activation of weight·x + bias."""

    file: Path
    """Where its numbers are."""
    out: int
    width: int
    """Numbers that it makes, and reads."""
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
    return f", through a layer from {step.width} to {step.out} numbers ({step.activation})"
