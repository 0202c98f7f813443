"""Records → figures for a slide or a paper, drawn by matplotlib: a command's is in the file of its name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from txinspect.records import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = ("attn", "heads", "lens", "logits", "diff", "params")
"""The commands whose reports have a figure."""

Kind = Literal["pdf", "svg", "png"]


def figure(report: Report, kind: Kind, view: Any = None) -> bytes:
    """A report's figure as a file of a kind, the same bytes each time. Raises ImportError without matplotlib."""
    from txinspect.render.figures import paper

    with paper.style():
        return paper.saved(_drawn(report, kind, view), kind)


def drawn(report: Report, kind: Kind = "pdf", view: Any = None) -> Figure:
    """A report's figure before it is a file: its lines, cells and words can be read from it."""
    from txinspect.render.figures import paper

    with paper.style():
        return _drawn(report, kind, view)


def _drawn(report: Report, kind: Kind, view: Any) -> Figure:
    from txinspect.render.figures import paper

    drawing = import_module(f"{__name__}.{report.command}")
    made: Figure = drawing.draw(report, paper.Letters.of(kind), view)
    return made
