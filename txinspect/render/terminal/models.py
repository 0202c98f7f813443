"""The table of `models`."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.models import ModelsReport
from txinspect.render.content import models as content
from txinspect.render.terminal.frame import Frame

WIDE = 120
"""Columns of a terminal from which the folders have a column of their own."""


def draw(report: ModelsReport, console: Console) -> RenderableType:
    """The models, then what else can be one."""
    return Group(Frame(content.models(report, folders=console.width >= WIDE)), Text(), Text(content.OTHERS))
