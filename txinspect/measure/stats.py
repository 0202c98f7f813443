"""Tensor → statistics, in float64, over the finite values.

A tensor arrives as blocks, a factory of iterators, so that one too large to hold (attention weights of a long text)
is measured without ever being whole: the first round takes counts, sum and range, the second deviations and histogram.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from txinspect.records import HistogramRecord, RowRecord, StatsRecord

if TYPE_CHECKING:
    from torch import Tensor

BINS = 16
"""Bins of a histogram."""

_CHUNK = 1 << 20
"""Elements turned into float64 at a time, so that measuring costs 8 MB whatever the tensor's size."""

Blocks = Callable[[], Iterator["Tensor"]]


def measure(blocks: Blocks) -> tuple[StatsRecord, HistogramRecord | None]:
    """Statistics and histogram of a tensor given as blocks.

    The standard deviation is the population one. Complex values are measured as their real and imaginary parts.
    """
    import torch

    numel = finite_count = zeros = nan = posinf = neginf = 0
    low, high, total = math.inf, -math.inf, 0.0
    for chunk in _chunks(blocks):
        finite = _finite(chunk)
        numel += chunk.numel()
        finite_count += finite.numel()
        if finite.numel() < chunk.numel():
            nan += int(torch.isnan(chunk).sum())
            posinf += int(torch.isposinf(chunk).sum())
            neginf += int(torch.isneginf(chunk).sum())
        zeros += int((finite == 0).sum())
        if finite.numel():
            lowest, highest = torch.aminmax(finite)
            low, high = min(low, float(lowest)), max(high, float(highest))
            total += float(finite.sum())
    counts = {"numel": numel, "zeros": zeros, "nan": nan, "posinf": posinf, "neginf": neginf}
    if not finite_count:
        return StatsRecord(mean=None, std=None, min=None, max=None, abs_max=None, l2=None, **counts), None

    abs_max = max(abs(low), abs(high))
    scale = abs_max or 1.0
    mean = total / finite_count if math.isfinite(total) else scale * (_scaled_sum(blocks, scale) / finite_count)
    deviations = squares = 0.0
    bins = torch.zeros(BINS, dtype=torch.float64)
    for chunk in _chunks(blocks):
        finite = _finite(chunk) / scale
        deviations += float((finite - mean / scale).square().sum())
        squares += float(finite.square().sum())
        bins += _histogram(finite, low / scale, high / scale)
    stats = StatsRecord(
        mean=mean,
        std=scale * math.sqrt(deviations / finite_count),
        min=low,
        max=high,
        abs_max=abs_max,
        l2=scale * math.sqrt(squares),
        **counts,
    )
    return stats, HistogramRecord(low=low, high=high, counts=[int(count) for count in bins])


def measure_rows(vectors: Tensor) -> list[RowRecord]:
    """Norm, mean and deviation of each token's vector; vectors: (seq, feature)."""
    records = []
    for index, vector in enumerate(vectors):
        stats, _ = measure(lambda vector=vector: iter((vector,)))  # type: ignore[misc]
        records.append(RowRecord(index=index, l2=stats.l2, mean=stats.mean, std=stats.std))
    return records


def _finite(chunk: Tensor) -> Tensor:
    """The finite values of a flat tensor; itself where all are, which a finite sum proves."""
    import torch

    return chunk if torch.isfinite(chunk.sum()) else chunk[torch.isfinite(chunk)]


def _scaled_sum(blocks: Blocks, scale: float) -> float:
    """The sum of the finite values, each divided by the largest magnitude: it cannot overflow."""
    return sum(float((_finite(chunk) / scale).sum()) for chunk in _chunks(blocks))


def _chunks(blocks: Blocks) -> Iterator[Tensor]:
    """The blocks as flat float64 pieces on the CPU."""
    import torch

    for block in blocks():
        flat = torch.view_as_real(block.detach()) if block.is_complex() else block.detach()
        for piece in flat.reshape(-1).split(_CHUNK):
            yield piece.to("cpu", torch.float64)


def _histogram(finite: Tensor, low: float, high: float) -> Tensor:
    """Counts in BINS equal bins from low to high; all values of a constant tensor fall into the first bin."""
    import torch

    width = high - low
    if width == 0 or not math.isfinite(width):
        counts = torch.zeros(BINS, dtype=torch.float64)
        counts[0] = finite.numel()
        return counts
    positions = ((finite - low) / width * BINS).long().clamp_(0, BINS - 1)
    return torch.bincount(positions, minlength=BINS).double()
