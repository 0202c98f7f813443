"""A report's drawing apart from the program's own terminal: on Python's stdout, and in a notebook."""

from __future__ import annotations

from html import escape
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


def in_notebook(report: Report) -> dict[str, str]:
    """A report's drawing by type of content: as text, and in colours in a frame that runs nothing."""
    plain = Console(file=StringIO(), width=WIDTH, highlight=False, no_color=True)
    with plain.capture() as drawn:
        _draw(report, None, plain)
    coloured = Console(file=StringIO(), width=WIDTH, record=True, highlight=False, color_system="truecolor")
    _draw(report, None, coloured)
    page = coloured.export_html(inline_styles=True)
    style = f"width:100%;border:0;height:{(drawn.get().count(chr(10)) + 2) * 1.3:.0f}em"
    frame = f'<iframe sandbox srcdoc="{escape(page)}" style="{style}"></iframe>'
    return {"text/plain": drawn.get(), "text/html": frame}


def _draw(report: Report, view: Any, console: Console) -> None:
    console.push_render_hook(Seen(console))
    render(report, console, view)
