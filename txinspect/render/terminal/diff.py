"""The tables of `diff`."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.command import Detailed
from txinspect.commands.diff import DiffReport
from txinspect.render.content import diff as content
from txinspect.render.tables import Line, Tone
from txinspect.render.terminal import tensors
from txinspect.render.terminal.frame import Frame, drawn
from txinspect.render.terminal.reading import input_lines
from txinspect.render.terminal.two_texts import two_texts


def then(report: DiffReport, view: Detailed | None) -> Line | None:
    """What is drawn last under the tables of `diff`: what was left out."""
    return None if view is not None and view.table else content.more(report)


def tone(report: DiffReport) -> Tone:
    """The tone of the line that says where the sides part, which may be what one hoped for."""
    return content.tone(report)


def draw(report: DiffReport, console: Console, view: Detailed = Detailed()) -> RenderableType:
    """The finding, the stages, the predictions."""
    gap = [Text()] if view.table else []
    parts: list[RenderableType] = [*map(drawn, content.against(report))]
    both = two_texts(report, console, everything=view.table)
    parts += [*(both or input_lines(report.input)), *gap]
    parts += [Frame(content.stages(report, everything=view.table)), drawn(content.tolerance(report))]
    changed = content.changed(report) if view.table else content.first_changed(report)
    for part in (content.predictions(report), changed):
        parts += [*gap, drawn(part)] if part else []
    return Group(*parts, *map(drawn, content.only(report)), *tensors.checked(report.checks))
