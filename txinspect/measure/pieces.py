"""Stored tensors in pieces that threads share, and a piece in chunks that fit a core's cache; each is read as it comes.

Memory is flat however large a tensor is, and NumPy lets go of the interpreter while it computes.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Read = Callable[[int, int], NDArray[np.float64]]
    """The elements of a tensor from one to another; valid until the thread reads it again."""

CHUNK = 1 << 15
"""Elements in float64 at a time: with what is computed from them, 1 MB. A multiple of every block of GGUF."""

PIECE = 1 << 20
"""Elements that a thread takes at a time."""

MOST_THREADS = 8
"""More wait for each other and for the disk."""

Value = TypeVar("Value")
Item = TypeVar("Item")


@contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    """A pool of threads, one per core, to share the pieces of stored tensors."""
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
        """Elements of a stored tensor."""
        return math.prod(self.shape)

    @property
    def row(self) -> int:
        """Elements of a stored tensor's row, along its last axis; one of fewer than two axes has a row per element."""
        return self.shape[-1] if len(self.shape) > 1 else 1


def pieces(numel: int, row: int) -> Iterator[tuple[int, int]]:
    """The pieces of a stored tensor: whole rows, as many as make a piece, or one that is longer."""
    step = max(1, PIECE // max(1, row)) * row
    yield from ((start, min(start + step, numel)) for start in range(0, numel, step or 1))


def chunks(start: int, stop: int, row: int) -> Iterator[tuple[int, int]]:
    """A piece of a stored tensor in chunks: whole rows, or parts of one that is longer than a chunk."""
    if row <= CHUNK:
        step = CHUNK // row * row
        yield from ((low, min(low + step, stop)) for low in range(start, stop, step))
        return
    for begin in range(start, stop, row):
        yield from ((low, min(low + CHUNK, begin + row)) for low in range(begin, begin + row, CHUNK))


def ahead(
    pool: ThreadPoolExecutor, work: Callable[[Item], Value], items: Iterable[Item], most: int = 4 * MOST_THREADS
) -> Iterator[Value]:
    """What threads make of each piece, in order, with no more than so many under way or waiting to be taken."""
    under_way: deque[Future[Value]] = deque()
    for item in items:
        under_way.append(pool.submit(work, item))
        if len(under_way) >= most:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()
