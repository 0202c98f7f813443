"""The table of `stages`: a row per stage, layers that are alike in one."""

from __future__ import annotations

import re

from rich.console import Console
from rich.table import Table
from rich.text import Text

from txinspect.commands.stages import StageRecord, StagesReport
from txinspect.render.terminal.frame import frame
from txinspect.render.terminal.glyphs import plain, ranges

WIDE = 120
"""Columns of a terminal from which the axes have a column of their own."""


def draw(report: StagesReport, console: Console) -> Table:
    """Stage, layers, axes, and the module that supplies it or the reason why none does."""
    wide = console.width >= WIDE
    table = frame()
    table.add_column("stage" if wide else "stage\naxes", overflow="fold")
    table.add_column("i", overflow="fold", max_width=16)
    if wide:
        table.add_column("axes", overflow="fold")
    table.add_column("supplied by", overflow="fold")
    for layers, stage in _folded(report.stages):
        name = plain(stage.name, "bold" if stage.available else "dim")
        axes = plain(" ".join(stage.axes or ["–"]), "dim")
        cells = [name, Text(ranges(layers)), axes] if wide else [name + Text("\n") + axes, Text(ranges(layers))]
        table.add_row(*cells, _supplier(stage))
    return table


def _supplier(stage: StageRecord) -> Text:
    """The module and its class, or the reason why there is none; then the note."""
    if not stage.available:
        return plain(stage.reason, "yellow")
    supplier = plain(f"{stage.module} ({stage.class_})" if stage.module else stage.class_)
    return supplier + Text("\n") + plain(stage.note, "dim") if stage.note else supplier


def _folded(stages: list[StageRecord]) -> list[tuple[list[int], StageRecord]]:
    """The stages with their layer's number taken out, each with the layers that it stands for."""
    groups: dict[tuple[str | None, ...], tuple[list[int], StageRecord]] = {}
    for stage in stages:
        match = re.match(r"layers\.(\d+)\.", stage.name)
        layer = match[1] if match else ""
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
