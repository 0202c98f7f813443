"""Moments of parts of some numbers → those of all of them → a record of statistics; plain numbers alone.

Counts, ranges and the record are one. Means and deviations are put together by two formulas, which agree but in the
last bit, and each reports what it always has: Chan's where two moments are wanted, Pébay's where four are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from txinspect.records import StatsRecord


@dataclass
class Moments:
    """Counts and range of some numbers; mean and squared deviations of the finite ones."""

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
    """Sum of squared deviations from the mean."""

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest finite value among the numbers of these moments."""
        return self.low, self.high

    @property
    def abs_max(self) -> float:
        """The largest magnitude among the numbers of these moments."""
        return max(abs(self.low), abs(self.high))

    @property
    def deviation(self) -> float:
        """The standard deviation of the population, by its moments."""
        return math.sqrt(self.m2 / self.finite)

    @property
    def squares(self) -> float:
        """The sum of the squares, by mean and deviations."""
        return self.m2 + self.finite * self.mean**2

    def add(self, other: Self) -> None:
        """Add the moments of other numbers to these."""
        self.numel += other.numel
        self.zeros += other.zeros
        self.nan += other.nan
        self.posinf += other.posinf
        self.neginf += other.neginf
        if not other.finite:
            return
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self._add_central(other)
        self.finite += other.finite

    def _add_central(self, other: Self) -> None:
        """Add central moments, mean and deviations; some of the numbers are finite (Chan, Golub and LeVeque 1979)."""
        n, step = self.finite + other.finite, other.mean - self.mean
        # A product, where a power would raise: what does not fit is measured once more, scaled.
        self.m2 += other.m2 + step * step * (self.finite / n * other.finite)
        self.mean += step * (other.finite / n)

    def record(self, scale: float = 1.0) -> StatsRecord:
        """The record of statistics by these moments, where mean and deviations are of numbers divided by `scale`."""
        counts = {name: getattr(self, name) for name in ("numel", "zeros", "nan", "posinf", "neginf")}
        if not self.finite:
            return StatsRecord(mean=None, std=None, min=None, max=None, abs_max=None, l2=None, **counts)
        return StatsRecord(
            mean=self.mean * scale,
            std=self.deviation * scale,
            min=self.low,
            max=self.high,
            abs_max=self.abs_max,
            l2=math.sqrt(self.squares) * scale,
            **counts,
        )


@dataclass
class FourMoments(Moments):
    """Also the third and fourth powers of deviations."""

    m3: float = 0.0
    m4: float = 0.0

    @property
    def squares(self) -> float:
        """The sum of the squares, by mean and deviations."""
        return self.m2 + self.finite * self.mean * self.mean

    @property
    def kurtosis(self) -> float | None:
        """The excess kurtosis by four moments; None where all numbers are equal, or none is finite."""
        return self.finite * self.m4 / self.m2**2 - 3 if self.m2 else None

    def _add_central(self, other: Self) -> None:
        """Add central moments up to the fourth (Pébay 2008)."""
        a, b, n = self.finite, other.finite, self.finite + other.finite
        if not a:
            self.mean, self.m2, self.m3, self.m4 = other.mean, other.m2, other.m3, other.m4
            return
        delta = other.mean - self.mean
        square = delta * delta  # a power would raise where a product is infinite
        # Each is made of the lower ones as they were.
        self.m4 = (
            self.m4
            + other.m4
            + square * square * a * b * (a * a - a * b + b * b) / n**3
            + 6 * square * (a * a * other.m2 + b * b * self.m2) / n**2
            + 4 * delta * (a * other.m3 - b * self.m3) / n
        )
        self.m3 = (
            self.m3 + other.m3 + square * delta * a * b * (a - b) / n**2 + 3 * delta * (a * other.m2 - b * self.m2) / n
        )
        self.m2 = self.m2 + other.m2 + square * a * b / n
        self.mean = self.mean + delta * b / n
