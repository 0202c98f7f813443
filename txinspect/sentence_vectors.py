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

Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]

Activation = Literal["Identity", "Tanh", "ReLU", "GELU", "Sigmoid"]


@dataclass(frozen=True)
class Dense:
    """A layer after the pooling: its activation of weight·x + bias."""

    file: Path
    """Where its numbers are."""
    out: int
    width: int
    """Numbers that it makes, and reads."""
    activation: Activation


@dataclass(frozen=True)
class LayerNorm:
    """The vector's numbers are brought to mean 0 and variance 1, then times a weight, plus a bias."""

    file: Path
    """Where its numbers are."""
    width: int


@dataclass(frozen=True)
class Normalize:
    """The vector is scaled to length 1."""


Step = Dense | LayerNorm | Normalize


@dataclass(frozen=True)
class Reading:
    """What becomes of a text before the encoder reads it."""

    prompt: str = ""
    """What is put before it."""
    prompt_name: str = ""
    """Its name, as default_prompt_name has it."""
    lower: bool = False
    """Whether it is lowercased."""
    most: int | None = None
    """Tokens beyond which it is cut; None for those of the tokenizer or the model."""
    most_by: str = ""
    """The setting that says so; "" for max_seq_length."""
    side: str | None = None
    """The side on which it is cut; None for the tokenizer's."""


@dataclass(frozen=True)
class Recipe:
    """What becomes of a text, and of the last hidden states."""

    reading: Reading
    pooling: tuple[Pooling, ...]
    steps: tuple[Step, ...]
    """What follows the pooling."""
    with_prompt: bool = True
    """Whether the prompt's tokens are pooled, too."""
    first: int | None = None
    """How many numbers of the vector are kept; None for all."""
    notes: tuple[str, ...] = ()
    """What to know of settings that are not followed."""
    similarity: Similarity = "cosine"
    """How two vectors are compared."""

    def sentence(self, left_out: int = 0) -> str:
        """How a sentence's vector is made, in words; `left_out` are the prompt's tokens that are not pooled."""
        ways = ", and beside it ".join(WAYS[way] for way in self.pooling)
        but = f", without the {left_out} of the prompt (include_prompt)" if left_out else ""
        kept = f", of which the first {self.first} numbers are kept (truncate_dim)" if self.first else ""
        return f"Pooled as modules.json says: {''.join([ways, but, *(_words(step) for step in self.steps), kept])}."


def _words(step: Step) -> str:
    if isinstance(step, Normalize):
        return ", scaled to length 1"
    if isinstance(step, LayerNorm):
        return f", through a layer norm of {step.width} numbers"
    return f", through a layer from {step.width} to {step.out} numbers ({step.activation})"
