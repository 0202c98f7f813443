"""Stored parameters → statistics, in float64, a chunk at a time and on every core.

Moments of chunks are about the chunk's own mean and are put together by Pébay's formulas (2008, "Formulas for Robust,
One-Pass Parallel Computation of Covariances and Arbitrary-Order Statistical Moments"), in the order of the file: the
numbers do not depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from txinspect.measure.moments import FourMoments
from txinspect.measure.pieces import CHUNK, Tensor, ahead, chunks, pieces
from txinspect.records import StatsRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIGMAS = 6
"""Standard deviations beyond which a value is an outlier."""

_HUGE, _TINY = 1e70, 1e-70
"""Beyond these, fourth powers leave the range of float64: a tensor is then divided by its largest magnitude."""

_Extremes = tuple[int, int, float, float]
"""A chunk, from and to, and its smallest and largest value."""


@dataclass(frozen=True)
class Measured:
    """What is known of a tensor."""

    stats: StatsRecord
    kurtosis: float | None
    outliers: int
    dead_rows: int | None
    """None for fewer than two axes."""


def measure(tensors: Sequence[Tensor], pool: ThreadPoolExecutor) -> Iterator[Measured]:
    """Statistics of each stored parameter, in order. Raises what reading raises."""
    for tensor, known in zip(tensors, _known(tensors, pool), strict=True):
        moments, extremes, scale = known.moments, known.extremes, 1.0
        if moments.finite and not _TINY < (moments.abs_max or 1.0) < _HUGE:
            scale = moments.abs_max
            (scaled,) = _known([tensor], pool, scale)
            extremes = scaled.extremes
            central = {name: getattr(scaled.moments, name) for name in ("mean", "m2", "m3", "m4")}
            moments = replace(moments, **central)  # what is divided may be zero then: counts are of what was not
        yield Measured(
            stats=moments.record(scale),
            kurtosis=moments.kurtosis,
            outliers=_outliers(tensor, moments, extremes, scale, pool),
            dead_rows=known.dead if len(tensor.shape) > 1 else None,
        )


def _outliers(
    tensor: Tensor, moments: FourMoments, extremes: Sequence[_Extremes], scale: float, pool: ThreadPoolExecutor
) -> int:
    """Outliers of a stored parameter: values far from the mean, by moments and `extremes` of it divided by `scale`."""
    if not moments.m2 or not (deviation := moments.deviation):
        return 0
    low, high = (moments.mean + side * SIGMAS * deviation for side in (-1, 1))
    beyond = [(start, stop) for start, stop, least, most in extremes if least < low or most > high]

    def outside(chunk: tuple[int, int]) -> int:
        import numpy as np

        numbers = tensor.read(*chunk)
        if scale != 1.0:
            numbers = numbers / scale
        return int(np.count_nonzero((numbers < low) & (numbers > -np.inf) | (numbers > high) & (numbers < np.inf)))

    return sum(pool.map(outside, beyond))


@dataclass
class _Part:
    """What is known of a tensor, or of a part of it."""

    moments: FourMoments = field(default_factory=FourMoments)
    extremes: list[_Extremes] = field(default_factory=list)
    """The range of each chunk."""
    dead: int = 0
    """Rows that are all zero."""

    def add(self, other: _Part) -> None:
        """Take in what is known of the part of a stored parameter that follows."""
        self.moments.add(other.moments)
        self.extremes += other.extremes
        self.dead += other.dead


def _known(tensors: Sequence[Tensor], pool: ThreadPoolExecutor, scale: float = 1.0) -> Iterator[_Part]:
    """What is known of each stored parameter, divided by `scale`, by its pieces."""
    spans = [list(pieces(tensor.numel, tensor.row)) for tensor in tensors]
    work = ((tensor, span) for tensor, some in zip(tensors, spans, strict=True) for span in some)
    done = ahead(pool, lambda item: _of_piece(item[0], *item[1], scale), work)
    for some in spans:
        total = _Part()
        for _ in some:
            total.add(next(done))
        yield total


def _of_piece(tensor: Tensor, start: int, stop: int, scale: float) -> _Part:
    """What is known of a piece of a stored parameter, divided by `scale`."""
    total, alive = _Part(), False
    for low, high in chunks(start, stop, tensor.row):
        numbers, dead = tensor.read(low, high), 0
        moments = _of_chunk(numbers / scale if scale != 1.0 else numbers)
        if len(tensor.shape) > 1:
            dead, alive = _dead_rows(numbers, moments.zeros, tensor.row, high, alive)
        total.add(_Part(moments, [(low, high, *moments.range)], dead))
    return total


def _dead_rows(numbers: NDArray[np.float64], zeros: int, row: int, stop: int, alive: bool) -> tuple[int, bool]:
    """Dead rows of a parameter, all zero, that end in a chunk; and whether the row after it has anything else."""
    if row <= CHUNK:
        if zeros < row:
            return 0, False
        return int((~(numbers.reshape(-1, row) != 0).any(axis=1)).sum()), False
    alive = alive or zeros < numbers.size
    ends = stop % row == 0
    return int(ends and not alive), alive and not ends


def _of_chunk(numbers: NDArray[np.float64]) -> FourMoments:
    """What is known of a chunk of a stored parameter, in four moments; its numbers are as they were afterwards."""
    import numpy as np

    numel = numbers.size
    nan = posinf = neginf = 0
    with np.errstate(over="ignore", invalid="ignore"):
        if not math.isfinite(total := float(numbers.sum())):
            nan = int(np.isnan(numbers).sum())
            posinf, neginf = int((numbers == np.inf).sum()), int((numbers == -np.inf).sum())
            numbers = numbers[np.isfinite(numbers)]
            total = float(numbers.sum())
        n = numbers.size
        counts = {"numel": numel, "finite": n, "nan": nan, "posinf": posinf, "neginf": neginf}
        if not n:
            return FourMoments(**counts)
        low, high = float(numbers.min()), float(numbers.max())
        zeros = n - int(np.count_nonzero(numbers)) if low <= 0 <= high else 0
        found = FourMoments(low=low, high=high, zeros=zeros, mean=low, **counts)
        if low == high:
            return found
        mean = total / n
        deviations = numbers - mean
        squares = deviations * deviations
        m2 = float(squares.sum())
        np.multiply(squares, deviations, out=deviations)
        m3 = float(deviations.sum())
        np.multiply(squares, squares, out=squares)
        return replace(found, mean=mean, m2=m2, m3=m3, m4=float(squares.sum()))
