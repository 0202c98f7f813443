"""A report's drawing apart from the program's own terminal: on Python's stdout, and in a notebook."""

from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console

from txinspect.records import Report
from txinspect.render.terminal import render
from txinspect.render.terminal.glyphs import Seen

WIDTH = 100
"""Columns of a drawing in a notebook."""


def show(report: Report, view: object | None, width: int | None) -> None:
    """Draw a report on Python's stdout, as wide as that is if no width is given."""
    _draw(report, view, Console(width=width, highlight=False))


def as_text(report: Report) -> str:
    """A report's drawing as text, for a notebook that shows no page."""
    plain = Console(file=StringIO(), width=WIDTH, highlight=False, no_color=True)
    with plain.capture() as drawn:
        _draw(report, None, plain)
    return drawn.get()


def _draw(report: Report, view: Any, console: Console) -> None:
    console.push_render_hook(Seen(console))
    render(report, console, view)
