"""Attention weights → what each head does: its strongest keys, and a window on its weights."""

from __future__ import annotations

from collections.abc import Mapping

from txinspect.commands.attn import HeadRecord, KeyRecord, QueryRecord, WindowRecord
from txinspect.measure.stats import Blocks

WINDOW = 64
"""Queries and keys in the window that a heatmap draws."""

STRONGEST = 5
"""Keys listed for each query."""


def _last_key(blocks: Blocks) -> int:
    """One past the last key that any query gives weight to: after it a causal mask hides all."""
    seen = [int(block[0].ne(0).any(0).any(0).nonzero().max()) for block in blocks() if block.any()]
    return max(seen, default=0) + 1


def head_records(
    blocks: Blocks, shape: tuple[int, ...], coordinates: Mapping[str, list[int]], layer: int, run: int
) -> list[HeadRecord]:
    """Each head's strongest keys per query, and a window on its weights.

    The weights, (batch, head, query, key), come in blocks of queries; `coordinates` has the heads and queries that were
    kept where not all were; `run` is which of the attentions of the `layer` it is.
    """
    import torch

    _, count, rows, keys = shape
    heads = coordinates.get("head", list(range(count)))
    queries = coordinates.get("query", list(range(rows)))
    last_key = _last_key(blocks) if "query" in coordinates else keys
    first_key = max(0, last_key - WINDOW)

    strongest: list[list[QueryRecord]] = [[] for _ in heads]
    window: list[list[list[float | None]]] = [[] for _ in heads]
    row = 0
    for block in blocks():
        values, indices = torch.topk(block[0].float(), min(STRONGEST, keys), dim=-1)
        for offset in range(block.shape[2]):
            for position in range(count):
                pairs = zip(indices[position, offset].tolist(), values[position, offset].tolist(), strict=True)
                keys_seen = [KeyRecord(index=index, weight=weight) for index, weight in pairs if weight != 0]
                strongest[position].append(QueryRecord(index=queries[row], keys=keys_seen))
                if row >= rows - WINDOW:
                    window[position].append(block[0, position, offset, first_key:last_key].tolist())
            row += 1
    return [
        HeadRecord(
            layer=layer,
            head=head,
            run=run,
            queries=strongest[position],
            window=WindowRecord(
                queries=queries[-WINDOW:], keys=list(range(first_key, last_key)), weights=window[position]
            ),
        )
        for position, head in enumerate(heads)
    ]
