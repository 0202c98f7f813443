"""The tables of `logits`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.command import Theme, Themed
from txinspect.commands.logits import LogitsReport
from txinspect.render.content import logits as content
from txinspect.render.spelling import number
from txinspect.render.tables import Line
from txinspect.render.terminal import colours, tensors
from txinspect.render.terminal.frame import Frame, drawn
from txinspect.render.terminal.reading import input_lines

LEVELS = "▁▂▃▄▅▆▇█"

BAR = 20
"""Columns for the bar of a probability at most."""


ROWS, FEWER = 2, 1
"""Rows of tokens of a text on the first screen, and where the text itself takes more than two lines."""


def draw(report: LogitsReport, console: Console, view: Themed = Themed()) -> RenderableType:
    """The finding, the text by its surprisals or token by token, the tables, the score."""
    theme = view.theme if colours.has_colours(console) else None
    bars = min(BAR, max(4, console.width - 58))
    parts: list[RenderableType] = [*input_lines(report.input), *map(drawn, content.findings(report))]
    for table, score in content.tables(report, _most(view), everything=view.table):
        parts += [Text(), Frame(table, bars), *([drawn(score)] if score else [])]
    if report.text_score is not None and not view.table:
        parts += [Text(), *_strip(report, console, theme), drawn(content.score(report))]
    return Group(*parts, *tensors.extras(report, console.width))


def found(report: LogitsReport) -> Iterator[Line]:
    """What `logits` found, in lines."""
    return content.findings(report)


def then(report: LogitsReport, view: Themed | None) -> Line | None:
    """What is drawn last under the tables of `logits`: what was left out."""
    view = view or Themed()
    return None if view.table else content.more(report, _most(view))


def _most(view: Themed) -> int | None:
    """How many of the likeliest tokens the terminal lists for `logits`; None for all that are reported."""
    return None if view.table or "top_k" in view.given else content.FIRST


def _strip(report: LogitsReport, console: Console, theme: Theme | None) -> Iterator[Text]:
    """Draw the strip of `logits`: the text, and how surprising each token was."""
    found = content.surprisals(report)
    top = max((each for _, each in found if each is not None and isfinite(each)), default=0.0)
    rows = list(_rows([cell_len(token) for token, _ in found], console.width))
    shown = rows[: FEWER if len(report.input.text) > 2 * console.width else ROWS]
    title = Text("surprisal of each token ", style="dim")
    if theme is None:
        title.append(f"▁ 0 to █ {number(top, 3)} nats")
    else:
        title.append_text(colours.legend(theme, most=number(top, 3))).append(" nats", style="dim")
    if len(rows) > len(shown):
        title.append(f"; the first {shown[-1].stop} of {len(found)} tokens", style="dim")
    yield title
    for row in shown:
        tokens = [found[index] for index in row]
        yield from _barred(tokens, top) if theme is None else [_coloured(tokens, top, theme)]


def _coloured(tokens: Sequence[tuple[str, float | None]], top: float, theme: Theme) -> Text:
    """Draw tokens of the strip on the colours of their surprisals; a token that nobody foresaw on none."""
    line = Text(no_wrap=True, overflow="crop")
    for token, surprisal in tokens:
        if surprisal is None:
            line.append(token, style="dim")
        elif not isfinite(surprisal):
            line.append(token, style="bold red")
        else:
            line.append_text(colours.on_colour(token, surprisal / top if top else 0.0, theme))
        line.append(" ")
    line.rstrip()
    return line


def _barred(tokens: Sequence[tuple[str, float | None]], top: float) -> Iterator[Text]:
    """Draw tokens of the strip, and under each a bar of its surprisal."""
    words, levels = Text(no_wrap=True, overflow="crop"), Text(no_wrap=True, overflow="crop", style="cyan")
    for token, surprisal in tokens:
        words.append(token + " ")
        levels.append(_level(surprisal, top).ljust(cell_len(token) + 1))
    for line in (words, levels):
        line.rstrip()
        yield line


def _rows(widths: Sequence[int], most: int) -> Iterator[range]:
    """Tokens that are drawn in a row of the strip of surprisals together, with a blank after each."""
    start, used = 0, 0
    for index, width in enumerate(widths):
        if used + width + 1 > most and index > start:
            yield range(start, index)
            start, used = index, 0
        used += width + 1
    yield range(start, len(widths))


def _level(surprisal: float | None, top: float) -> str:
    """The drawn height of a token's surprisal in the strip; nothing for a token that nobody foresaw."""
    if surprisal is None:
        return ""
    if not isfinite(surprisal):
        return "!"
    return LEVELS[min(len(LEVELS) - 1, int(surprisal / top * len(LEVELS)))] if top else LEVELS[0]
