"""Why the model says what it says, on one screen: the prediction, the parts that wrote it, whether it is so."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType

from txinspect.commands.why import WhyReport
from txinspect.render.content import why as content
from txinspect.render.tables import Line, Table
from txinspect.render.terminal import tensors
from txinspect.render.terminal.frame import Frame, drawn
from txinspect.render.terminal.reading import input_lines


def draw(report: WhyReport, console: Console, view: object | None = None) -> RenderableType:
    """The story from the prediction to whether ablation confirms it."""
    shown = [Frame(each) if isinstance(each, Table) else drawn(each) for each in content.parts(report)]
    return Group(*input_lines(report.input), *shown, *tensors.extras(report, console.width))


def found(report: WhyReport) -> list[Line]:
    """What `why` found, in lines."""
    return [content.finding(report), *list(content.without(report))[-1:]]
