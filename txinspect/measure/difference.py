"""Two tensors → how far they are apart, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Difference:
    """How far two tensors are apart, over the numbers that are finite in both; None where there are none."""

    rel_l2: float | None
    cosine: float | None
    max_abs: float | None
    mean_abs: float | None
    at: list[int] | None
    nan: int

    @property
    def snr_db(self) -> float | None:
        """The difference of two tensors as signal-to-noise ratio in dB; None where the two are equal."""
        return -20 * log10(self.rel_l2) if self.rel_l2 else None


def difference(this: Tensor, other: Tensor) -> Difference:
    """The difference of two tensors of one shape; numbers that are NaN or infinite in either count apart."""
    import torch

    left, right = _exact(this), _exact(other)
    finite = torch.isfinite(left) & torch.isfinite(right)
    same = (left == right) | (torch.isnan(left) & torch.isnan(right))
    missing, differing = int((~finite).sum()), int((~finite & ~same).sum())
    if missing == finite.numel():
        return Difference(None, None, None, None, None, differing)
    left, right = left.where(finite, 0.0), right.where(finite, 0.0)
    off = (right - left).abs()
    norm, others, apart = (float(each.norm()) for each in (left, right, off))
    flat = int(off.argmax())
    at = [int(each) for each in torch.unravel_index(torch.tensor(flat), off.shape)] if off.shape else []
    return Difference(
        rel_l2=apart / norm if norm else 0.0 if not apart else None,
        cosine=float((left * right).sum()) / (norm * others) if norm and others else None,
        max_abs=float(off.max()),
        mean_abs=float(off.sum()) / (off.numel() - missing),
        at=at,
        nan=differing,
    )


def total_variation(this: Tensor, other: Tensor) -> list[float | None]:
    """The difference of attention weights by head: half the sum of each query's, a mean over queries."""
    apart = (_exact(other) - _exact(this)).abs().sum(-1) / 2
    found: list[float | None] = apart.mean(dim=(0, 2)).tolist()
    return found


def changed_share(this: Tensor, other: Tensor) -> float:
    """The difference of experts chosen: the share of tokens whose set of them changed: (batch, seq, choice)."""
    same = (this.sort(-1).values == other.sort(-1).values).all(-1)
    return 1 - float(same.double().mean())


def _exact(tensor: Tensor) -> Tensor:
    import torch

    found = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return found.detach().to("cpu", torch.float64)
