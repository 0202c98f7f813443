"""A tour from text to prediction, step after step."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.lesson import LessonReport
from txinspect.render.content import lesson as content
from txinspect.render.tables import Line, line
from txinspect.render.terminal.frame import drawn
from txinspect.render.terminal.reading import input_lines


def draw(report: LessonReport, console: Console) -> RenderableType:
    """The text, and its steps; a blank line stands between two."""
    parts: list[RenderableType] = [*input_lines(report.input)]
    for part in content.parts(report):
        if isinstance(part, Line) and content.is_title(part):
            parts.append(Text())
        parts.append(drawn(part))
    return Group(*parts)


def then(report: LessonReport, view: object | None) -> Line | None:
    """What is drawn last under the `lesson`: where to go on."""
    return line("next: txinspect help tutorial, or --step N for one step again", "dim") if report.step is None else None
