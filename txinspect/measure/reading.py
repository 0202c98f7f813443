"""Which tokens a head reads from: its weights on them times the lengths of their values."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def shares(weights: Tensor, values: Tensor | None, head: int, heads: int) -> list[float]:
    """The share of each key in what a head reads: weight · ‖value‖ over the sum of all (Kobayashi et al. 2020).

    `weights`, (key), are of one query of the head, one of `heads`; `values` are (kv_head, key, head_dim), of which
    several heads may have one, or None where they are not known: then the weights alone count.
    """
    moved = weights
    if values is not None and values.ndim == 3 and values.shape[1] == len(weights):
        moved = weights * values[head * values.shape[0] // heads].norm(dim=-1)
    total = float(moved.sum())
    return [float(each) / total if total else 0.0 for each in moved]
