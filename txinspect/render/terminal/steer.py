"""A vector that was made, and its size; or what is generated with one added, scale by scale."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.command import Themed
from txinspect.commands.steer import SteerReport
from txinspect.render.content import steer as content
from txinspect.render.tables import Line
from txinspect.render.terminal import tensors
from txinspect.render.terminal.frame import Frame, drawn
from txinspect.render.terminal.reading import input_lines

BEFORE = 38
"""Columns of a terminal in front of what is generated."""


def draw(report: SteerReport, console: Console, view: Themed = Themed()) -> RenderableType:
    """The finding, how the vector was made or where it is added, and the table of vectors or of tries."""
    parts: list[RenderableType] = [*input_lines(report.input), drawn(content.finding(report))]
    parts += [drawn(content.how(report)), Text()]
    if report.tries:
        width = None if view.table else max(10, console.width - BEFORE)
        parts.append(Frame(content.tries(report, width)))
    else:
        parts.append(Frame(content.vectors(report, None if view.table else content.FIRST)))
    if (use := content.use(report)) is not None:
        parts.append(drawn(use))
    return Group(*parts, *tensors.extras(report, console.width))


def found(report: SteerReport) -> list[Line]:
    """What `steer` found, in a line."""
    return [content.finding(report)]
