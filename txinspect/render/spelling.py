"""Text and numbers as a person sees them: nothing invisible, nothing that a terminal would obey."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from txinspect.records import TokenRecord, VocabularyRecord
from txinspect.wording import short_bytes

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


def token_text(token: TokenRecord) -> str:
    """A token as every drawing spells it: its text with visible spaces, or its bytes."""
    if token.text is None:
        return "–" if token.bytes is None else f"<{token.bytes}>"
    return visible(token.text, spaces=True)


def word(token: VocabularyRecord) -> str:
    """A token of the vocabulary as every drawing spells it; a row of the logits that stands for none by its number."""
    shown = token.token if token.text is None else token.text
    return f"row {token.id}" if shown is None else visible(shown, spaces=True)


def number(value: float | None, digits: int = 4) -> str:
    """A number spelled with so many significant digits; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}g}"


def sparkline(counts: Sequence[int]) -> str:
    """A sparkline spelled with a bar per count, the highest full; zero is a blank, a small count still a bar."""
    top = max(counts, default=0)
    return "".join(" " if not count else _BARS[-(-count * len(_BARS) // top) - 1] for count in counts)


def percent(probability: float | None) -> str:
    """A probability between 0 and 1 spelled in percent as a person reads it."""
    if probability is None or probability != probability:
        return "–"
    if 0 < probability < 0.0005:
        return f"{probability * 100:.1g}%"
    return f"{probability:.1%}"


def rank(place: int | None) -> str:
    """A rank as a person sees it; a dash where there is none."""
    return "–" if place is None else f"{place:,}"


def or_dash(text: str | None) -> str:
    """A name or a path spelled visibly; a dash where there is none."""
    return "–" if text is None else visible(text)


def known_bytes(count: int | None) -> str:
    """A size in bytes spelled in a few characters; a question mark where it is not known."""
    return "?" if count is None else short_bytes(count)
