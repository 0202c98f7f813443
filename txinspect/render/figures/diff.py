"""The figure of `diff`: how far the two sides are apart at each part, over the layers; below, outside of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from txinspect.commands.diff import DiffReport, StageDiffRecord
from txinspect.render.content.diff import FLOOR, named
from txinspect.render.figures import paper
from txinspect.render.figures.paper import Letters
from txinspect.render.spelling import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOGETHER = 8
"""Parts whose lines stand in one panel; of more, attention, the MLP and the stream have their own."""

OUTSIDE = 30
"""Stages outside of layers, or modules, that have a line each; of more those that are farthest apart."""

MARKS = "os^vDPX*<>"

Part = tuple[str, int | None]
"""A part of a layer, and which of its runs in a pass."""

Panel = dict[Part, list[tuple[int, StageDiffRecord]]]
"""The stages of parts by their layers."""


def draw(report: DiffReport, letters: Letters, view: Any = None) -> Figure:
    """A panel for the parts of layers, or several; relative L2 on a logarithmic scale, and the tolerance."""
    panels, outside = _sorted(report)
    if not panels and not outside:
        return paper.nothing("no stage was compared")
    if len(outside) > OUTSIDE:
        kept = {id(each) for each in sorted(outside, key=lambda each: -(each.rel_l2 or 0.0))[:OUTSIDE]}
        outside = [each for each in outside if id(each) in kept]
    highs = [1.45 + 0.13 * (-(-len(panel) // 2)) for panel in panels.values()]
    highs += [0.35 + 0.14 * len(outside)] if outside else []
    figure = paper.sheet(paper.COLUMN, sum(highs))
    grid = list(figure.subplots(len(highs), squeeze=False, height_ratios=highs).flat)
    for axes, (title, panel) in zip(grid, panels.items(), strict=False):
        _lines(axes, report, panel, title if len(panels) > 1 else "", letters)
    if outside:
        _points(grid[-1], report, outside, letters)
    for axes in grid:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _sorted(report: DiffReport) -> tuple[dict[str, Panel], list[StageDiffRecord]]:
    """The stages by panel and part; those outside of layers by themselves."""
    panels: dict[str, Panel] = {}
    outside = []
    names = named(report.stages)
    parts = {(said.stack, said.part, said.run) for _, said in names if said.layer is not None}
    for each, said in names:
        if said.layer is None:
            outside.append(each)
            continue
        group = said.part.partition(".")[0] if "." in said.part else "stream"
        apart = sum(stack == said.stack for stack, _, _ in parts) > TOGETHER
        title = f"{said.stack.removesuffix('.')} {group if apart else ''}".strip()
        panels.setdefault(title, {}).setdefault((said.part, said.run), []).append((said.layer, each))
    return panels, outside


def _lines(axes: Axes, report: DiffReport, panel: Panel, title: str, letters: Letters) -> None:
    """A line for each part over the layers; what differs in a layer by itself is dashed."""
    for place, ((part, run), stages) in enumerate(panel.items()):
        label = letters.of_name(visible(part) + (f"#{run}" if run else ""))
        look = {"color": f"C{place % 10}", "marker": MARKS[place % len(MARKS)]}
        layers = [layer for layer, _ in stages]
        axes.plot(layers, _logarithmic([each.rel_l2 for _, each in stages]), label=label, **look)  # type: ignore[arg-type]
        alone = [each.isolated_rel_l2 for _, each in stages]
        if any(alone):
            axes.plot(layers, _logarithmic(alone), "--", **look)  # type: ignore[arg-type]
    every = [(layer, each) for stages in panel.values() for layer, each in stages]
    if any(each.isolated_rel_l2 for _, each in every):
        axes.plot([], [], "--", color="grey", label="isolated")
    apart = [number for _, each in every for number in (each.rel_l2, each.isolated_rel_l2)]
    paper.logarithmic(axes.yaxis, _known(apart), FLOOR)
    equal = sorted({layer for layer, each in every if each.rel_l2 == 0})
    if equal:
        across = axes.get_xaxis_transform()
        axes.plot(equal, [0.03] * len(equal), "o", color="grey", mfc="white", transform=across, label="equal")
    if report.tolerance > 0:
        axes.axhline(report.tolerance, color="grey", linewidth=0.6, linestyle=":", label="tolerance")
    axes.set_ylabel("relative L2")
    axes.set_xlabel(f"layer ({title})" if title else "layer")
    layers = sorted({layer for layer, _ in every})
    step = max(1, len(layers) // 12)
    axes.set_xticks(layers[::step], labels=[str(layer) for layer in layers[::step]])
    axes.set_xlim(layers[0] - 0.3, layers[-1] + 0.3)
    longest = max(len(str(each.get_label())) for each in axes.get_lines())
    side_by_side = max(1, int((paper.COLUMN - 0.6) / (longest * paper.LETTER + 0.35)))
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=side_by_side, frameon=False, columnspacing=1, handlelength=1.6
    )


def _points(axes: Axes, report: DiffReport, stages: Sequence[StageDiffRecord], letters: Letters) -> None:
    """A point for each stage outside of layers; one that is equal stands open on the left."""
    for place, each in enumerate(stages):
        (known,) = _logarithmic([each.rel_l2])
        axes.plot([known], [place + 0.5], "o", color="C0")
        if each.rel_l2 == 0:
            axes.plot([0.01], [place + 0.5], "o", color="grey", mfc="white", transform=axes.get_yaxis_transform())
    paper.logarithmic(axes.xaxis, _known([each.rel_l2 for each in stages]), FLOOR)
    if report.tolerance > 0:
        axes.axvline(report.tolerance, color="grey", linewidth=0.6, linestyle=":")
    axes.set_ylim(len(stages), 0)
    axes.set_yticks(
        [place + 0.5 for place in range(len(stages))],
        labels=[letters.of_name(visible(each.name), 24) for each in stages],
    )
    axes.grid(axis="y", linewidth=0.3, color="0.85")
    axes.set_xlabel("relative L2")


def _known(values: Sequence[float | None]) -> list[float]:
    """Numbers that have a place on a logarithmic axis."""
    return [each for each in values if each and isfinite(each)]


def _logarithmic(values: Sequence[float | None]) -> list[float]:
    """Numbers for a logarithmic axis, where zero and what is no number have no place."""
    return [each if each and isfinite(each) else float("nan") for each in values]
