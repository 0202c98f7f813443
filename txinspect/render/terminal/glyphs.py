"""What a terminal alone needs of texts: nothing in them that it would obey, so many columns, bars."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.segment import Segment

from txinspect.render.spelling import visible


class Seen(RenderHook):
    """What a console draws, with nothing in its texts that a terminal would obey, wherever they are from."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """What a terminal is given in the place of these, without anything in their texts that it would obey."""
        return [_Seen(self.console, each) for each in renderables]


@dataclass(frozen=True)
class _Seen:
    console: Console
    drawn: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.drawn, options):
            lines = segment.text.split("\n")
            yield Segment("\n".join(map(visible, lines)), segment.style, segment.control)


def fitted(text: str, width: int) -> str:
    """A text cut to so many columns of a terminal, with a sign where it was cut."""
    return set_cell_size(text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…", width)


def bar(value: float, top: float, width: int) -> str:
    """A horizontal bar of at most `width` columns of a terminal."""
    if not top or not isfinite(value):
        return ""
    eighths = round(value / top * width * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")
