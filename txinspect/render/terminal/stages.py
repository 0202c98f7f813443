"""The table of `stages`: a row per stage, layers that are alike in one."""

from __future__ import annotations

import re

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.stages import StageRecord, StagesReport
from txinspect.render.terminal.frame import Frame, frame
from txinspect.render.terminal.glyphs import plain
from txinspect.stages import layer_of
from txinspect.wording import ranges

WIDE = 120
"""Columns of a terminal from which the axes have a column of their own."""


def draw(report: StagesReport, console: Console) -> RenderableType:
    """Stage, layers, axes, and the module that supplies it; then what is absent, each reason once."""
    wide = console.width >= WIDE
    folded = _folded(report.stages)
    table = frame()
    table.add_column("stage" if wide else "stage\naxes")
    table.add_column("i")
    if wide:
        table.add_column("axes")
    table.add_column("supplied by")
    for layers, stage in folded:
        if stage.available:
            name, axes = plain(stage.name, "bold"), plain(" ".join(stage.axes or ["–"]), "dim")
            cells = [name, Text(ranges(layers)), axes] if wide else [name + Text("\n") + axes, Text(ranges(layers))]
            table.add_row(*cells, _supplier(stage))
    absent = [(layers, stage) for layers, stage in folded if not stage.available]
    return Group(Text(), table, Text(), _absent(absent)) if absent else Group(Text(), table)


def _supplier(stage: StageRecord) -> Text:
    """The module and its class; then the note."""
    supplier = plain(f"{stage.module} ({stage.class_})" if stage.module else stage.class_)
    return supplier + Text("\n") + plain(stage.note, "dim") if stage.note else supplier


def _absent(stages: list[tuple[list[int], StageRecord]]) -> Frame:
    """The stages that the model does not have, by the reason."""
    table = frame()
    table.add_column("absent")
    table.add_column("i")
    table.add_column("because")
    by_reason: dict[tuple[str | None, str], list[str]] = {}
    for layers, stage in stages:
        by_reason.setdefault((stage.reason, ranges(layers)), []).append(stage.name)
    for (reason, layers_), names in by_reason.items():
        table.add_row(plain(", ".join(_shortened(names)), "dim"), Text(layers_), plain(reason, "yellow"))
    return table


def _shortened(names: list[str]) -> list[str]:
    """Names of which only the first says what all begin with: layers.{i}.attention.q, .k, .v."""
    head = names[0].rpartition(".")[0]
    return [names[0], *(name.removeprefix(head) if name.startswith(f"{head}.") else name for name in names[1:])]


def _folded(stages: list[StageRecord]) -> list[tuple[list[int], StageRecord]]:
    """The stages with their layer's number taken out, each with the layers that it stands for."""
    groups: dict[tuple[str | None, ...], tuple[list[int], StageRecord]] = {}
    for stage in stages:
        index = layer_of(stage.name)
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
    """A text with the layer's number, as a component of a path or after the word, replaced by {i}."""
    if text is None or not layer:
        return text
    return re.sub(rf"(?<=\.){layer}(?=\.|$)|(?<=layer ){layer}\b", "{i}", text, count=1)
