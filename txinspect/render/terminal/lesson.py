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
    """The text, where the first step is shown, and the steps; a blank line stands between two."""
    parts: list[RenderableType] = [*input_lines(report.input)] if report.step in (None, 1) else []
    for part in content.parts(report):
        if report.step is None and isinstance(part, Line) and content.is_title(part):
            parts.append(Text())
        parts.append(drawn(part))
    return Group(*parts)


def then(report: LessonReport, view: object | None) -> Line | None:
    """What is drawn last under the `lesson`: where to go on."""
    return line("next: txinspect help tutorial, or --step N for one step again", "dim") if report.step is None else None
