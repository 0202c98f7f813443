"""Stored parameters → statistics, in float64, a chunk at a time and on every core.

A tensor arrives as `Read`, which gives its elements from one to another. It is taken in pieces, which threads share,
and a piece in chunks that fit a core's cache, so that memory is flat; NumPy lets go of the interpreter in between.
Moments of chunks are about the chunk's own mean and are put together by Pébay's formulas (2008, "Formulas for Robust,
One-Pass Parallel Computation of Covariances and Arbitrary-Order Statistical Moments"), in the order of the file: the
numbers do not depend on the number of threads.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from txinspect.commands.params import DifferenceRecord, SpectralRecord
from txinspect.records import StatsRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Read = Callable[[int, int], NDArray[np.float64]]
    """The elements of a tensor from one to another; valid until the thread reads it again."""

CHUNK = 1 << 15
"""Elements in float64 at a time: with what is computed from them, 1 MB. A multiple of every block of GGUF."""

PIECE = 1 << 20
"""Elements that a thread takes at a time."""

SIGMAS = 6
"""Standard deviations beyond which a value is an outlier."""

MOST_THREADS = 8
"""More wait for each other and for the disk."""

_HUGE, _TINY = 1e70, 1e-70
"""Beyond these, fourth powers leave the range of float64: a tensor is then divided by its largest magnitude."""

_Extremes = tuple[int, int, float, float]
"""A chunk, from and to, and its smallest and largest value."""

Value = TypeVar("Value")
Item = TypeVar("Item")


@contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    """A thread per core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ThreadPoolExecutor(min(cores, MOST_THREADS))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Tensor:
    """A stored tensor, to be measured."""

    shape: tuple[int, ...]
    read: Read

    @property
    def numel(self) -> int:
        """Its elements."""
        return math.prod(self.shape)

    @property
    def row(self) -> int:
        """Elements of a row, along the last axis; a tensor of fewer than two axes has one row per element."""
        return self.shape[-1] if len(self.shape) > 1 else 1


@dataclass(frozen=True)
class Measured:
    """What is known of a tensor."""

    stats: StatsRecord
    kurtosis: float | None
    outliers: int
    dead_rows: int | None
    """None for fewer than two axes."""


def measure(tensors: Sequence[Tensor], pool: ThreadPoolExecutor) -> Iterator[Measured]:
    """What is known of each tensor, in order. Raises what reading raises."""
    for tensor, (counted, extremes) in zip(tensors, _moments(tensors, pool), strict=True):
        moments, scale = counted, 1.0
        if counted.finite and not _TINY < (counted.abs_max or 1.0) < _HUGE:
            scale = counted.abs_max
            ((moments, extremes),) = _moments([tensor], pool, scale)
        yield _measured(tensor, counted, moments, extremes, scale, pool)


def _measured(
    tensor: Tensor,
    counted: _Moments,
    moments: _Moments,
    extremes: Sequence[_Extremes],
    scale: float,
    pool: ThreadPoolExecutor,
) -> Measured:
    """The statistics; `moments` and the chunks' `extremes` are those of the tensor divided by `scale`."""
    counts = {name: getattr(counted, name) for name in ("numel", "zeros", "nan", "posinf", "neginf")}
    dead = counted.dead if len(tensor.shape) > 1 else None
    n = moments.finite
    if not n:
        nothing = StatsRecord(mean=None, std=None, min=None, max=None, abs_max=None, l2=None, **counts)
        return Measured(nothing, None, 0, dead)
    deviation = math.sqrt(moments.m2 / n)
    stats = StatsRecord(
        mean=moments.mean * scale,
        std=deviation * scale,
        min=counted.low,
        max=counted.high,
        abs_max=counted.abs_max,
        l2=math.sqrt(moments.m2 + n * moments.mean * moments.mean) * scale,
        **counts,
    )
    low, high = (moments.mean + side * SIGMAS * deviation for side in (-1, 1))
    beyond = [(start, stop) for start, stop, least, most in extremes if least < low or most > high]

    def outside(chunk: tuple[int, int]) -> int:
        import numpy as np

        numbers = tensor.read(*chunk)
        if scale != 1.0:
            numbers = numbers / scale
        return int(np.count_nonzero((numbers < low) & (numbers > -np.inf) | (numbers > high) & (numbers < np.inf)))

    outliers = sum(pool.map(outside, beyond)) if deviation else 0
    kurtosis = n * moments.m4 / moments.m2**2 - 3 if moments.m2 else None
    return Measured(stats, kurtosis, outliers, dead)


@dataclass(frozen=True)
class _Moments:
    """Counts, range and central moments of finite values."""

    numel: int = 0
    finite: int = 0
    zeros: int = 0
    nan: int = 0
    posinf: int = 0
    neginf: int = 0
    low: float = math.inf
    high: float = -math.inf
    mean: float = 0.0
    m2: float = 0.0
    """Sum of squared deviations from the mean; m3 and m4 of their third and fourth powers."""
    m3: float = 0.0
    m4: float = 0.0
    dead: int = 0
    """Rows that are all zero."""

    @property
    def abs_max(self) -> float:
        return max(abs(self.low), abs(self.high))

    def __add__(self, other: _Moments) -> _Moments:
        """Of both together."""
        counts = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        low, high = min(self.low, other.low), max(self.high, other.high)
        a, b, n = self.finite, other.finite, self.finite + other.finite
        filled = other if a == 0 else self
        central = {name: getattr(filled, name) for name in ("mean", "m2", "m3", "m4")}
        if a and b:
            delta = other.mean - self.mean
            square = delta * delta  # a power would raise where a product is infinite
            central = {
                "mean": self.mean + delta * b / n,
                "m2": self.m2 + other.m2 + square * a * b / n,
                "m3": self.m3
                + other.m3
                + square * delta * a * b * (a - b) / n**2
                + 3 * delta * (a * other.m2 - b * self.m2) / n,
                "m4": self.m4
                + other.m4
                + square * square * a * b * (a * a - a * b + b * b) / n**3
                + 6 * square * (a * a * other.m2 + b * b * self.m2) / n**2
                + 4 * delta * (a * other.m3 - b * self.m3) / n,
            }
        return _Moments(low=low, high=high, **counts, **central)


_COUNTS = ("numel", "finite", "zeros", "nan", "posinf", "neginf", "dead")


def _moments(
    tensors: Sequence[Tensor], pool: ThreadPoolExecutor, scale: float = 1.0
) -> Iterator[tuple[_Moments, list[_Extremes]]]:
    """Of each tensor, divided by `scale`; and the range of each chunk."""
    spans = [list(_pieces(tensor.numel, tensor.row)) for tensor in tensors]
    work = ((tensor, piece) for tensor, pieces in zip(tensors, spans, strict=True) for piece in pieces)
    done = _ahead(pool, lambda item: _of_piece(item[0], *item[1], scale), work)
    for pieces in spans:
        total, extremes = _Moments(), list[_Extremes]()
        for _ in pieces:
            moments, ranges = next(done)
            total = total + moments
            extremes += ranges
        yield total, extremes


def _pieces(numel: int, row: int) -> Iterator[tuple[int, int]]:
    """Whole rows, as many as make a piece, or one that is longer."""
    step = max(1, PIECE // max(1, row)) * row
    yield from ((start, min(start + step, numel)) for start in range(0, numel, step or 1))


def _chunks(start: int, stop: int, row: int) -> Iterator[tuple[int, int]]:
    """A piece in chunks: whole rows, or parts of one that is longer than a chunk."""
    if row <= CHUNK:
        step = CHUNK // row * row
        yield from ((low, min(low + step, stop)) for low in range(start, stop, step))
        return
    for begin in range(start, stop, row):
        yield from ((low, min(low + CHUNK, begin + row)) for low in range(begin, begin + row, CHUNK))


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Item], Value], items: Iterable[Item], most: int = 4 * MOST_THREADS
) -> Iterator[Value]:
    """What work makes of each item, in order, with no more than so many under way or waiting to be taken."""
    under_way: deque[Future[Value]] = deque()
    for item in items:
        under_way.append(pool.submit(work, item))
        if len(under_way) >= most:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


def _of_piece(tensor: Tensor, start: int, stop: int, scale: float) -> tuple[_Moments, list[_Extremes]]:
    """Of a piece of a tensor; and the range of each of its chunks."""
    total, extremes, alive = _Moments(), [], False
    for low, high in _chunks(start, stop, tensor.row):
        numbers = tensor.read(low, high)
        chunk = _of_chunk(numbers / scale if scale != 1.0 else numbers)
        if len(tensor.shape) > 1:
            dead, alive = _dead_rows(numbers, chunk.zeros, tensor.row, high, alive)
            chunk = replace(chunk, dead=dead)
        total = total + chunk
        extremes.append((low, high, chunk.low, chunk.high))
    return total, extremes


def _dead_rows(numbers: NDArray[np.float64], zeros: int, row: int, stop: int, alive: bool) -> tuple[int, bool]:
    """Rows that are all zero and end in a chunk; and whether the row that goes on after it has anything else."""
    if row <= CHUNK:
        if zeros < row:
            return 0, False
        return int((~(numbers.reshape(-1, row) != 0).any(axis=1)).sum()), False
    alive = alive or zeros < numbers.size
    ends = stop % row == 0
    return int(ends and not alive), alive and not ends


def _of_chunk(numbers: NDArray[np.float64]) -> _Moments:
    """Of a chunk; its numbers are as they were afterwards."""
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
            return _Moments(**counts)
        low, high = float(numbers.min()), float(numbers.max())
        zeros = n - int(np.count_nonzero(numbers)) if low <= 0 <= high else 0
        found = _Moments(low=low, high=high, zeros=zeros, mean=low, **counts)
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


# Comparison


@dataclass
class _Products:
    """Sums over the elements of two tensors that are finite in both."""

    dot: float = 0.0
    here: float = 0.0
    there: float = 0.0
    difference: float = 0.0
    max_abs: float | None = None
    equal: bool = True
    agreeing: int = 0
    both_changed: int = 0

    def __add__(self, other: _Products) -> _Products:
        most = [each for each in (self.max_abs, other.max_abs) if each is not None]
        return _Products(
            self.dot + other.dot,
            self.here + other.here,
            self.there + other.there,
            self.difference + other.difference,
            max(most, default=None),
            self.equal and other.equal,
            self.agreeing + other.agreeing,
            self.both_changed + other.both_changed,
        )


def compare(
    pairs: Sequence[tuple[Tensor, Tensor, Tensor | None]], pool: ThreadPoolExecutor
) -> Iterator[DifferenceRecord]:
    """How the second tensor of each differs from the first, which has its shape; the third is what both come from."""
    spans = [list(_pieces(here.numel, here.row)) for here, _, _ in pairs]
    work = ((pair, piece) for pair, pieces in zip(pairs, spans, strict=True) for piece in pieces)
    done = _ahead(pool, lambda item: _compared(item[0], *item[1]), work)
    for (_, _, base), pieces in zip(pairs, spans, strict=True):
        total = _Products()
        for _ in pieces:
            total = total + next(done)
        norms = math.sqrt(total.here) * math.sqrt(total.there)
        yield DifferenceRecord(
            cosine=max(-1.0, min(1.0, total.dot / norms)) if norms and math.isfinite(norms) else None,
            rel_l2=math.sqrt(total.difference / total.here) if total.here and math.isfinite(total.here) else None,
            max_abs=total.max_abs,
            equal=total.equal,
            sign_agreement=total.agreeing / total.both_changed if base and total.both_changed else None,
        )


def _compared(pair: tuple[Tensor, Tensor, Tensor | None], start: int, stop: int) -> _Products:
    """Of a piece of the tensors."""
    import numpy as np

    total = _Products()
    for low, high in _chunks(start, stop, pair[0].row):
        here, there, base = (each.read(low, high) if each else None for each in pair)
        assert here is not None
        assert there is not None
        equal = bool(np.array_equal(here, there, equal_nan=True))
        with np.errstate(over="ignore", invalid="ignore"):
            if not math.isfinite(float(here.sum() + there.sum())):
                kept = np.isfinite(here) & np.isfinite(there)
                here, there, base = here[kept], there[kept], None if base is None else base[kept]
            difference = there - here
            chunk = _Products(
                float((here * there).sum()),
                float((here * here).sum()),
                float((there * there).sum()),
                float((difference * difference).sum()),
                float(np.abs(difference).max()) if difference.size else None,
                equal,
            )
            if base is not None:
                moved = np.sign(here - base), np.sign(there - base)
                both = (moved[0] != 0) & (moved[1] != 0) & np.isfinite(base)
                chunk.both_changed = int(both.sum())
                chunk.agreeing = int((both & (moved[0] == moved[1])).sum())
        total = total + chunk
    return total


# Spectra

STEPS = 300
"""Lanczos steps at most: far more than a matrix of random numbers takes."""

TOLERANCE = 1e-8
"""Residual of the largest eigenvalue, relative to it, at which it is taken as found; its error is about the square."""


def spectrum(tensor: Tensor, measured: Measured) -> SpectralRecord | None:
    """Largest singular value and stable rank of a matrix; None for what is none.

    Lanczos' method on WᵀW, with every vector kept orthogonal to all before it; a step reads the matrix once.
    """
    stats = measured.stats
    if len(tensor.shape) != 2 or not tensor.numel:
        return None
    if stats.nan or stats.posinf or stats.neginf:
        return SpectralRecord(norm=None, stable_rank=None)
    if not stats.l2 or not stats.abs_max:
        return SpectralRecord(norm=0.0, stable_rank=None)
    norm = min(stats.l2, stats.abs_max * math.sqrt(_largest_eigenvalue(tensor, stats.abs_max)))
    return SpectralRecord(norm=norm, stable_rank=(stats.l2 / norm) ** 2)


def _largest_eigenvalue(tensor: Tensor, scale: float) -> float:
    """Of WᵀW, of a matrix divided by `scale`."""
    import numpy as np

    columns = tensor.row
    steps = min(STEPS, columns, tensor.shape[0] + 1)
    vector = np.random.default_rng(0).standard_normal(columns)
    vector /= np.linalg.norm(vector)
    basis = [vector]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        image = _gram_times(tensor, basis[-1], scale)
        diagonal.append(float(image @ basis[-1]))
        kept = np.array(basis)
        for _ in range(2):
            image -= kept.T @ (kept @ image)
        rest = float(np.linalg.norm(image))
        values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        largest = float(values[-1])
        if rest * abs(float(vectors[-1, -1])) <= TOLERANCE * largest or len(diagonal) == steps:
            return largest
        beside.append(rest)
        basis.append(image / rest)


def _gram_times(tensor: Tensor, vector: NDArray[np.float64], scale: float) -> NDArray[Any]:
    """WᵀW times a vector, of a matrix divided by `scale`, reading whole rows."""
    import numpy as np

    columns = tensor.row
    step = max(1, 8 * CHUNK // columns) * columns
    total = np.zeros(columns)
    for start in range(0, tensor.numel, step):
        rows = tensor.read(start, min(start + step, tensor.numel)).reshape(-1, columns)
        total += (rows @ vector / scale) @ rows / scale
    return total
