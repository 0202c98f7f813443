"""The two texts that `diff` compares, under each other, with the words marked that differ."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from txinspect.commands.diff import DiffReport
from txinspect.render.content import two_texts as content
from txinspect.render.content.two_texts import MarkedText
from txinspect.render.spelling import visible
from txinspect.render.tables import Words
from txinspect.render.terminal.tones import text

LEAD = 24
"""Characters before the first word that differs, in texts that do not fit; a quarter of a narrow line."""

WRAPPED = 10
"""Lines of a text where everything is drawn; else one."""


def two_texts(report: DiffReport, console: Console, *, everything: bool) -> list[Text]:
    """The texts of both sides of `diff`, and how many of their tokens are aligned; nothing where there is one text."""
    columns = console.width * (WRAPPED if everything else 1)
    lines = [each for both in content.marked(report) for each in _drawn(both, columns)]
    said = content.aligned(report)
    return [*lines, text(said.words)] if said else lines


def _drawn(both: tuple[MarkedText, MarkedText], columns: int) -> Iterator[Text]:
    """Two texts under each other, both from the same place on where they do not fit."""
    begin = 0
    if any(_width(each, columns) > columns for each in both):
        lead = min(LEAD, (columns - cell_len(both[0].label)) // 4)
        begin = min((_before_first(each, lead) for each in both if each.marks), default=0)
    for each in both:
        room = columns - cell_len(each.label)
        shown = text(_words(each, begin, begin + columns))
        shown.truncate(max(room, 1), overflow="ellipsis")
        yield Text.assemble((each.label, "dim"), shown)


def _width(marked: MarkedText, limit: int) -> int:
    """Columns that one of two texts takes; of a text that is longer than the limit, no more than is sure."""
    if len(marked.text) > limit:
        return limit + 1
    return cell_len(marked.label) + cell_len(visible(marked.text)) + 2 * len(marked.marks)


def _before_first(marked: MarkedText, lead: int) -> int:
    """Where one of two texts that do not fit begins: at a word some characters before the first that differs."""
    first = marked.marks[0][0]
    begin = max(0, first - lead)
    word = re.compile(r"\s\b").search(marked.text, begin, first) if begin else None
    return word.end() if word else begin


def _words(marked: MarkedText, begin: int, end: int) -> list[Words]:
    """One of two texts from one character to another, in words that are marked and words that are not."""
    words = [Words("…", "dim")] if begin else []
    reached = begin
    for start, stop in marked.marks:
        if start >= end:
            break
        if stop > begin:
            differing = visible(marked.text[max(start, begin) : min(stop, end)])
            words.append(Words(visible(marked.text[reached : max(start, begin)]), "text"))
            words.append(Words(f"[{differing}]", "marked"))
            reached = min(stop, end)
    words.append(Words(visible(marked.text[reached:end]), "text"))
    return [*words, Words("…", "dim")] if end < len(marked.text) else words
