"""Attention weights → what each head does: its strongest keys, a window on its weights, and a map of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import isfinite
from typing import TYPE_CHECKING, Any

from msgspec import structs

from txinspect.blocks import Block
from txinspect.blocks import blocks as pooled
from txinspect.commands.attn import HeadRecord, KeyRecord, MapRecord, QueryRecord, WindowRecord
from txinspect.measure import kinds
from txinspect.measure.stats import Blocks

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 64
"""Queries and keys in the window, and rows in a map."""

STRONGEST = 5
"""Keys listed for each query."""

RECEIVERS = 4
"""Keys listed for a head."""


def labelled(records: Sequence[HeadRecord], blocks: Blocks, layer: int, run: int) -> list[HeadRecord]:
    """The records of all heads of an attention whose weights, in blocks, are of a whole text; with their kinds."""
    measured = kinds.measure(blocks, layer, run).heads
    return [structs.replace(each, labels=own.labels) for each, own in zip(records, measured, strict=True)]


def head_records(
    blocks: Blocks,
    shape: tuple[int, ...],
    coordinates: Mapping[str, list[int]],
    layer: int,
    run: int,
    map_size: int = WINDOW,
) -> list[HeadRecord]:
    """The records of attention heads: strongest keys, per query, too, a window, and a map of `map_size` columns.

    The weights, (batch, head, query, key), come in blocks of queries; `coordinates` has the heads and queries that were
    kept where not all were; `run` is which of the attentions of the `layer` it is.
    """
    _, count, rows, keys = shape
    queries = coordinates.get("query", list(range(rows)))
    row_blocks = pooled(rows, WINDOW)
    found = _gathered(blocks, count, queries, keys, row_blocks)
    # After the last key that any chosen query gives weight to, a causal mask hides all.
    keys = found.last_key if "query" in coordinates else keys
    first = max(0, keys - WINDOW)
    strongest = [_strongest(mean[:keys]) for mean in found.received]
    # All heads have the same columns, so that they can be compared: first each one's strongest key, then the next.
    ranks = zip_longest(*([key.index for key in own] for own in strongest))
    columns = pooled(keys, map_size, (0, *(key for rank in ranks for key in rank if key is not None)))
    maps = _pooled_by_key(found.maxima, columns)
    windows = found.last_rows[:, :, first:keys].tolist()
    return [
        HeadRecord(
            layer=layer,
            head=head,
            run=run,
            queries=found.queries[position],
            strongest=strongest[position],
            window=WindowRecord(queries=queries[-WINDOW:], keys=list(range(first, keys)), weights=windows[position]),
            map=MapRecord(
                queries=[(queries[low], queries[high]) for low, high in row_blocks],
                keys=columns,
                weights=maps[position],
            ),
            labels=None,
        )
        for position, head in enumerate(coordinates.get("head", list(range(count))))
    ]


@dataclass(frozen=True)
class _Gathered:
    """What one round over the weights tells of all heads."""

    received: Tensor
    """The mean weight of each key over the queries: (head, key)"""
    queries: list[list[QueryRecord]]
    """Each head's queries with their strongest keys."""
    last_rows: Tensor
    """The weights of the last queries, as many as a window has: (head, query, key)"""
    maxima: Tensor
    """The largest weight of each key in each block of queries, NaN where one is: (head, block, key)"""

    @property
    def last_key(self) -> int:
        """One past the last key that has any weight of the attention heads."""
        seen = self.received.ne(0).any(0).nonzero()
        return int(seen.max()) + 1 if len(seen) else 1


def _gathered(blocks: Blocks, heads: int, queries: Sequence[int], keys: int, row_blocks: Sequence[Block]) -> _Gathered:
    """What is measured of all heads, in one round over weights, which are computed anew in each for a long text."""
    import torch

    total = torch.zeros(heads, keys, dtype=torch.float64)
    maxima = torch.full((heads, len(row_blocks), keys), -torch.inf)
    records: list[list[QueryRecord]] = [[] for _ in range(heads)]
    tail: list[Tensor] = []
    begin, window = 0, len(queries) - WINDOW
    for block in blocks():
        weights = block[0].cpu()
        end = begin + weights.shape[1]
        total += weights.sum(dim=1, dtype=torch.float64)
        if end > window:
            tail.append(weights[:, max(0, window - begin) :].clone())
        weights = weights.float()
        for index, (first, last) in enumerate(row_blocks):
            if first < end and last >= begin:
                largest = weights[:, max(0, first - begin) : last + 1 - begin].amax(dim=1)
                maxima[:, index] = torch.maximum(maxima[:, index], largest)
        for own, seen in zip(records, _strongest_of_queries(weights, queries[begin:end]), strict=True):
            own.extend(seen)
        begin = end
    last_rows = torch.cat(tail, dim=1) if tail else torch.zeros(heads, 0, keys)
    return _Gathered(total / max(1, begin), records, last_rows, maxima)


def _strongest_of_queries(weights: Tensor, queries: Sequence[int]) -> Iterator[list[QueryRecord]]:
    """The strongest keys of these queries in each head; weights: (head, query, key)."""
    import torch

    for own in weights:
        values, indices = torch.topk(own, min(STRONGEST, own.shape[1]), dim=-1)
        rows = zip(queries, indices.tolist(), values.tolist(), strict=True)
        yield [QueryRecord(index=query, keys=_records(zip(at, weight, strict=True))) for query, at, weight in rows]


def _strongest(mean: Tensor) -> list[KeyRecord]:
    import torch

    values, indices = torch.topk(mean, min(RECEIVERS, len(mean)))
    pairs = zip(indices.tolist(), values.tolist(), strict=True)
    return _records(pairs)


def _records(pairs: Iterable[tuple[int, float]]) -> list[KeyRecord]:
    """A head's keys with their weights, but for those that get none and those whose weight is no number."""
    return [KeyRecord(index=index, weight=weight) for index, weight in pairs if weight != 0 and isfinite(weight)]


def _pooled_by_key(maxima: Tensor, columns: Sequence[Block]) -> list[Any]:
    """The map of each head: its largest weight per block, (query, key) in lists; NaN where a block has one."""
    import numpy as np

    starts = [first for first, _ in columns]
    found: list[Any] = np.maximum.reduceat(maxima[:, :, : columns[-1][1] + 1].numpy(), starts, axis=2).tolist()
    return found
