"""What stands in the tables of `stages`: a row per stage, layers that are alike in one; what is absent, and why."""

from __future__ import annotations

import re

from txinspect.commands.stages import StageRecord, StagesReport
from txinspect.render.spelling import or_dash, visible
from txinspect.render.tables import Cell, Column, Row, Table, Words, cell
from txinspect.stage_names import StageName
from txinspect.wording import ranges


def present(report: StagesReport, *, wide: bool) -> Table:
    """The table of a model's stages: layers, axes, and the module that supplies each; axes below if it is narrow."""
    titles = ("stage", "i", "axes", "supplied by") if wide else ("stage\naxes", "i", "supplied by")
    rows = []
    for layers, stage in _folded(report.stages):
        if stage.available:
            name, axes = visible(stage.name), visible(" ".join(stage.axes or ["–"]))
            place = cell(ranges(layers))
            if wide:
                cells = [cell(name, "strong"), place, cell(axes, "dim")]
            else:
                cells = [Cell([Words(name, "strong"), Words(f"\n{axes}", "aside")]), place]
            rows.append(Row([*cells, _supplier(stage)]))
    return Table(list(map(Column, titles)), rows)


def _supplier(stage: StageRecord) -> Cell:
    """Cell of the table of stages: the module that supplies one, and its class; then the note."""
    words = [Words(or_dash(f"{stage.module} ({stage.class_})" if stage.module else stage.class_))]
    return Cell([*words, Words("\n"), Words(visible(stage.note), "dim")] if stage.note else words)


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
    """Names of stages of which only the first says what all begin with: layers.{i}.attention.q, .k, .v."""
    head = names[0].rpartition(".")[0]
    return [names[0], *(name.removeprefix(head) if name.startswith(f"{head}.") else name for name in names[1:])]


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
