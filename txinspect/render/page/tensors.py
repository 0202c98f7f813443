"""Recorded tensors on a page: statistics, and a histogram of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from txinspect.records import Report, StatsRecord, TensorRecord
from txinspect.render.spelling import number, or_dash, visible

HEIGHT, WIDTH = 18, 2
"""Pixels of the highest bar of a histogram on a page, and of each bar."""


@dataclass(frozen=True)
class ShownTensor:
    """A tensor on a page."""

    name: str
    supplier: str
    axes: str
    dtype: str
    numbers: Sequence[str]
    """Mean, deviation, smallest and largest."""
    bars: str
    """The histogram as the path of an SVG, a bar every WIDTH pixels; nothing where there is none."""
    width: int
    """Of the histogram, in pixels."""
    said: str
    """The histogram in words."""
    wrong: str
    """What is not finite, if anything is."""


@dataclass(frozen=True)
class TensorsPart:
    """The tensors of a page."""

    kind: ClassVar = "tensors"
    tensors: Sequence[ShownTensor]


def parts(reports: Sequence[Report]) -> Iterator[TensorsPart]:
    """The tensors of all reports of a page as a part of it, each once, if there are any."""
    found: dict[str, TensorRecord] = {}
    for report in reports:
        for tensor in getattr(report, "tensors", ()):
            if isinstance(tensor, TensorRecord):  # those of params are rows of a table of their own
                found.setdefault(tensor.name, tensor)
    if found:
        yield TensorsPart([_shown(tensor) for tensor in found.values()])


def _shown(tensor: TensorRecord) -> ShownTensor:
    stats, histogram = tensor.stats, tensor.histogram
    counts = histogram.counts if histogram else []
    high = max(counts, default=0)
    sizes = zip(tensor.axes or [""] * len(tensor.shape), tensor.shape, strict=False)
    return ShownTensor(
        name=visible(tensor.name),
        supplier=or_dash(f"{tensor.module} ({tensor.class_})" if tensor.module else tensor.class_),
        axes=" × ".join(f"{axis} {size}".strip() for axis, size in sizes),
        dtype=tensor.dtype,
        numbers=[number(each) for each in (stats.mean, stats.std, stats.min, stats.max)],
        bars=_path([-(-count * HEIGHT // high) for count in counts]) if high else "",
        width=WIDTH * len(counts),
        said=f"{len(counts)} bins from {number(histogram.low)} to {number(histogram.high)}" if histogram else "",
        wrong=_wrong(stats),
    )


def _path(heights: Sequence[int]) -> str:
    """The outline of a histogram's bars on a page, from its left to its right end."""
    steps = "".join(f"V{HEIGHT - height}h{WIDTH}" for height in heights)
    return f"M0 {HEIGHT}{steps}V{HEIGHT}z"


def _wrong(stats: StatsRecord) -> str:
    """What of a page's tensor is not finite."""
    counts = ((stats.nan, "NaN"), (stats.posinf, "+inf"), (stats.neginf, "-inf"))
    return ", ".join(f"{count:,} {what}" for count, what in counts if count)
