"""What stands in the tables of `stages`: a row per stage, layers that are alike in one; what is absent, and why."""

from __future__ import annotations

import re
from collections.abc import Set

from txinspect.commands.stages import StageRecord, StagesReport
from txinspect.render.spelling import or_dash, visible
from txinspect.render.tables import Column, Line, Row, Table, cell, line
from txinspect.stage_names import StageName
from txinspect.wording import counted, ranges

GIVING_WAY = ("class", "axes")
"""Columns that are left out, the first first, until the others fit."""


def present(report: StagesReport, left_out: Set[str] = frozenset()) -> Table:
    """The table of a model's stages: layers, axes, the module that supplies each, if it is another than above."""
    columns = {"stage": Column("stage", whole=True), "i": Column("i", whole=True), "axes": Column("axes", whole=True)}
    columns |= {"module": Column("supplied by"), "class": Column("class")}
    kept = [name for name in columns if name not in left_out]
    rows, above = [], None
    for layers, stage in _folded(report.stages):
        if stage.available:
            supplier, shown = (stage.module, stage.class_), (stage.module, stage.class_) != above
            module = stage.module or (stage.class_ if "class" in left_out else None)
            cells = {
                "stage": cell(visible(stage.name), "strong"),
                "i": cell(ranges(layers)),
                "axes": cell(visible(_axes(stage)), "dim"),
                "module": cell(visible(module or "") if shown else ""),
                "class": cell(visible(stage.class_ or "") if shown else "", "dim"),
            }
            rows.append(Row([cells[name] for name in kept]))
            above = supplier
    return Table([columns[name] for name in kept], rows)


def axes(report: StagesReport) -> Table:
    """The axes of all stages, each once: where they have no column of their own."""
    by_axes: dict[str, list[str]] = {}
    for _, stage in _folded(report.stages):
        if stage.available:
            by_axes.setdefault(_axes(stage), []).append(stage.name)
    most = max(by_axes, key=lambda each: len(by_axes[each]), default="")
    others = {each: ", ".join(_shortened(names)) for each, names in by_axes.items() if each != most}
    rows = [Row([cell(each, "strong"), cell(visible(names), "dim")]) for each, names in others.items()]
    rows.append(Row([cell(most, "strong"), cell("all others" if others else "all", "dim")]))
    return Table([Column("axes", whole=True), Column("of")], rows)


def notes(report: StagesReport) -> Table | None:
    """What to know of stages in this model, each note once; None where there is nothing to know."""
    by_note: dict[str, list[str]] = {}
    for _, stage in _folded(report.stages):
        if stage.available and stage.note:
            by_note.setdefault(stage.note, []).append(stage.name)
    rows = [
        Row([cell(visible(", ".join(_shortened(names)))), cell(visible(note), "dim")])
        for note, names in by_note.items()
    ]
    return Table([Column("about"), Column("note")], rows) if rows else None


def total(report: StagesReport) -> Line:
    """The line about how many stages a model has in all, and how many it does not have."""
    having = sum(stage.available for stage in report.stages)
    absent = len(report.stages) - having
    return line(f"{counted(having, 'stage')} in all{f', {absent} absent' if absent else ''}; --json has each")


def _axes(stage: StageRecord) -> str:
    """A stage's axes in a cell."""
    return " ".join(stage.axes or ["–"])


def absent(report: StagesReport) -> Table | None:
    """The table of stages that the model does not have, by the reason."""
    by_reason: dict[tuple[str | None, str], list[str]] = {}
    for layers, stage in _folded(report.stages):
        if not stage.available:
            by_reason.setdefault((stage.reason, ranges(layers)), []).append(stage.name)
    rows = [
        Row([cell(visible(", ".join(_shortened(names))), "dim"), cell(layers), cell(or_dash(reason), "warning")])
        for (reason, layers), names in by_reason.items()
    ]
    return Table([Column("absent"), Column("i"), Column("because")], rows) if rows else None


def _shortened(names: list[str]) -> list[str]:
    """Names of which only the first of those that begin alike says how: layers.{i}.attention.q, .k, .v."""
    heads = [name.rpartition(".")[0] for name in names]
    return [
        name.removeprefix(head) if head and head == before else name
        for name, head, before in zip(names, heads, ["", *heads], strict=False)
    ]


def _folded(stages: list[StageRecord]) -> list[tuple[list[int], StageRecord]]:
    """The stages with their layer's number taken out, each with the layers that it stands for in the table."""
    groups: dict[tuple[str | None, ...], tuple[list[int], StageRecord]] = {}
    for stage in stages:
        index = StageName.of(stage.name).layer
        layer = "" if index is None else str(index)
        general = [_without(text, layer) for text in (stage.name, stage.module, stage.reason, stage.note)]
        key = (*general, stage.class_)
        record = StageRecord(
            name=general[0] or "",
            axes=stage.axes,
            module=general[1],
            class_=stage.class_,
            available=stage.available,
            reason=general[2],
            note=general[3],
        )
        layers, _ = groups.setdefault(key, ([], record))
        layers.extend([int(layer)] if layer else [])
    return list(groups.values())


def _without(text: str | None, layer: str) -> str | None:
    """A stage's text with the layer's number, as a component of a path or after the word, replaced by {i}."""
    if text is None or not layer:
        return text
    return re.sub(rf"(?<=\.){layer}(?=\.|$)|(?<=layer ){layer}\b", "{i}", text, count=1)
