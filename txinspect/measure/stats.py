"""Tensor → statistics, in float64, over the finite values.

A tensor arrives as blocks, a factory of iterators, so that one too large to hold (attention weights of a long text)
is measured without ever being whole. One round takes everything; of blocks that are computed anew each time, only those
before the range grew for the last time are counted into bins again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from txinspect.records import HistogramRecord, RowRecord, StatsRecord

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray
    from torch import Tensor

    Values = NDArray[float64]

BINS = 16
"""Bins of a histogram."""

_CHUNK = 1 << 15
"""Elements turned into float64 at a time: 256 KB, which stay in the cache of a core while they are reduced."""

_SQUARABLE = (1e-100, 1e100)
"""Between these, squares neither overflow nor vanish beside the square of the largest magnitude."""

Blocks = Callable[[], Iterator["Tensor"]]


def measure(blocks: Blocks) -> tuple[StatsRecord, HistogramRecord | None]:
    """Statistics and histogram of a tensor given as blocks.

    The standard deviation is the population one. Complex values are measured as their real and imaginary parts.
    """
    import numpy as np

    with np.errstate(all="ignore"):
        moments, bins, uncounted = _Moments(), _Bins(), 0
        for index, block in enumerate(blocks()):
            for values in _chunks(block):
                moments.add(values)
            if bins.range != moments.range:
                bins, uncounted = _Bins(*moments.range), index
            for values in _chunks(block):
                bins.add(values, all_finite=moments.all_finite)
        for block in islice(blocks(), uncounted):
            for values in _chunks(block):
                bins.add(values, all_finite=moments.all_finite)
        scale = moments.scale
        if scale != 1:
            moments = _Moments(scale)
            for block in blocks():
                for values in _chunks(block):
                    moments.add(values)
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


def _chunks(block: Tensor) -> Iterator[Values]:
    """A block's numbers as float64 on the CPU, a few at a time, each time in the same memory."""
    import torch

    flat = torch.view_as_real(block.detach()) if block.is_complex() else block.detach()
    flat = flat.reshape(-1)
    widened = torch.empty(min(_CHUNK, flat.numel()), dtype=torch.float64)
    values: Values = widened.numpy()
    for piece in flat.split(_CHUNK << 5):
        for chunk in piece.cpu().split(_CHUNK):
            count = len(chunk)
            widened[:count].copy_(chunk)
            yield values[:count]


class _Moments:
    """Counts, range, mean and squared deviations of the values added so far, each divided by `scale`."""

    def __init__(self, scale: float = 1.0) -> None:
        self.divisor = scale
        self.numel = self.finite = self.zeros = self.nan = self.posinf = self.neginf = 0
        self.low, self.high = math.inf, -math.inf
        self.mean = self.deviations = 0.0

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest finite value."""
        return self.low, self.high

    @property
    def all_finite(self) -> bool:
        """Whether no value was NaN or infinite."""
        return self.finite == self.numel

    @property
    def scale(self) -> float:
        """1, or where squares would overflow or vanish a power of two near the largest magnitude."""
        largest = max(abs(self.low), abs(self.high)) if self.finite else 0.0
        if largest == 0 or _SQUARABLE[0] < largest < _SQUARABLE[1]:
            return 1.0
        return math.ldexp(1.0, math.frexp(largest)[1] - 1)

    def add(self, values: Values) -> None:
        """Take in some values; their memory is used for the deviations."""
        import numpy as np

        self.numel += len(values)
        total = float(np.add.reduce(values))
        if not math.isfinite(total):  # as it is wherever one value is not
            values, total = self._finite(values)
        count = len(values)
        if not count:
            return
        low, high = float(values.min()), float(values.max())
        if low <= 0 <= high:
            self.zeros += int(np.count_nonzero(values == 0))
        self.low, self.high = min(self.low, low), max(self.high, high)
        if self.divisor != 1:
            values = values / self.divisor
            total = float(np.add.reduce(values))
        # Each chunk about its own mean, and the chunks about each other's (Chan, Golub and LeVeque 1979).
        mean, before = total / count, self.finite
        apart = np.subtract(values, mean, out=values)
        self.finite += count
        # A product, where a power would raise: what does not fit is measured once more, scaled.
        step = mean - self.mean
        self.deviations += float(np.add.reduce(np.square(apart, out=apart)))
        self.deviations += step * step * (before / self.finite * count)
        self.mean += step * (count / self.finite)

    def _finite(self, values: Values) -> tuple[Values, float]:
        """The finite ones of some values, and their sum; counts the others."""
        import numpy as np

        finite = values[np.isfinite(values)]
        if len(finite) < len(values):
            self.nan += int(np.count_nonzero(np.isnan(values)))
            self.posinf += int(np.count_nonzero(values == math.inf))
            self.neginf += int(np.count_nonzero(values == -math.inf))
        return finite, float(np.add.reduce(finite))

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

    def add(self, values: Values, *, all_finite: bool) -> None:
        """Count some values, which lie in the range; those that are not finite are left out. Uses their memory."""
        import numpy as np
        import torch

        low, high = self.range
        if not all_finite:
            values = values[np.isfinite(values)]
        # Divided by the largest magnitude, so that no range overflows.
        scale = max(abs(low), abs(high)) or 1.0
        low, width = low / scale, high / scale - low / scale
        if width == 0 or not len(values):
            self.counts[0] += len(values)
            return
        if scale != 1:
            np.divide(values, scale, out=values)
        if low != 0:
            np.subtract(values, low, out=values)
        np.divide(values, width / BINS, out=values)
        bins = torch.from_numpy(values.astype(np.uint8))
        counts = torch.bincount(bins, minlength=BINS + 1).tolist()
        # The largest value is at the end of the last bin.
        self.counts = [sum(pair) for pair in zip(self.counts, [*counts[:-2], counts[-2] + counts[-1]], strict=True)]

    def record(self) -> HistogramRecord | None:
        """The counts; None if there was no finite value."""
        low, high = self.range
        return HistogramRecord(low=low, high=high, counts=self.counts) if low <= high else None
