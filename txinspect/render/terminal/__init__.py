"""Records → Rich tables and heatmaps: the only rooms that draw. A command's drawing is in the file of its name."""

from __future__ import annotations

from importlib import import_module

from rich.console import Console

from txinspect.records import ModelReport, Report
from txinspect.render.terminal import heading


def render(report: Report, console: Console, view: object | None = None) -> None:
    """Draw a report on a console; `view` is the command's record of options that shape the drawing, None for all off.

    The model in a line where there is one, the drawing of the report's command, then the notes.
    """
    draw = import_module(f"{__name__}.{report.command}").draw
    if isinstance(report, ModelReport):
        console.print(heading.model_line(report.model))
    console.print(draw(report, console) if view is None else draw(report, console, view))
    for note in report.notes:
        console.print(heading.note(note))
