"""The tables of `diff`."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.diff import DiffReport
from txinspect.render.content import diff as content
from txinspect.render.tables import Tone
from txinspect.render.terminal import tensors
from txinspect.render.terminal.frame import Frame, drawn
from txinspect.render.terminal.reading import input_lines

FINDINGS: Tone = "found"
"""Tone of the line that says where the sides part, which may be what one hoped for."""


def draw(report: DiffReport, console: Console) -> RenderableType:
    """The finding, the stages, the predictions."""
    parts: list[RenderableType] = [*map(drawn, content.against(report)), *input_lines(report.input), Text()]
    parts += [Frame(content.stages(report)), drawn(content.tolerance(report))]
    for part in (content.predictions(report), content.changed(report)):
        parts += [Text(), drawn(part)] if part else []
    return Group(*parts, *map(drawn, content.only(report)), *tensors.checked(report.checks))
