"""Records → Rich tables and heatmaps: the only rooms that draw. A command's drawing is in the file of its name."""

from __future__ import annotations

from importlib import import_module

from rich.console import Console

from txinspect.records import ModelReport, Report, TensorsReport
from txinspect.render.content import heading
from txinspect.render.spelling import visible
from txinspect.render.tables import Tone, line
from txinspect.render.terminal.frame import drawn


def render(report: Report, console: Console, view: object | None = None) -> None:
    """Draw any report on a console; `view` is the command's record of options that shape the drawing, or None.

    The model in a line where there is one, what was found, the drawing of the report's command, the other notes, what
    was read, of a command that has a `then(report, view)` what to try next, and what was saved. Findings are bad news
    unless a command's `tone(report)` says otherwise.
    """
    drawing = import_module(f"{__name__}.{report.command}")
    findings: list[str] = getattr(report, "findings", [])
    if isinstance(report, ModelReport):
        console.print(drawn(heading.model(report.model)))
    tone: Tone = drawing.tone(report) if hasattr(drawing, "tone") else "bad"
    for sentence in findings:
        console.print(drawn(line(visible(sentence), tone)))
    console.print(drawing.draw(report, console) if view is None else drawing.draw(report, console, view))
    for sentence in report.notes[len(findings) :]:
        console.print(drawn(line(visible(sentence), "warning")))
    if isinstance(report, TensorsReport):
        console.print(drawn(heading.loading(report.loading)))
    if hasattr(drawing, "then") and (said := drawing.then(report, view)):
        console.print(drawn(said))
    if saved := getattr(report, "saved", None):
        console.print(drawn(heading.saved(saved, replaced=getattr(report, "replaced", False))))
