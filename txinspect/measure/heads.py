"""Attention weights → what each head does: its strongest keys, a window on its weights, and a map of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from math import isfinite
from typing import TYPE_CHECKING, Any

from txinspect.commands.attn import HeadRecord, KeyRecord, MapRecord, QueryRecord, WindowRecord
from txinspect.measure.stats import Blocks
from txinspect.pooling import Block
from txinspect.pooling import blocks as pooled

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 64
"""Queries and keys in the window, and rows in a map."""

STRONGEST = 5
"""Keys listed for each query."""

RECEIVERS = 4
"""Keys listed for a head."""


@dataclass
class _Head:
    """What is gathered of a head, query by query."""

    queries: list[QueryRecord] = field(default_factory=list)
    window: list[list[float | None]] = field(default_factory=list)


def head_records(
    blocks: Blocks,
    shape: tuple[int, ...],
    coordinates: Mapping[str, list[int]],
    layer: int,
    run: int,
    map_size: int = WINDOW,
) -> list[HeadRecord]:
    """Each head's strongest keys, on the whole and per query, a window on its weights, and a map of `map_size` columns.

    The weights, (batch, head, query, key), come in blocks of queries; `coordinates` has the heads and queries that were
    kept where not all were; `run` is which of the attentions of the `layer` it is.
    """
    _, count, rows, keys = shape
    queries = coordinates.get("query", list(range(rows)))
    received, last_key = _received(blocks, keys)
    # After the last key that any chosen query gives weight to, a causal mask hides all.
    keys = last_key if "query" in coordinates else keys
    first = max(0, keys - WINDOW)
    gathered = _gathered(blocks, queries, range(first, keys))
    strongest = [_strongest(mean[:keys]) for mean in received]
    # All heads have the same columns, so that they can be compared: first each one's strongest key, then the next.
    ranks = zip_longest(*([key.index for key in own] for own in strongest))
    columns = pooled(keys, map_size, (0, *(key for rank in ranks for key in rank if key is not None)))
    row_blocks = pooled(rows, WINDOW)
    maps = _maxima(blocks, row_blocks, columns, count)
    return [
        HeadRecord(
            layer=layer,
            head=head,
            run=run,
            queries=gathered[position].queries,
            strongest=strongest[position],
            window=WindowRecord(
                queries=queries[-WINDOW:], keys=list(range(first, keys)), weights=gathered[position].window
            ),
            map=MapRecord(
                queries=[(queries[low], queries[high]) for low, high in row_blocks],
                keys=columns,
                weights=maps[position],
            ),
        )
        for position, head in enumerate(coordinates.get("head", list(range(count))))
    ]


def _received(blocks: Blocks, keys: int) -> tuple[Tensor, int]:
    """The mean weight of each key over the queries, (head, key), and one past the last key that has any."""
    import torch

    total, rows = torch.zeros(1, keys, dtype=torch.float64), 0
    for block in blocks():
        total = total + block[0].to("cpu", torch.float64).sum(dim=1)
        rows += block.shape[2]
    seen = total.ne(0).any(0).nonzero()
    return total / max(1, rows), int(seen.max()) + 1 if len(seen) else 1


def _strongest(mean: Tensor) -> list[KeyRecord]:
    import torch

    values, indices = torch.topk(mean, min(RECEIVERS, len(mean)))
    pairs = zip(indices.tolist(), values.tolist(), strict=True)
    return _records(pairs)


def _records(pairs: Iterable[tuple[int, float]]) -> list[KeyRecord]:
    """Keys with their weights, but for those that get none and those whose weight is no number."""
    return [KeyRecord(index=index, weight=weight) for index, weight in pairs if weight != 0 and isfinite(weight)]


def _gathered(blocks: Blocks, queries: Sequence[int], keys: range) -> list[_Head]:
    """Of each head: every query's strongest keys, and the weights of the last queries over these keys."""
    import torch

    heads: list[_Head] = []
    row = 0
    for block in blocks():
        heads = heads or [_Head() for _ in range(block.shape[1])]
        values, indices = torch.topk(block[0].float(), min(STRONGEST, block.shape[3]), dim=-1)
        for offset in range(block.shape[2]):
            for position, head in enumerate(heads):
                pairs = zip(indices[position, offset].tolist(), values[position, offset].tolist(), strict=True)
                seen = [
                    KeyRecord(index=index, weight=weight) for index, weight in pairs if weight != 0 and isfinite(weight)
                ]
                head.queries.append(QueryRecord(index=queries[row], keys=seen))
                if row >= len(queries) - WINDOW:
                    head.window.append(block[0, position, offset, keys.start : keys.stop].tolist())
            row += 1
    return heads


def _maxima(blocks: Blocks, rows: Sequence[Block], columns: Sequence[Block], heads: int) -> list[Any]:
    """The largest weight of each head in each block, (query, key) in lists; NaN where the block has one."""
    import numpy as np

    maps = np.full((heads, len(rows), len(columns)), -np.inf, dtype=np.float32)
    starts = np.array([first for first, _ in rows])
    begin = 0
    for block in blocks():
        weights: Any = block[0].float().cpu().numpy()
        touched = np.flatnonzero((starts < begin + block.shape[2]) & (np.append(starts[1:], np.inf) > begin))
        inside = np.maximum(starts[touched] - begin, 0)
        by_key = np.maximum.reduceat(weights[:, :, : columns[-1][1] + 1], [first for first, _ in columns], axis=2)
        maps[:, touched] = np.maximum(maps[:, touched], np.maximum.reduceat(by_key, inside, axis=1))
        begin += block.shape[2]
    found: list[Any] = maps.tolist()
    return found
