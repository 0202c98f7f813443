"""Lists, numbers and values in a sentence, as short as a person wants them."""

from __future__ import annotations

from collections.abc import Sequence


def shown(value: object) -> str:
    """A value of any type in a sentence: on one line, and not without end."""
    line = " ".join(repr(value).split())
    return line if len(line) <= 80 else line[:79] + "…"


def one_of(names: Sequence[str]) -> str:
    """All names of a list in a sentence, of which one can be chosen."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def predicted(task: str | None) -> str:
    """The word for the tokens that a model's logits are about, by its task: next, or likeliest at their places."""
    return "likeliest" if task == "masked-lm" else "next"


def some_of(names: Sequence[str], limit: int = 3) -> str:
    """The first names of a list in a sentence, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def ranges(indices: Sequence[int]) -> str:
    """Numbers in a sentence as ranges: 0, 1, 2, 5 as 0–2, 5."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ", ".join(f"{low}" if low == high else f"{low}–{high}" for low, high in runs)


def counted(count: int, name: str) -> str:
    """A count of things in a sentence: 1 token, 2,048 tokens."""
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def short_count(count: int) -> str:
    """A count in few characters: 1234567 as 1.23M."""
    return _scaled(count, ("", "K", "M", "B", "T"))


def short_bytes(count: int) -> str:
    """Bytes in few characters: 1234567 as 1.23 MB, by powers of 1000."""
    return _scaled(count, (" B", " kB", " MB", " GB", " TB"))


def _scaled(count: int, units: Sequence[str]) -> str:
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(units) - 1:
        value, unit = value / 1000, unit + 1
    return f"{count}{units[0]}" if unit == 0 else f"{value:.3g}{units[unit]}"
