"""Records → Rich tables and heatmaps: the only room that draws."""

from __future__ import annotations

from rich.console import Console

from txinspect.records import (
    AttnReport,
    PlanReport,
    Report,
    StagesReport,
    TensorsReport,
    TokenizeReport,
    TreeReport,
)
from txinspect.render import attention, heading, loading, stages, tensors, tokens, tree


def render(
    report: Report, console: Console, *, depth: int | None = None, expand: bool = False, params: bool = False
) -> None:
    """Draw a report on a console; `depth`, `expand` and `params` shape the module tree."""
    console.print(heading.model_line(report.model))
    match report:
        case TokenizeReport():
            console.print(tokens.draw(report.input))
        case TreeReport():
            console.print(tree.draw(report, console.width, depth=depth, expand=expand, params=params))
        case StagesReport():
            console.print(stages.draw(report, console.width))
        case PlanReport():
            console.print(loading.draw(report))
        case AttnReport():
            console.print(tensors.draw(report, console.width))
            if report.heads:
                console.print(attention.draw(report, console))
        case TensorsReport():
            console.print(tensors.draw(report, console.width))
    if isinstance(report, TensorsReport):
        console.print(loading.line(report.loading))
    for note in report.notes:
        console.print(heading.note(note))
