"""The drawing of `embed`: other texts by how alike they are, then the tensors."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.command import Detailed
from txinspect.commands.embed import EmbedReport
from txinspect.render.content import embed as content
from txinspect.render.terminal import tensors
from txinspect.render.terminal.frame import Frame
from txinspect.render.terminal.reading import input_lines
from txinspect.render.terminal.tensors import then

__all__ = ["draw", "then"]


def draw(report: EmbedReport, console: Console, view: Detailed = Detailed()) -> RenderableType:
    """The other texts, the most alike first; then the tensors."""
    if not report.similar:
        return tensors.draw(report, console, view)
    parts = [*input_lines(report.input), Text(), Frame(content.similar(report)), Text()]
    return Group(*parts, tensors.table(report.tensors, console.width), *tensors.extras(report, console.width))
