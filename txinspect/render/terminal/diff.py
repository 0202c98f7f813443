"""The tables of `diff`."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.diff import DiffReport
from txinspect.render.content import diff as content
from txinspect.render.terminal import tensors
from txinspect.render.terminal.frame import Frame, drawn
from txinspect.render.terminal.glyphs import plain
from txinspect.render.terminal.heading import input_lines, model_line

FINDINGS = "bold green"
"""Style of the line that says where the sides part, which may be what one hoped for."""


def draw(report: DiffReport, console: Console) -> RenderableType:
    """The finding, the stages, the predictions."""
    parts: list[RenderableType] = []
    if report.against is not None:
        parts.append(Text("against ", style="bold").append_text(model_line(report.against)))
    if report.given is not None and report.way != "against":
        what = report.way.removeprefix("against_")
        parts.append(Text(f"against {what} ", style="bold").append_text(plain(report.given, "italic not bold")))
    parts += [*input_lines(report.input), Text(), Frame(content.stages(report)), drawn(content.tolerance(report))]
    for part in (content.predictions(report), content.changed(report)):
        parts += [Text(), drawn(part)] if part else []
    return Group(*parts, *map(drawn, content.only(report)), *tensors.checked(report.checks))
