"""Records → Rich tables and heatmaps: the only rooms that draw. A command's drawing is in the file of its name."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from rich.console import Console

from txinspect.records import ModelReport, Report, TensorsReport
from txinspect.render.content import heading
from txinspect.render.spelling import visible
from txinspect.render.tables import Line, Tone, line
from txinspect.render.terminal.frame import drawn


def render(report: Report, console: Console, view: object | None = None) -> None:
    """Draw any report on a console; `view` is the command's record of options that shape the drawing, or None.

    The model in a line where there is one, what was found, the drawing of the report's command, the other notes, what
    was read, of a command that has a `then(report, view)` what to try next, and what was saved.
    """
    drawing = _drawing(report)
    if getattr(view, "alone", False):
        console.print(drawing.draw(report, console, view), soft_wrap=True)
        return
    findings: list[str] = getattr(report, "findings", [])
    if isinstance(report, ModelReport):
        console.print(drawn(heading.model(report.model)))
    for said in _findings(report):
        console.print(drawn(said))
    console.print(drawing.draw(report, console) if view is None else drawing.draw(report, console, view))
    for sentence in report.notes[len(findings) :]:
        console.print(drawn(line(visible(sentence), "warning")))
    if isinstance(report, TensorsReport):
        console.print(drawn(heading.loading(report.loading)))
    if hasattr(drawing, "then") and (last := drawing.then(report, view)):
        console.print(drawn(last))
    if saved := getattr(report, "saved", None):
        console.print(drawn(heading.saved(saved, replaced=getattr(report, "replaced", False))))


def finding(report: Report) -> list[Line]:
    """What a report's drawing says on top, for a terminal that shows the drawing's end alone.

    A command's `found(report)`, or the first of the findings; nothing of a report that is its rows.
    """
    drawing = _drawing(report)
    return list(drawing.found(report)) if hasattr(drawing, "found") else _findings(report)[:1]


def _findings(report: Report) -> list[Line]:
    """The findings of a report as lines: bad news, unless a command's `tone(report)` says otherwise."""
    drawing = _drawing(report)
    tone: Tone = drawing.tone(report) if hasattr(drawing, "tone") else "bad"
    return [line(visible(sentence), tone) for sentence in getattr(report, "findings", [])]


def _drawing(report: Report) -> ModuleType:
    """The file that draws reports of a command."""
    return import_module(f"{__name__}.{report.command}")
