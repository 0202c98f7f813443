"""Attention weights → what kind of head each is: means over the queries, in float64."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from txinspect.commands.heads import NUMBERS, Kind, KindRecord, SinkRecord
from txinspect.measure.stats import Blocks

if TYPE_CHECKING:
    from torch import Tensor

SINK = 0.3
"""ε of a sink (Gu et al. 2025, When attention sink emerges in language models, section 3)."""

ENOUGH = 0.5
"""From here on a number is a label."""

EVEN = 0.9
"""And from here on relative entropy is: nearly even weights."""


@dataclass(frozen=True)
class Measured:
    """The heads of one attention, and each one's mean weight on each key."""

    heads: list[KindRecord]
    on_keys: list[list[float]]
    """By head: the mean weight of each key over the queries that come after it, or are it."""


def measure(
    blocks: Blocks,
    layer: int,
    run: int,
    *,
    special: Collection[int] = (),
    copy: int | None = None,
    skipped: int = 0,
    scale: Tensor | None = None,
) -> Measured:
    """What kind of head each one of an attention is: means of its weights over the queries.

    The weights, (batch, head, query, key), come in blocks of queries. `special` are the special tokens' positions;
    `copy` is the number of tokens in a copy, of which the first begins at `skipped`. `scale`, (head, key), is how long
    what each key passes on is: weights are then shares of what is moved (Kobayashi et al. 2020).
    """
    import torch

    sums: dict[str, Tensor] = {}
    begin, both_ways = 0, False
    for block in blocks():
        weights = block[0].detach().to("cpu", torch.float64)
        if scale is not None:
            weights = weights * scale.to(torch.float64)[:, None, :]
            weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-300)
        if begin == 0:
            both_ways = bool(weights[:, 0, 1:].any())
        for name, value in _parts(weights, begin, special, copy, skipped, both_ways).items():
            sums[name] = sums[name] + value if name in sums else value
        begin += block.shape[2]
    return Measured(_records(sums, layer, run), _on_keys(sums, begin, both_ways))


def _parts(
    weights: Tensor, begin: int, special: Collection[int], copy: int | None, skipped: int, both_ways: bool
) -> dict[str, Tensor]:
    """Sums over some queries for each kind of head, and how many they are: (head), and (head, key) for the keys.

    A query sees the keys up to its own, or all where it looks `both_ways`.
    """
    import torch

    _, rows, keys = weights.shape
    queries = torch.arange(begin, begin + rows)
    later = queries >= 1
    entropy = torch.special.entr(weights).sum(-1)
    places = torch.arange(keys)
    seen = torch.full_like(queries, keys) if both_ways else queries + 1
    found = {
        "count": torch.tensor(float(rows)),
        "later": later.sum().double(),
        "entropy": entropy.sum(-1),
        "relative": (entropy / torch.log(seen.double()).clamp(min=1e-300))[:, later].sum(-1),
        "distance": (weights * (queries[:, None] - places[None]).abs()).sum((-1, -2)),
        "first": weights[:, later, 0].sum(-1),
        "self": _diagonal(weights, queries, 0, later),
        "previous": _diagonal(weights, queries, 1, later),
        "special": weights[:, :, sorted(special)].sum((-1, -2)),
        "on_keys": (weights * (places[None] < seen[:, None])).sum(1),
    }
    if both_ways:
        earlier = queries < keys - 1
        found["earlier"] = earlier.sum().double()
        found["next"] = _diagonal(weights, queries, -1, earlier)
    if copy is not None:
        copied = queries >= skipped + copy
        found["copied"] = copied.sum().double()
        found["duplicate"] = _diagonal(weights, queries, copy, copied)
        found["induction"] = _diagonal(weights, queries, copy - 1, copied)
    return found


def _diagonal(weights: Tensor, queries: Tensor, back: int, chosen: Tensor) -> Tensor:
    """A kind of head's sum over chosen queries of the weight on the key so many tokens back."""
    own = queries[chosen]
    rows = chosen.nonzero().flatten()
    return weights[:, rows, own - back].sum(-1)


def _records(sums: dict[str, Tensor], layer: int, run: int) -> list[KindRecord]:
    def mean(name: str, over: str) -> list[float | None]:
        if name not in sums:
            return [None] * len(sums["entropy"])
        count = float(sums[over])
        return [float(each) / count if count else None for each in sums[name]]

    columns = {
        "previous": mean("previous", "later"),
        "next_token": mean("next", "earlier"),
        "duplicate": mean("duplicate", "copied"),
        "induction": mean("induction", "copied"),
        "entropy": mean("entropy", "count"),
        "relative_entropy": mean("relative", "later"),
        "distance": mean("distance", "count"),
        "first_token": mean("first", "later"),
        "self_token": mean("self", "later"),
        "special": mean("special", "count"),
    }
    rows = [{name: column[head] for name, column in columns.items()} for head in range(len(sums["entropy"]))]
    return [KindRecord(layer=layer, head=head, run=run, **row, labels=_labels(row)) for head, row in enumerate(rows)]


def _labels(row: dict[str, float | None]) -> list[Kind]:
    return [kind for kind, name in NUMBERS.items() if (row[name] or 0.0) >= (EVEN if kind == "broad" else ENOUGH)]


def _on_keys(sums: dict[str, Tensor], queries: int, both_ways: bool) -> list[list[float]]:
    """The mean weight of heads on each key, over the queries that see it; only the text's keys count."""
    total = sums["on_keys"]
    return [
        [float(each) / (queries - (0 if both_ways else key)) for key, each in enumerate(head[:queries])]
        for head in total
    ]


def sinks(on_keys: list[list[float]]) -> list[SinkRecord]:
    """The sinks of attention heads: keys that heads rest on, the largest share of heads first."""
    count = len(on_keys)
    keys = range(max(map(len, on_keys), default=0))
    shares = {key: sum(len(head) > key and head[key] > SINK for head in on_keys) / count for key in keys}
    found = [SinkRecord(key=key, share=share) for key, share in shares.items() if share]
    return sorted(found, key=lambda each: (-each.share, each.key))
