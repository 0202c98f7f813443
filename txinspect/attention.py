"""q, k, v, scores, weights and context, recorded where transformers hands q, k and v to an attention backend.

The model runs on its own backend, untouched. Beside each call that was asked for, the weights are computed from the
same q, k, v and mask with the eager function of the model's own file, in blocks of query rows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from txinspect.errors import StageError

if TYPE_CHECKING:
    from torch import Tensor, dtype, nn
    from transformers import PreTrainedModel

BLOCK_ELEMENTS = 1 << 23
"""Weights computed at a time: 32 MB in float32."""


@dataclass(frozen=True)
class Recorded:
    """A tensor as it was recorded: a factory of blocks along the query axis, one block where it is there as a whole."""

    shape: tuple[int, ...]
    dtype: dtype
    blocks: Callable[[], Iterator[Tensor]]

    @classmethod
    def of(cls, tensor: Tensor) -> Recorded:
        """A tensor that is there as a whole."""
        return cls(tuple(tensor.shape), tensor.dtype, lambda: iter((tensor,)))

    def whole(self) -> Tensor:
        """The tensor in one piece."""
        import torch

        pieces = list(self.blocks())
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=2)


@dataclass(frozen=True)
class Selection:
    """The heads and query rows that were asked for; None for all."""

    heads: tuple[int, ...] | None = None
    queries: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Call:
    """One call of an attention backend: what it was given and what it returned."""

    module: nn.Module
    eager: Callable[..., tuple[Tensor, Tensor | None]]
    query: Tensor
    """(batch, head, query, head_dim)"""
    key: Tensor
    """(batch, kv_head, key, head_dim)"""
    value: Tensor
    """(batch, kv_head, key, head_dim)"""
    mask: Tensor | None
    """(batch or 1, head or 1, query, key): additive, or boolean with True where a key is seen; None means causal."""
    options: Mapping[str, Any]
    """What else the backend was given: scaling, sinks, soft-capping, …"""
    output: Tensor
    """(batch, query, head, head_dim), as the backend returned it"""

    def part(self, name: str, selection: Selection) -> tuple[Recorded, dict[str, list[int]] | None]:
        """The tensor of the stage `layers.{i}.attention.NAME`, and the coordinates of the axes that were cut.

        Raises StageError for a head that this module does not have.
        """
        heads = self._heads(selection.heads)
        if name in ("k", "v"):
            tensor = self.key if name == "k" else self.value
            groups = heads and sorted({head // (self.query.shape[1] // tensor.shape[1]) for head in heads})
            return Recorded.of(_take(tensor, 1, groups)), _coordinates(kv_head=groups)
        if name in ("q", "context"):
            tensor = self.query if name == "q" else self.output.transpose(1, 2)
            return Recorded.of(_take(tensor, 1, heads)), _coordinates(head=heads)
        compute = self._scores if name == "scores" else self._weights
        queries = None if selection.queries is None else list(selection.queries)
        return self._pattern(compute, heads, queries), _coordinates(head=heads, query=queries)

    def _heads(self, heads: Sequence[int] | None) -> list[int] | None:
        count = self.query.shape[1]
        beyond = [head for head in heads or () if head >= count]
        if beyond:
            raise StageError(f"head {beyond[0]} is out of range: this layer has heads 0 to {count - 1}")
        return None if heads is None else list(heads)

    def _pattern(
        self, compute: Callable[[slice | list[int]], Tensor], heads: list[int] | None, queries: list[int] | None
    ) -> Recorded:
        """Scores or weights, whole where they fit into a block, else computed anew in each round over the blocks."""
        batch, count, length, _ = self.query.shape
        keys = self.key.shape[2]
        rows = length if queries is None else len(queries)
        step = max(1, BLOCK_ELEMENTS // (batch * count * keys))
        shape = (batch, count if heads is None else len(heads), rows, keys)

        def block(start: int) -> Tensor:
            chosen = slice(start, start + step) if queries is None else queries[start : start + step]
            return _take(compute(chosen), 1, heads)

        if rows <= step:
            return Recorded.of(block(0))
        return Recorded(shape, self.query.dtype, lambda: (block(start) for start in range(0, rows, step)))

    def _scores(self, rows: slice | list[int]) -> Tensor:
        """Scaled q·kᵀ of some query rows: (batch, head, rows, key)."""
        key = self.key.repeat_interleave(self.query.shape[1] // self.key.shape[1], dim=1)
        scores: Tensor = self.query[:, :, rows] @ key.transpose(-1, -2) * self.options.get("scaling", 1.0)
        return scores

    def _weights(self, rows: slice | list[int]) -> Tensor:
        """Attention weights of some query rows: (batch, head, rows, key)."""
        mask = self._additive_mask()[:, :, rows]
        _, weights = self.eager(self.module, self.query[:, :, rows], self.key, self.value, mask, **self.options)
        if weights is None:
            raise StageError(f"the eager attention of {type(self.module).__name__} returns no weights")
        return weights

    def _additive_mask(self) -> Tensor:
        """The mask as the eager function adds it: (batch or 1, head or 1, query, key)."""
        import torch

        queries, keys = self.query.shape[2], self.key.shape[2]
        mask = self.mask
        if mask is None:
            # A backend takes no mask as causal; a lone query comes last and sees every key.
            mask = self.query.new_ones(queries, keys, dtype=torch.bool).tril(keys - queries)[None, None]
        mask = mask[..., :keys]
        if mask.dtype != torch.bool:
            return mask
        lowest = torch.finfo(self.query.dtype).min
        return torch.zeros_like(mask, dtype=self.query.dtype).masked_fill_(~mask, lowest)


@contextmanager
def recording(
    model: PreTrainedModel, modules: Collection[nn.Module], receive: Callable[[Call], None]
) -> Iterator[None]:
    """While open, `receive` gets every call of the attention backend that one of the modules makes.

    The entry of the implementation in use is wrapped under its own name: a new name would send models with sparse
    indices down another branch (transformers.modeling_utils.AttentionInterface).
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    name = model.config._attn_implementation or "eager"
    registered = ALL_ATTENTION_FUNCTIONS.get(name)

    def recorder(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        eager = _eager_function(module)
        original = registered or eager
        result: tuple[Tensor, Tensor | None] = original(module, query, key, value, attention_mask, **options)
        if module in modules:
            receive(Call(module, eager, query, key, value, attention_mask, options, result[0]))
        return result

    local = dict(ALL_ATTENTION_FUNCTIONS._local_mapping)
    ALL_ATTENTION_FUNCTIONS[name] = recorder
    try:
        yield
    finally:
        ALL_ATTENTION_FUNCTIONS._local_mapping = local


def _eager_function(module: nn.Module) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """The eager attention of the file that defines a module's class."""
    for base in type(module).__mro__:
        function = getattr(sys.modules[base.__module__], "eager_attention_forward", None)
        if function is not None:
            found: Callable[..., tuple[Tensor, Tensor | None]] = function
            return found
    raise StageError(f"{type(module).__name__} has no eager attention function beside it")


def _take(tensor: Tensor, axis: int, positions: list[int] | None) -> Tensor:
    """Some positions of an axis; the tensor itself where all are asked."""
    import torch

    if positions is None:
        return tensor
    return tensor.index_select(axis, torch.tensor(positions, device=tensor.device))


def _coordinates(**axes: list[int] | None) -> dict[str, list[int]] | None:
    """The axes that were cut, with the positions kept; None where none was."""
    return {axis: positions for axis, positions in axes.items() if positions is not None} or None
