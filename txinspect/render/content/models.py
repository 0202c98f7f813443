"""What stands in the table of `models`: a row per model that needs no network."""

from __future__ import annotations

from txinspect.commands.models import AvailableModelRecord, ModelsReport
from txinspect.render.spelling import or_dash, visible
from txinspect.render.tables import Cell, Column, Row, Table, cell, numbers
from txinspect.wording import short_bytes

FROM = {"bundled": "comes with txinspect", "cache": "local cache"}
"""Where a model is, in words."""

OTHERS = "your own: -m DIR, a .gguf file or a Hub id"
"""What else a command takes for a model."""


def models(report: ModelsReport, *, folders: bool) -> Table:
    """The table of models: name, type, layers, size of the weights that are here, and where they are."""
    places = [Column("from"), *([Column("folder")] if folders else [])]
    columns = [Column("model"), Column("type"), *numbers("layers", "weights"), *places]
    return Table(columns, [Row(_cells(model)[: len(columns)]) for model in report.models])


def _cells(model: AvailableModelRecord) -> list[Cell]:
    return [
        cell(visible(model.name), "strong"),
        cell(or_dash(model.model_type)),
        cell(or_dash(None if model.layers is None else str(model.layers)), value=model.layers),
        cell(or_dash(None if model.bytes is None else short_bytes(model.bytes)), value=model.bytes),
        cell(FROM[model.origin]),
        cell(or_dash(model.path), "dim"),
    ]
