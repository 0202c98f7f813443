"""How the tones of words look in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from txinspect.render.tables import Tone, Words

STYLES: dict[Tone, str] = {
    "plain": "",
    "strong": "bold",
    "dim": "dim",
    "aside": "bold dim",
    "name": "bold cyan",
    "supplier": "bold dim cyan",
    "figure": "cyan",
    "token": "green",
    "text": "italic",
    "found": "bold green",
    "good": "green",
    "bad": "bold red",
    "warning": "yellow",
    "marked": "magenta",
    "times": "bold magenta",
}


def text(words: Sequence[Words]) -> Text:
    """Words in the styles of their tones, as a terminal shows them."""
    if len(words) == 1:
        return Text(words[0].text, style=STYLES[words[0].tone])
    return Text().join(Text(each.text, style=STYLES[each.tone]) for each in words)
