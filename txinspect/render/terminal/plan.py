"""The drawing of `plan`: what loading would cost."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.plan import PlanReport
from txinspect.render.content import heading
from txinspect.render.content import plan as content
from txinspect.render.terminal.frame import Frame, drawn
from txinspect.render.terminal.reading import input_lines


def draw(report: PlanReport, console: Console) -> RenderableType:
    """The files that would be opened, and the sums; the same of the other side of a diff."""
    parts = [*input_lines(report.input), Text(), *_side(report)]
    if report.against is not None:
        parts += [Text(), drawn(heading.against(report.against.model)), Text()]
        parts += _side(report.against)
    return Group(*parts)


def _side(report: PlanReport) -> list[RenderableType]:
    return [Frame(content.files(report)), Text(), Frame(content.sums(report))]
