"""The figure of `logits`: how unexpected each token of the text was, and the likeliest where they were asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from txinspect.commands.logits import LogitsReport, PredictionRecord
from txinspect.render.content import logits as content
from txinspect.render.figures import paper
from txinspect.render.figures.paper import Letters
from txinspect.render.spelling import percent, token_text, visible, word

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAR = 0.14
"""Inches of a bar that lies."""

COLOUR = "#31688e"
"""Of bars: from the middle of viridis."""


@dataclass(frozen=True)
class _Part:
    """A part of the figure, under the others."""

    high: float
    """Inches."""
    draw: Callable[[Axes], None]


def draw(report: LogitsReport, letters: Letters, view: Any = None) -> Figure:
    """The text's tokens as bars that stand; below, the likeliest tokens, labels or other texts as bars that lie."""
    names, numbers = _tokens(report, letters)
    parts = [_standing(names, numbers)] if numbers else []
    asked = [each for each in report.predictions if each.top]
    shown = asked[: content.MASKS] if report.model.task == "masked-lm" else asked[-1:]
    parts += [_likeliest(report, each, letters) for each in shown]
    if report.labels:
        parts.append(_labels(report, letters))
    if report.continuations:
        parts.append(_continuations(report, letters))
    if not parts:
        return paper.nothing("no logits")
    wide = len(names) * paper.LINE > paper.COLUMN - 0.5
    figure = paper.sheet(paper.PAGE if wide else paper.COLUMN, sum(part.high for part in parts))
    grid = figure.subplots(len(parts), squeeze=False, height_ratios=[part.high for part in parts])
    for part, axes in zip(parts, grid.flat, strict=True):
        part.draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _tokens(report: LogitsReport, letters: Letters) -> tuple[list[str], list[float | None]]:
    """The tokens of the text and their surprisals in nats; None for one that is not predicted. Empty without scores."""
    if report.pseudo_score is not None:
        own = report.pseudo_score.tokens
        tokens = [token_text(report.input.tokens[each.position]) for each in own]
        numbers = [None if each.logprob is None else -each.logprob for each in own]
    else:
        scored = content.surprisals(report)
        tokens, numbers = [token for token, _ in scored], [number for _, number in scored]
    return [letters.of_text(token) for token in tokens], numbers


def _standing(names: Sequence[str], numbers: Sequence[float | None]) -> _Part:
    """Bars of surprisal, a token under each."""
    wide = len(names) * paper.LINE > paper.COLUMN - 0.5
    room = (paper.PAGE if wide else paper.COLUMN) - 0.5

    def drawn(axes: Axes) -> None:
        heights = [float("nan") if each is None else each for each in numbers]
        axes.bar([place + 0.5 for place in range(len(names))], heights, width=0.8, color=COLOUR)
        axes.set_xlim(0, len(names))
        axes.set_ylabel("surprisal (nats)")
        axes.tick_params(axis="x", length=0)
        paper.name(axes.xaxis, names, room, rotation=90)

    return _Part(1.2 + max(map(len, names)) * paper.LETTER, drawn)


def _lying(names: Sequence[str], numbers: Sequence[float | None], said: Sequence[str], title: str, what: str) -> _Part:
    """Bars that lie, the first on top, each with its name on the left and its number at its end."""

    def drawn(axes: Axes) -> None:
        lengths = [0.0 if each is None or each != each else each for each in numbers]
        axes.barh([place + 0.5 for place in range(len(names))], lengths, height=0.75, color=COLOUR)
        axes.set_ylim(len(names), 0)
        for place, (length, number) in enumerate(zip(lengths, said, strict=True)):
            axes.annotate(
                number,
                (length, place + 0.5),
                (2 if length >= 0 else -2, 0),
                textcoords="offset points",
                va="center",
                ha="left" if length >= 0 else "right",
                fontsize=paper.SMALL,
            )
        axes.margins(x=0.16)
        axes.set_title(title)
        axes.set_xlabel(what)
        axes.tick_params(axis="y", length=0)
        axes.set_yticks([place + 0.5 for place in range(len(names))], labels=list(names))

    return _Part(len(names) * BAR + 0.5, drawn)


def _likeliest(report: LogitsReport, prediction: PredictionRecord, letters: Letters) -> _Part:
    """The likeliest tokens at or after one, and those that were asked for."""
    sentence = report.input if report.model.task == "masked-lm" else report.input.main
    listed = {each.id for each in prediction.top}
    shown = [*prediction.top, *(each for each in prediction.targets if each.id not in listed)]
    shown = shown[: content.MOST]
    place = f"{prediction.position} {letters.of_text(token_text(sentence.tokens[prediction.position]))}"
    return _lying(
        [letters.of_text(word(each), 20) for each in shown],
        [each.prob for each in shown],
        [percent(each.prob) for each in shown],
        f"likeliest {'at' if report.bidirectional else 'after'} {place}",
        "probability",
    )


def _labels(report: LogitsReport, letters: Letters) -> _Part:
    """What a head that classifies gives: the labels of the text, or the likeliest of each token."""
    shown = content.shown_labels(report.labels, spans=report.model.task == "question-answering")[: content.MOST]
    tokens = report.input.main.tokens
    names = []
    for each in shown:
        place = "" if each.position is None else f"{each.position} {token_text(tokens[each.position])}: "
        names.append(letters.of_text(f"{place}{visible(each.label)}", 28))
    known = all(each.prob is not None for each in shown)
    numbers = [each.prob if known else each.logit for each in shown]
    said = [percent(each) if known else f"{each:.3g}" if each is not None else "–" for each in numbers]
    return _lying(names, numbers, said, "labels", "probability" if known else "logit")


def _continuations(report: LogitsReport, letters: Letters) -> _Part:
    """Other texts after the text, the likeliest first."""
    shown = report.continuations[: content.MOST]
    numbers = [each.logprob for each in shown]
    said = ["–" if each is None else f"{each:.3g}" for each in numbers]
    names = [letters.of_text(visible(each.text, spaces=True), 20) for each in shown]
    return _lying(names, numbers, said, "continuations", "log-probability (nats)")
