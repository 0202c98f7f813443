"""Tensor → statistics, in float64, over the finite values.

A tensor arrives as blocks, a factory of iterators, so that one too large to hold (attention weights of a long text)
is measured without ever being whole. One round takes everything; of blocks that are computed anew each time, only those
before the range grew for the last time are counted into bins again.

Only sums need float64. A bin is what lies between two edges, so that the edges, found once for a tensor, count its
values in float32 as exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import islice, pairwise
from operator import add
from threading import local
from typing import TYPE_CHECKING, Any

from txinspect.measure.moments import Moments
from txinspect.records import HistogramRecord, RowRecord, StatsRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy import float64
    from numpy.typing import NDArray
    from torch import Tensor

    Values = NDArray[float64]
    Held = NDArray[Any]
    """Numbers in float32 where it holds all of a tensor's, else in float64."""

BINS = 16
"""Bins of a histogram."""

_CHUNK = 1 << 16
"""Elements reduced at a time: 512 KB in float64, which stay in the cache of a core meanwhile."""

_ALONE = 1 << 15
"""Numbers that torch converts without waking threads of its own."""

_SQUARABLE = (1e-100, 1e100)
"""Between these, squares neither overflow nor vanish beside the square of the largest magnitude."""

_NORMAL = 1e-290
"""Above this, a float64 is exact to 2⁻⁵³ of itself, and so is a small part of it."""

Blocks = Callable[[], Iterator["Tensor"]]


class _Memory(local):
    """What a thread reduces chunks in: memory that is taken anew has yet to be mapped, which takes as long."""

    @cached_property
    def wide(self) -> Values:
        """A thread's memory for a chunk in float64, to reduce it to statistics."""
        import numpy as np

        return np.empty(_CHUNK)

    @cached_property
    def held(self) -> Tensor:
        """A thread's memory for a chunk in a type that numpy has, to reduce it to statistics."""
        import torch

        return torch.empty(_CHUNK, dtype=torch.float64)

    @cached_property
    def marks(self) -> NDArray[np.bool_]:
        """A thread's memory for marks: of which values of a chunk something holds."""
        import numpy as np

        return np.empty(_CHUNK, dtype=bool)


_MEMORY = _Memory()


def measure(blocks: Blocks) -> tuple[StatsRecord, HistogramRecord | None]:
    """Statistics and histogram of a tensor given as blocks.

    The standard deviation is the population one. Complex values are measured as their real and imaginary parts.
    """
    import numpy as np

    with np.errstate(all="ignore"):
        moments, bins, uncounted = Moments(), _Bins(), 0
        measured: list[list[Moments]] = []
        for index, block in enumerate(blocks()):
            chunks = _chunks(block)
            measured.append(list(map(_moments_of, chunks)))
            for known in measured[-1]:
                moments.add(known)
            if bins.range != moments.range:
                bins, uncounted = _Bins(*moments.range), index
            bins.add(chunks, measured[-1])
        for block, parts in zip(islice(blocks(), uncounted), measured, strict=False):
            bins.add(_chunks(block), parts)
        if (scale := _scale(moments)) != 1:
            moments = Moments()
            for block in blocks():
                for chunk in _chunks(block):
                    moments.add(_moments_of(chunk, scale))
    return moments.record(scale), bins.record()


def measure_rows(vectors: Tensor) -> list[RowRecord]:
    """Statistics of each token's vector: norm, mean and deviation; vectors: (seq, feature)."""
    records: list[RowRecord] = []
    for piece in vectors.detach().split(max(1, _CHUNK // max(1, vectors[:1].numel()))):
        columns = zip(*(column.tolist() for column in _row_statistics(piece)), strict=True)
        for index, (count, l2, mean, std) in enumerate(columns, start=len(records)):
            found = {"l2": l2, "mean": mean, "std": std} if count else {"l2": None, "mean": None, "std": None}
            records.append(RowRecord(index=index, **found))
    return records


def _row_statistics(vectors: Tensor) -> tuple[Values, ...]:
    """Statistics of each row of vectors: how many finite values, their norm, mean and deviation, (seq) each."""
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


def _chunks(block: Tensor) -> Sequence[Tensor]:
    """The numbers of a block of a tensor, some in each chunk for statistics; a complex one is two."""
    import torch

    real = torch.view_as_real(block.detach()) if block.is_complex() else block.detach()
    flat = real.reshape(-1).resolve_neg()
    return flat.split(_CHUNK) if len(flat) else ()


def _held(chunk: Tensor) -> Held:
    """A tensor's chunk on the CPU, in a type of numpy's that holds its numbers; good until the thread's next chunk."""
    import torch

    chunk = chunk.cpu()
    wide = torch.float32 if chunk.dtype in (torch.float32, torch.float16, torch.bfloat16) else torch.float64
    held = chunk if chunk.dtype == wide else _MEMORY.held.view(wide)[: len(chunk)]
    if held is not chunk:
        for part, numbers in zip(held.split(_ALONE), chunk.split(_ALONE), strict=True):
            part.copy_(numbers)
    found: Held = held.numpy()
    return found


def _scale(moments: Moments) -> float:
    """The divisor for a tensor's statistics: 1, or a power of two near its magnitude where squares fail."""
    largest = moments.abs_max if moments.finite else 0.0
    if largest == 0 or _SQUARABLE[0] < largest < _SQUARABLE[1]:
        return 1.0
    return math.ldexp(1.0, math.frexp(largest)[1] - 1)


def _moments_of(chunk: Tensor, divisor: float = 1.0) -> Moments:
    """The moments of a tensor's chunk; mean and deviations of its numbers divided by `divisor`."""
    import numpy as np

    values, found = _held(chunk), Moments(len(chunk))
    low, high = values.min(), values.max()
    if not (math.isfinite(low) and math.isfinite(high)):  # as they are not wherever one value is not
        found.nan = int(np.count_nonzero(np.isnan(values)))
        found.posinf = int(np.count_nonzero(values == math.inf))
        found.neginf = int(np.count_nonzero(values == -math.inf))
        values = values[np.isfinite(values)]
        if not len(values):
            return found
        low, high = values.min(), values.max()
    found.finite, found.low, found.high = len(values), float(low), float(high)
    if low <= 0 <= high:
        found.zeros = int(np.count_nonzero(values == 0))
    wide = _MEMORY.wide[: len(values)]
    np.copyto(wide, values)
    if divisor != 1:
        wide /= divisor
    found.mean = float(np.add.reduce(wide)) / len(wide)
    wide -= found.mean
    found.m2 = float(np.add.reduce(np.square(wide, out=wide)))
    return found


class _Bins:
    """How many of the values added lie in each of BINS equal bins; all of a constant tensor's in the first."""

    def __init__(self, low: float = math.inf, high: float = -math.inf) -> None:
        self.range = low, high
        self.counts = [0] * BINS

    def add(self, chunks: Sequence[Tensor], known: Sequence[Moments]) -> None:
        """Count a tensor's numbers in the histogram's bins, or as not finite; `known` are the chunks' moments."""
        if chunks:
            edges = _edges(*self.range, _held(chunks[0][:0]).dtype)
            for chunk, moments in zip(chunks, known, strict=True):
                self.counts = list(map(add, self.counts, _counted(edges, chunk, moments)))

    def record(self) -> HistogramRecord | None:
        """The histogram's counts; None if the tensor has no finite value."""
        low, high = self.range
        return HistogramRecord(low=low, high=high, counts=self.counts) if low <= high else None


def _counted(edges: Held, chunk: Tensor, moments: Moments) -> list[int]:
    """How many of a chunk's numbers lie before, between and beyond a histogram's edges; only finite ones count."""
    import numpy as np

    # Only edges within the chunk's own range divide it.
    first, last = (int(edges.searchsorted(end, side="right")) for end in (moments.low, moments.high))
    values, marks = _held(chunk), _MEMORY.marks[: len(chunk)]
    beyond = [moments.finite]
    for edge in edges[first:last]:
        beyond.append(int(np.count_nonzero(np.greater_equal(values, edge, out=marks))) - moments.posinf)
    counts = [0] * BINS
    counts[first : first + len(beyond)] = [here - further for here, further in pairwise([*beyond, 0])]
    return counts


def _edges(low: float, high: float, dtype: Any) -> Held:
    """The edges of a histogram's bins but the first: of each the smallest number of a type in it or beyond.

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
