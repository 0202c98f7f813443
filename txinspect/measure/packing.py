"""Attention weights and vectors → bytes for a page: eight bits a number, the ends of the scale beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from txinspect.blocks import Block
from txinspect.commands.packed import PackedMaps, PackedVectors

if TYPE_CHECKING:
    from torch import Tensor


def packed_maps(
    blocks: Iterator[Tensor],
    heads: Sequence[int],
    rows: Sequence[Block],
    columns: Sequence[Block],
    queries: Sequence[int],
    chosen: Sequence[int] | None = None,
    *,
    crossed: bool = False,
) -> PackedMaps:
    """Pack attention weights, (batch, head, query, key) in blocks of queries, by the largest in each row and column.

    `rows` and `columns` are blocks of positions in the tensor; `queries` are the query indices of its positions;
    `chosen` are the positions of the `heads` in the tensor, None for all; `crossed` says that keys are another text's.
    What is no number packs as 0.
    """
    import numpy as np

    found = np.zeros((len(heads), len(rows), len(columns)), np.float32)
    starts = [first for first, _ in columns]
    begin = 0
    for block in blocks:
        weights = np.nan_to_num(_array(block[0] if chosen is None else block[0, list(chosen)]), nan=0.0)
        end = begin + weights.shape[1]
        for place, (first, last) in enumerate(rows):
            if first < end and last >= begin:
                largest = weights[:, max(0, first - begin) : last + 1 - begin].max(axis=1)
                pooled = largest if len(columns) == largest.shape[1] else np.maximum.reduceat(largest, starts, axis=1)
                np.maximum(found[:, place], pooled, out=found[:, place])
        begin = end
    first_ends, rest_ends = (_ends(part) for part in (found[:, :, :1], found[:, :, 1:]))
    ends = np.concatenate([np.repeat(first_ends[:, None], 1, 1), np.repeat(rest_ends[:, None], len(columns) - 1, 1)], 1)
    steps = np.rint(found / np.where(ends > 0, ends, 1)[:, None, :] * 255).astype(np.uint8)
    by_column = steps.transpose(0, 2, 1)  # a column's numbers are alike: deflated, they take a seventh less
    shown = [(queries[low], queries[high]) for low, high in rows]
    seen = np.array(starts)[:, None] <= np.array([last for _, last in shown])
    causal = not crossed and not by_column[:, ~seen].any()
    values = by_column[:, seen] if causal else by_column
    scales = first_ends.tolist(), rest_ends.tolist()
    return PackedMaps(list(heads), shown, list(columns), *scales, causal, values.tobytes())


def packed_vectors(vectors: Tensor, heads: Sequence[int], chosen: Sequence[int]) -> PackedVectors:
    """Pack the queries or keys, (batch, head, position, number), of the heads at some positions of the head axis."""
    import numpy as np

    found = np.nan_to_num(_array(vectors[0, list(chosen)]), nan=0.0, posinf=0.0, neginf=0.0)
    largest = np.abs(found).max(axis=(1, 2)) if found.size else np.zeros(len(heads), np.float32)
    steps = np.rint(found / np.where(largest > 0, largest, 1)[:, None, None] * 127).astype(np.int8)
    return PackedVectors(list(heads), int(found.shape[2]), largest.tolist(), steps.tobytes())


def lengths(values: Tensor) -> list[list[float]]:
    """How long each value is of an attention's values, (batch, key–value head, key, number), in four digits."""
    found = values[0].float().norm(dim=-1)
    return [[float(f"{each:.4g}") for each in head] for head in found.tolist()]


def _ends(part: Any) -> Any:
    """The largest weight of each head in some columns, which is what the last step of packing stands for."""
    import numpy as np

    return part.max(axis=(1, 2)) if part.shape[2] else np.zeros(len(part), np.float32)


def _array(tensor: Tensor) -> Any:
    return tensor.detach().float().cpu().numpy()
