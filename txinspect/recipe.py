"""How a sentence encoder makes one vector of a sentence: plain values."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Recipe:
    """What becomes of the last hidden states."""

    pooling: tuple[Pooling, ...]
    normalized: bool

    def sentence(self) -> str:
        """It in words."""
        ways = ", and beside it ".join(WAYS[way] for way in self.pooling)
        return f"Pooled as modules.json says: {ways}{', scaled to length 1' if self.normalized else ''}."
