"""Text and numbers as a person sees them: nothing invisible, nothing that a terminal would obey."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.segment import Segment
from rich.text import Text

from txinspect.records import TokenRecord, VocabularyRecord

_BARS = "▁▂▃▄▅▆▇█"

_NAMED = {"\n": "↵", "\t": "⇥", "\r": "␍", "\x7f": "␡"}

_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories of controls, format characters (such as right-to-left marks) and unassigned code points."""


def visible(text: str, *, spaces: bool = False) -> str:
    """A text with every character that would not show, or would steer the terminal, as a picture or an escape."""
    if text.isascii() and text.isprintable():
        return text.replace(" ", "␣") if spaces else text
    return "".join(_picture(character, spaces) for character in text)


def _picture(character: str, spaces: bool) -> str:
    if spaces and character == " ":
        return "␣"
    if character in _NAMED:
        return _NAMED[character]
    if character < " ":
        return chr(0x2400 + ord(character))
    if unicodedata.category(character) in _UNSEEN:
        return f"\\u{{{ord(character):x}}}"
    return character


class Seen(RenderHook):
    """What a console draws, with nothing in its texts that a terminal would obey, wherever they are from."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """What is drawn in the place of these."""
        return [_Seen(self.console, each) for each in renderables]


@dataclass(frozen=True)
class _Seen:
    console: Console
    drawn: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.drawn, options):
            lines = segment.text.split("\n")
            yield Segment("\n".join(map(visible, lines)), segment.style, segment.control)


def plain(text: str | None, style: str = "") -> Text:
    """A text that Rich takes as it is: names and paths may hold brackets, which it would read as markup."""
    return Text("–" if text is None else visible(text), style=style)


def token_text(token: TokenRecord) -> str:
    """A token as every drawing spells it: its text with visible spaces, or its bytes."""
    return f"<{token.bytes}>" if token.text is None else visible(token.text, spaces=True)


def word(token: VocabularyRecord) -> str:
    """A token of the vocabulary as every drawing spells it; a row of the logits that stands for none by its number."""
    shown = token.token if token.text is None else token.text
    return f"row {token.id}" if shown is None else visible(shown, spaces=True)


def fitted(text: str, width: int) -> str:
    """A text in so many columns of a terminal, with a sign where it was cut."""
    return set_cell_size(text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…", width)


def number(value: float | None, digits: int = 4) -> str:
    """So many significant digits; a dash where there is no number."""
    return "–" if value is None else f"{value:.{digits}g}"


def sparkline(counts: Sequence[int]) -> str:
    """A bar per count, the highest full; a count of zero is a blank, a small one still a bar."""
    top = max(counts, default=0)
    return "".join(" " if not count else _BARS[-(-count * len(_BARS) // top) - 1] for count in counts)


def bar(value: float, top: float, width: int) -> str:
    """A horizontal bar of at most `width` cells."""
    if not top or not isfinite(value):
        return ""
    eighths = round(value / top * width * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")
