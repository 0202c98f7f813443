"""Tensor → statistics, in float64, over the finite values.

A tensor arrives as blocks, a factory of iterators, so that one too large to hold (attention weights of a long text)
is measured without ever being whole. One round takes everything; of blocks that are computed anew each time, only those
before the range grew for the last time are counted into bins again.

Only sums need float64. A bin is what lies between two edges, so that the edges, found once for a tensor, count its
values in float32 as exactly.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from txinspect.records import HistogramRecord, RowRecord, StatsRecord

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from numpy import float64
    from numpy.typing import NDArray
    from torch import Tensor

    Values = NDArray[float64]
    Held = NDArray[Any]
    """Numbers in float32 where it holds all of a tensor's, else in float64."""

Found = TypeVar("Found")

BINS = 16
"""Bins of a histogram."""

_CHUNK = 1 << 16
"""Elements reduced at a time: 512 KB in float64, which stay in the cache of a core meanwhile."""

_SQUARABLE = (1e-100, 1e100)
"""Between these, squares neither overflow nor vanish beside the square of the largest magnitude."""

_NORMAL = 1e-290
"""Above this, a float64 is exact to 2⁻⁵³ of itself, and so is a small part of it."""

Blocks = Callable[[], Iterator["Tensor"]]


def measure(blocks: Blocks) -> tuple[StatsRecord, HistogramRecord | None]:
    """Statistics and histogram of a tensor given as blocks.

    The standard deviation is the population one. Complex values are measured as their real and imaginary parts.
    """
    import numpy as np

    with np.errstate(all="ignore"):
        moments, bins, uncounted = _Moments(), _Bins(), 0
        measured: list[list[_Moments]] = []
        for index, block in enumerate(blocks()):
            measured.append(_moments_of(block))
            for each in measured[-1]:
                moments.add(each)
            if bins.range != moments.range:
                bins, uncounted = _Bins(*moments.range), index
            bins.add(block, measured[-1])
        for block, known in zip(islice(blocks(), uncounted), measured, strict=False):
            bins.add(block, known)
        if moments.scale != 1:
            moments = _Moments(scale := moments.scale)
            for block in blocks():
                for each in _moments_of(block, scale):
                    moments.add(each)
    return moments.record(), bins.record()


def measure_rows(vectors: Tensor) -> list[RowRecord]:
    """Norm, mean and deviation of each token's vector; vectors: (seq, feature)."""
    records: list[RowRecord] = []
    for piece in vectors.detach().split(max(1, _CHUNK // max(1, vectors[:1].numel()))):
        columns = zip(*(column.tolist() for column in _row_statistics(piece)), strict=True)
        for index, (count, l2, mean, std) in enumerate(columns, start=len(records)):
            found = {"l2": l2, "mean": mean, "std": std} if count else {"l2": None, "mean": None, "std": None}
            records.append(RowRecord(index=index, **found))
    return records


def _row_statistics(vectors: Tensor) -> tuple[Values, ...]:
    """Of each row of vectors: the number of its finite values, their norm, mean and deviation, (seq) each."""
    import numpy as np
    import torch

    real = torch.view_as_real(vectors).flatten(1) if vectors.is_complex() else vectors
    values: Values = real.to("cpu", torch.float64).numpy()
    finite = np.isfinite(values)
    counts = finite.sum(axis=1)
    values = np.where(finite, values, 0)
    # Scaled by a power of two, which is exact, no square overflows.
    _, exponents = np.frexp(np.abs(values).max(axis=1, initial=0))
    with np.errstate(over="ignore"):
        values = np.ldexp(values, -exponents[:, None])
        means = values.sum(axis=1) / np.maximum(counts, 1)
        deviations = np.where(finite, values - means[:, None], 0)
        std = np.sqrt(np.square(deviations).sum(axis=1) / np.maximum(counts, 1))
        l2 = np.sqrt(np.square(values).sum(axis=1))
        return counts, *(np.ldexp(column, exponents) for column in (l2, means, std))


def _pieces(block: Tensor) -> Iterator[list[Held]]:
    """A block's numbers on the CPU, a million at a time, in an even number of chunks unless they are few."""
    import torch

    flat = torch.view_as_real(block.detach()) if block.is_complex() else block.detach()
    narrow = flat.dtype in (torch.float32, torch.float16, torch.bfloat16)
    for piece in flat.reshape(-1).split(_CHUNK << 4) if flat.numel() else ():
        values: Held = piece.to("cpu", torch.float32 if narrow else torch.float64).numpy()
        pairs = math.ceil(len(values) / (2 * _CHUNK))
        size = _CHUNK if len(values) <= _CHUNK else math.ceil(len(values) / (2 * pairs))
        yield [values[start : start + size] for start in range(0, len(values), size)]


def _shared(reduce: Callable[..., Found], *items: Sequence[Any]) -> list[Found]:
    """What `reduce` makes of the items, in their order; torch's number of threads share many.

    numpy lets go of the interpreter while it reduces.
    """
    import numpy as np
    import torch

    def work(share: slice) -> list[Found]:
        with np.errstate(all="ignore"):  # which holds for one thread
            return list(map(reduce, *(each[share] for each in items)))

    count = len(items[0])
    threads = min(torch.get_num_threads(), count // 2)
    if threads < 2:
        return work(slice(None))
    step = math.ceil(count / threads)
    shares = _pool(os.getpid(), threads).map(work, [slice(start, start + step) for start in range(0, count, step)])
    return [found for share in shares for found in share]


@cache
def _pool(_process: int, threads: int) -> ThreadPoolExecutor:
    """Threads that last as long as the process; one that was forked off has none of its parent's."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(threads)


def _moments_of(block: Tensor, divisor: float = 1.0) -> list[_Moments]:
    """The moments of each chunk of a block."""
    found: list[_Moments] = []
    for chunks in _pieces(block):
        found += _shared(lambda values: _Moments(divisor).of(values), chunks)
    return found


@dataclass
class _Moments:
    """Counts, range, mean and squared deviations of some values; the last two of values divided by `divisor`."""

    divisor: float = 1.0
    numel: int = 0
    finite: int = 0
    zeros: int = 0
    nan: int = 0
    posinf: int = 0
    neginf: int = 0
    low: float = math.inf
    high: float = -math.inf
    mean: float = 0.0
    deviations: float = 0.0

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest finite value."""
        return self.low, self.high

    @property
    def scale(self) -> float:
        """1, or where squares would overflow or vanish a power of two near the largest magnitude."""
        largest = max(abs(self.low), abs(self.high)) if self.finite else 0.0
        if largest == 0 or _SQUARABLE[0] < largest < _SQUARABLE[1]:
            return 1.0
        return math.ldexp(1.0, math.frexp(largest)[1] - 1)

    def of(self, values: Held) -> _Moments:
        """These, made to be those of some values."""
        import numpy as np

        self.numel = len(values)
        low, high = values.min(), values.max()
        if not (np.isfinite(low) and np.isfinite(high)):  # as they are not wherever one value is not
            values = self._finite(values)
            if not len(values):
                return self
            low, high = values.min(), values.max()
        self.finite, self.low, self.high = len(values), float(low), float(high)
        if low <= 0 <= high:
            self.zeros = int(np.count_nonzero(values == 0))
        wide = values.astype(np.float64)
        if self.divisor != 1:
            wide /= self.divisor
        self.mean = float(np.add.reduce(wide)) / self.finite
        wide -= self.mean
        self.deviations = float(np.add.reduce(np.square(wide, out=wide)))
        return self

    def _finite(self, values: Held) -> Held:
        """The finite ones of some values; counts the others."""
        import numpy as np

        self.nan = int(np.count_nonzero(np.isnan(values)))
        self.posinf = int(np.count_nonzero(values == math.inf))
        self.neginf = int(np.count_nonzero(values == -math.inf))
        return values[np.isfinite(values)]

    def add(self, other: _Moments) -> None:
        """Take in the moments of other values (Chan, Golub and LeVeque 1979)."""
        for name in ("numel", "zeros", "nan", "posinf", "neginf"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if not other.finite:
            return
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        before, step = self.finite, other.mean - self.mean
        self.finite += other.finite
        # A product, where a power would raise: what does not fit is measured once more, scaled.
        self.deviations += other.deviations + step * step * (before / self.finite * other.finite)
        self.mean += step * (other.finite / self.finite)

    def record(self) -> StatsRecord:
        """The statistics of all values added."""
        counts = {name: getattr(self, name) for name in ("numel", "zeros", "nan", "posinf", "neginf")}
        if not self.finite:
            return StatsRecord(mean=None, std=None, min=None, max=None, abs_max=None, l2=None, **counts)
        return StatsRecord(
            mean=self.divisor * self.mean,
            std=self.divisor * math.sqrt(self.deviations / self.finite),
            min=self.low,
            max=self.high,
            abs_max=max(abs(self.low), abs(self.high)),
            l2=self.divisor * math.sqrt(self.deviations + self.finite * self.mean**2),
            **counts,
        )


class _Bins:
    """How many of the values added lie in each of BINS equal bins; all of a constant tensor's in the first."""

    def __init__(self, low: float = math.inf, high: float = -math.inf) -> None:
        self.range = low, high
        self.counts = [0] * BINS

    def add(self, block: Tensor, known: Sequence[_Moments]) -> None:
        """Count a block's values, which lie in the range or are not finite; `known` are the moments of its chunks."""
        remaining = iter(known)
        for chunks in _pieces(block):
            edges = _edges(*self.range, chunks[0].dtype)
            for counts in _shared(partial(_counted, edges), chunks, list(islice(remaining, len(chunks)))):
                self.counts = [sum(pair) for pair in zip(self.counts, counts, strict=True)]

    def record(self) -> HistogramRecord | None:
        """The counts; None if there was no finite value."""
        low, high = self.range
        return HistogramRecord(low=low, high=high, counts=self.counts) if low <= high else None


def _counted(edges: Held, values: Held, moments: _Moments) -> list[int]:
    """How many values lie before, between and beyond edges, given their moments; those that are not finite nowhere."""
    import numpy as np

    # Only edges within the values' own range divide them.
    first, last = np.searchsorted(edges, (moments.low, moments.high), side="right")
    marks = np.greater_equal(values, edges[first:last, None])
    beyond = [moments.finite, *(int(np.count_nonzero(row)) - moments.posinf for row in marks), 0]
    counts = [0] * BINS
    counts[first : first + len(marks) + 1] = [here - further for here, further in pairwise(beyond)]
    return counts


def _edges(low: float, high: float, dtype: Any) -> Held:
    """Of every bin of a range but the first, the smallest number of a type in it or beyond; infinite in an empty range.

    What rounding in float64 makes of the bins' borders is found by bisection.
    """
    import numpy as np

    # Divided by the largest magnitude, so that no range overflows.
    scale = max(abs(low), abs(high)) or 1.0
    start, width = low / scale, (high / scale - low / scale) / BINS
    bins = np.arange(1, BINS)
    if not width > 0:
        return np.full(len(bins), math.inf, dtype)

    # Rounding moves an edge by a few 2⁻⁵³ of the scale.
    near = scale * 2.0**-50 if scale > _NORMAL else math.inf
    ends = ((start + bins * width) * scale + [[-near], [near]]).astype(dtype)
    outwards = np.array([[-math.inf], [math.inf]], dtype)
    ends = np.maximum(np.minimum(np.nextafter(ends, outwards).astype(np.float64), high), low)
    while True:
        below, above = ends
        middle = (below / 2 + above / 2).astype(dtype).astype(np.float64)
        if ((middle == below) | (middle == above)).all():
            found: Held = above.astype(dtype)
            return found
        reached = (middle / scale - start) / width >= bins
        ends = np.where([~reached, reached], middle, ends)
