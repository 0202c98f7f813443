"""q, k, v, scores, weights and context of one softmax attention, and the parts of them that are asked for.

At an attention backend q, k, v and the mask are there; the weights are computed from them with the eager function of
the model's own file, in blocks of query rows, so that memory stays flat on long texts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from txinspect.errors import StageError
from txinspect.forward.recorded import Coordinates, TensorBlocks, coordinates, take
from txinspect.forward.wants import Selection
from txinspect.indices import from_start

if TYPE_CHECKING:
    from torch import Tensor, nn

BLOCK_ELEMENTS = 1 << 23
"""Weights computed at a time: 32 MB in float32."""

Rows = slice | list[int]


class Call(Protocol):
    """One softmax attention of a module, as it was computed."""

    @property
    def has_sinks(self) -> bool:
        """Whether part of each query's attention goes to sinks, so that its weights sum to less than 1."""

    def part(self, name: str, selection: Selection) -> tuple[TensorBlocks, Coordinates]:
        """A softmax attention's q, k, v, scores, weights or context, and the positions kept of axes that were cut.

        Raises StageError for a head that the module does not have, and for a part that cannot be had.
        """


@dataclass(frozen=True)
class BackendCall:
    """A call of an attention backend: what it was given and what it returned."""

    module: nn.Module
    eager: Callable[..., tuple[Tensor, Tensor | None]]
    query: Tensor
    """(batch, head, query, head_dim)"""
    key: Tensor
    """(batch, kv_head, key, head_dim)"""
    value: Tensor
    """(batch, kv_head, key, head_dim)"""
    mask: Tensor | None
    """(batch or 1, head or 1, query, key): additive, or boolean with True where a key is seen; None: see `causal`."""
    options: Mapping[str, Any]
    """What else the backend was given: scaling, sinks, soft-capping, …"""
    output: Tensor
    """(batch, query, head, head_dim), as the backend returned it"""
    reported: Tensor | None
    """(batch, head, query, key): the weights, where the backend returned them"""
    causal: bool
    """What no mask means to the backend: every query sees the keys up to itself, or all."""
    scored: Tensor | None = None
    """(batch, head, query, key): the scores, where others were set in their place"""

    @property
    def has_sinks(self) -> bool:
        """See Call."""
        return any(self.options.get(name) is not None for name in ("s_aux", "sinks")) or hasattr(self.module, "sinks")

    def part(self, name: str, selection: Selection) -> tuple[TensorBlocks, Coordinates]:
        """See Call."""
        count = self.query.shape[1]
        heads = checked_heads(selection.heads, count)
        if name in ("k", "v"):
            return cut_groups(self.key if name == "k" else self.value, heads, count)
        if name in ("q", "context"):
            return cut_heads(self.query if name == "q" else self.output.transpose(1, 2), heads)
        queries = None if selection.queries is None else list(selection.queries)
        compute = self._scores if name == "scores" else self._weights
        return self._pattern(compute, heads, queries), coordinates(head=heads, query=queries)

    def _pattern(
        self, compute: Callable[[Rows], Tensor], heads: list[int] | None, queries: list[int] | None
    ) -> TensorBlocks:
        """Scores or weights of an attention, whole where they fit into a block, else computed anew in each round."""
        batch, count, length, _ = self.query.shape
        keys = self.key.shape[2]
        rows = length if queries is None else len(queries)
        step = max(1, BLOCK_ELEMENTS // (batch * count * keys))
        shape = (batch, count if heads is None else len(heads), rows, keys)

        def block(start: int) -> Tensor:
            chosen = slice(start, start + step) if queries is None else queries[start : start + step]
            return take(compute(chosen), 1, heads)

        if rows <= step:
            return TensorBlocks.of(block(0))
        return TensorBlocks(shape, self.query.dtype, lambda: (block(start) for start in range(0, rows, step)))

    def _scores(self, rows: Rows) -> Tensor:
        """Attention scores, scaled q·kᵀ, of some query rows: (batch, head, rows, key)."""
        if self.scored is not None:
            return self.scored[:, :, rows]
        key = self.key.repeat_interleave(self.query.shape[1] // self.key.shape[1], dim=1)
        scaling = self.options.get("scaling")
        scaling = 1 / math.sqrt(self.query.shape[-1]) if scaling is None else scaling
        scores: Tensor = self.query[:, :, rows] @ key.transpose(-1, -2) * scaling
        return scores

    def _weights(self, rows: Rows) -> Tensor:
        """Weights of some query rows of an attention call: (batch, head, rows, key)."""
        if self.reported is not None:
            return self.reported[:, :, rows]
        options = {name: self._rows_of(option, rows) for name, option in self.options.items()}
        mask = self._additive_mask(rows)
        # Values without features: the context, which nobody reads here, is a product as large as that of the scores.
        value = self.value[..., :0]
        _, weights = self.eager(self.module, self.query[:, :, rows], self.key, value, mask, **options)
        if weights is None:
            raise StageError(f"the eager attention of {type(self.module).__name__} returns no weights")
        return weights

    def _rows_of(self, option: Any, rows: Rows) -> Any:
        """The part of an attention call's option for some query rows: a position bias has an axis of queries."""
        import torch

        has_queries = isinstance(option, torch.Tensor) and option.ndim >= 3 and option.shape[-2] == self.query.shape[2]
        return option[..., rows, :] if has_queries else option

    def _additive_mask(self, rows: Rows) -> Tensor | None:
        """The attention mask of some query rows, as the eager function adds it: (batch or 1, head or 1, rows, key)."""
        import torch

        queries, keys = self.query.shape[2], self.key.shape[2]
        mask = self.mask
        if mask is None:
            if not self.causal:
                return None
            positions = torch.arange(queries, device=self.query.device)[rows, None] + (keys - queries)
            mask = torch.arange(keys, device=self.query.device) <= positions
        else:
            mask = mask[..., rows, :keys]
        if mask.dtype != torch.bool:
            return mask
        lowest = torch.finfo(self.query.dtype).min
        return torch.zeros_like(mask, dtype=self.query.dtype).masked_fill_(~mask, lowest)


def checked_heads(heads: Sequence[int] | None, count: int) -> list[int] | None:
    """The heads asked of an attention call, from the first. Raises StageError for one it does not have."""

    def wrong(head: int) -> StageError:
        return StageError(f"head {head} is out of range: this layer has heads 0 to {count - 1}")

    return None if heads is None else list(from_start(tuple(heads), count, wrong))


def cut_heads(tensor: Tensor, heads: list[int] | None) -> tuple[TensorBlocks, Coordinates]:
    """Some heads of an attention call's q or context: (…, head, seq, head_dim)."""
    return TensorBlocks.of(take(tensor, -3, heads)), coordinates(head=heads)


def cut_groups(tensor: Tensor, heads: list[int] | None, count: int) -> tuple[TensorBlocks, Coordinates]:
    """An attention call's kv heads of k or v that serve some of `count` query heads: (…, kv_head, seq, head_dim)."""
    groups = heads and sorted({head // (count // tensor.shape[-3]) for head in heads})
    return TensorBlocks.of(take(tensor, -3, groups)), coordinates(kv_head=groups)
