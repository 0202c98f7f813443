"""How stored parameters differ from others of their shape, in float64, a chunk at a time and on every core."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from txinspect.commands.params import DifferenceRecord
from txinspect.measure.pieces import Tensor, ahead, chunks, pieces


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
    """How the second stored parameter of each differs from the first, of one shape; the third is what both are from."""
    spans = [list(pieces(here.numel, here.row)) for here, _, _ in pairs]
    work = ((pair, span) for pair, some in zip(pairs, spans, strict=True) for span in some)
    done = ahead(pool, lambda item: _compared(item[0], *item[1]), work)
    for (_, _, base), some in zip(pairs, spans, strict=True):
        total = _Products()
        for _ in some:
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
    """Sums for the differences of stored parameters, over a piece of them."""
    import numpy as np

    total = _Products()
    for low, high in chunks(start, stop, pair[0].row):
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
