"""The table of `models`: a row per model that needs no network."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.models import ModelsReport
from txinspect.render.terminal.frame import frame
from txinspect.render.terminal.glyphs import plain
from txinspect.wording import short_bytes

WIDE = 120
"""Columns of a terminal from which the folders have a column of their own."""

FROM = {"bundled": "comes with txinspect", "cache": "local cache"}
"""Where a model is, in words."""

OTHERS = "your own: -m DIR, a .gguf file or a Hub id"
"""What else a command takes for a model."""


def draw(report: ModelsReport, console: Console) -> RenderableType:
    """Name, type, layers, size of the weights that are here, and where they are."""
    wide = console.width >= WIDE
    table = frame()
    table.add_column("model")
    table.add_column("type")
    for name in ("layers", "weights"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("from", "folder") if wide else ("from",):
        table.add_column(name)
    for model in report.models:
        layers = plain(None if model.layers is None else str(model.layers))
        where = [plain(FROM[model.origin])] + [plain(model.path, "dim")] * wide
        size = plain(None if model.bytes is None else short_bytes(model.bytes))
        table.add_row(plain(model.name, "bold"), plain(model.model_type), layers, size, *where)
    return Group(table, Text(), Text(OTHERS))
