"""The figure of `params`: a statistic of each part over the layers, coloured; and of what is outside of layers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite
from statistics import median
from typing import TYPE_CHECKING, Any

from txinspect.commands.params import SMALLEST_FIRST, MeasuredTensorRecord, ParamsReport
from txinspect.render.figures import paper
from txinspect.render.figures.paper import Letters
from txinspect.render.spelling import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATISTICS = {
    "std": "standard deviation",
    "rel_l2": "relative L2",
    "numel": "elements",
    "abs_max": "largest magnitude",
    "l2": "norm",
    "norm": "spectral norm",
    "kurtosis": "excess kurtosis",
    "outliers": "values beyond 6σ",
    "dead_rows": "dead rows",
    "nan": "NaN",
    "inf": "infinite",
    "stable_rank": "stable rank",
    "max_abs": "largest difference",
    "sign_agreement": "same sign",
}
"""What statistics are called, where it is not by their keys."""

SIGNED = {"mean", "min", "max", "kurtosis", "cosine"}
"""Statistics that may be below zero: they have a diverging scale, if one is."""

WIDE = 30.0
"""How many times the smallest number the largest is from which on the scale is logarithmic."""

LINE = 0.125
"""Inches of a row."""

_PLACE = re.compile(r"(?P<path>.*?)\.(?P<layer>[0-9]+)\.(?P<part>.+)")

Grid = dict[str, dict[int, float]]
"""A number for each part and layer; layer -1 for what is outside of layers."""


def draw(report: ParamsReport, letters: Letters, view: Any = None) -> Figure:
    """A map for each stack, parts × layers, and one for what is outside of layers, on one scale."""
    key = _key(report)
    grids = _grids(report.tensors, key)
    known = [value for grid in grids.values() for row in grid.values() for value in row.values() if isfinite(value)]
    if not known:
        return paper.nothing(f"no tensor has such a number: {_said(key)}")
    rows = sum(map(len, grids.values()))
    line = min(LINE, (paper.TALLEST - 0.4 * len(grids)) / rows)
    labels = {path: [letters.of_name(visible(part)) for part in grid] for path, grid in grids.items()}
    longest = max(len(label) for each in labels.values() for label in each)
    layers = max(layer for grid in grids.values() for row in grid.values() for layer in row) + 1
    room = paper.COLUMN - longest * paper.LETTER - 0.75
    wide = layers * 0.06 > room
    highs = [len(grid) * line + (0.3 if path else 0.05) for path, grid in grids.items()]
    figure = paper.sheet(paper.PAGE if wide else paper.COLUMN, sum(highs) + 0.1)
    every = figure.subplots(len(grids), squeeze=False, height_ratios=highs)
    colours = _colours(key, known)
    stacks = sum(path != "" for path in grids)
    for axes, (path, grid) in zip(every.flat, grids.items(), strict=True):
        count = max(layer for row in grid.values() for layer in row) + 1
        values = [[row.get(layer) for layer in range(count)] if count else [row[-1]] for row in grid.values()]
        mesh = paper.heat(axes, values, **colours)
        axes.set_facecolor("0.9")
        paper.name(axes.yaxis, labels[path], len(grid) * line)
        axes.set_xticks([])
        if count:
            paper.name(axes.xaxis, [str(layer) for layer in range(count)], room + (3.5 if wide else 0.0))
            axes.set_xlabel("layer" if stacks == 1 else f"layer ({letters.of_name(visible(path), 22)})")
    paper.colour_bar(figure, mesh, list(every.flat), _said(key))
    return figure


def _key(report: ParamsReport) -> str:
    """The statistic that is shown: what was sorted by, else how far two models are apart, else the spread."""
    if report.sort not in (None, "name"):
        return str(report.sort)
    return "rel_l2" if report.other is not None else "std"


def _said(key: str) -> str:
    """What a statistic is called beside its colours."""
    return STATISTICS.get(key, key)


def _number(tensor: MeasuredTensorRecord, key: str) -> float | None:
    """A statistic of a tensor; None where it has no such number."""
    if key == "inf":
        return float(tensor.stats.posinf + tensor.stats.neginf)
    for part in (tensor, tensor.stats, tensor.spectral, tensor.diff):
        if part is not None and hasattr(part, key):
            found = getattr(part, key)
            return None if found is None else float(found)
    return None


def _grids(tensors: Sequence[MeasuredTensorRecord], key: str) -> dict[str, Grid]:
    """Each statistic at its path, part and layer; of several tensors there, such as experts', what stands out."""
    ordered = sorted(tensors, key=lambda each: _natural(each.name))
    outside: Grid = {}
    grids: dict[str, Grid] = {}
    pick = min if key in SMALLEST_FIRST else max
    for each in ordered:
        value = _number(each, key)
        if value is None:
            continue
        place = _PLACE.fullmatch(each.name)
        if place is None:
            outside.setdefault(each.name, {})[-1] = value
            continue
        part = re.sub(r"(?<=\.)[0-9]+(?=\.)", "*", place["part"])
        row = grids.setdefault(place["path"], {}).setdefault(part, {})
        layer = int(place["layer"])
        row[layer] = pick(row.get(layer, value), value)
    return grids | ({"": outside} if outside else {})


def _natural(name: str) -> list[tuple[int, str]]:
    """A name to sort by, with its numbers as numbers."""
    return [(int(each), "") if each.isdigit() else (-1, each) for each in re.split(r"([0-9]+)", name)]


def _colours(key: str, known: Sequence[float]) -> dict[str, Any]:
    """The scale of the colours: diverging around zero for numbers on both sides of it, else from the least to the most.

    A wide one is logarithmic.
    """
    from matplotlib.colors import LogNorm, Normalize, SymLogNorm

    low, high = min(known), max(known)
    if key in SIGNED and low < 0:
        most = max(-low, high)
        middle = median(abs(each) for each in known) or most
        wide = most > WIDE * middle
        norm: Normalize = SymLogNorm(middle, vmin=-most, vmax=most) if wide else Normalize(-most, most)
        return {"norm": norm, "cmap": paper.SIGNED}
    if key in ("cosine", "sign_agreement"):
        return {"norm": Normalize(min(low, 0.999999), 1.0)}
    above = [each for each in known if each > 0]
    if above and max(above) > WIDE * min(above):
        return {"norm": LogNorm(min(above), high)}
    return {"norm": Normalize(min(low, 0.0), high or 1.0)}
