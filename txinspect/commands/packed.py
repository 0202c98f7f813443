"""Attention as a page carries it: weights in bytes, with the ends of their scales; plain values."""

from __future__ import annotations

from dataclasses import dataclass, field

from txinspect.blocks import Block


@dataclass(frozen=True)
class PackedMaps:
    """The weights of some heads of one attention: each block's largest, in 255 steps of two scales that begin at 0."""

    heads: list[int]
    queries: list[Block]
    """First and last query index of each row."""
    keys: list[Block]
    """First and last key index of each column."""
    first: list[float]
    """By head: what 255 stands for in the first column, since most heads rest on it."""
    rest: list[float]
    """By head: what 255 stands for in the other columns."""
    causal: bool
    """Whether no query sees a key ahead of it."""
    values: bytes
    """Axes: head, column, row; where they are causal, of each column the rows that see it."""

    @property
    def are_pooled(self) -> bool:
        """Whether a packed row or column stands for several queries or keys."""
        return any(first != last for first, last in (*self.queries, *self.keys))


@dataclass(frozen=True)
class PackedVectors:
    """The queries or keys of some heads, each number in 255 steps between its head's largest magnitude and minus it."""

    heads: list[int]
    size: int
    """Numbers in a vector."""
    largest: list[float]
    """By head: the magnitude that 127 stands for."""
    values: bytes
    """Signed; axes: head, position, number."""


@dataclass(frozen=True)
class PackedAttention:
    """One attention of a layer, packed."""

    stack: str
    """The prefix of the stack that it is in."""
    kind: str
    """self or cross."""
    layer: int
    run: int
    """Which of the layer's attentions in a pass it is, from 1."""
    maps: PackedMaps
    whole: PackedMaps | None = None
    """Of maps whose weights are pooled: those of some heads that are not."""
    lengths: list[list[float]] = field(default_factory=list)
    """How long each value is; axes: key–value head, key."""
    shared: list[int] = field(default_factory=list)
    """By head of the maps: which of the key–value heads here, in their order, it reads."""
    q: PackedVectors | None = None
    k: PackedVectors | None = None
