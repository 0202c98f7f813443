"""What comes next: in a line, then the likeliest tokens, how likely the text was, and other texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp, isnan

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.logits import LabelRecord, LogitsReport, PredictionRecord, PseudoScoreRecord, ScoredRecord
from txinspect.records import SentenceRecord
from txinspect.render.terminal import tensors
from txinspect.render.terminal.frame import Frame, frame
from txinspect.render.terminal.glyphs import bar, number, plain, token_text, visible, word
from txinspect.render.terminal.heading import input_lines
from txinspect.wording import counted

BAR = 20
"""Columns for the bar of a probability at most."""

MOST = 40
"""Tokens of a text that are listed; of a longer one the least expected."""

LEAST_EXPECTED = 15

MASKS = 4
"""Masks that are told in a line each."""

ENDS = 5
"""Tokens that are listed for each end of an answer."""


def draw(report: LogitsReport, console: Console) -> RenderableType:
    """The finding, the tables, the score."""
    columns = min(BAR, max(4, console.width - 58))
    parts: list[RenderableType] = [*input_lines(report.input), *_findings(report)]
    for prediction in report.predictions:
        if prediction.top:
            parts += [Text(), _likeliest(report, prediction, columns)]
    if report.labels:
        parts += [Text(), _labels(report, columns)]
    if report.pseudo_score is not None:
        parts += [
            Text(),
            _masked(report, report.pseudo_score, columns),
            Text(_pseudo(report.pseudo_score), style="bold"),
        ]
    if report.text_score is not None:
        parts += [Text(), _text(report, columns), Text(_score(report), style="bold")]
    if report.continuations:
        parts += [Text(), _continuations(report)]
    return Group(*parts, *tensors.extras(report, console.width))


def percent(probability: float | None) -> str:
    """A probability between 0 and 1 as a person reads it."""
    if probability is None or probability != probability:
        return "–"
    if 0 < probability < 0.0005:
        return f"{probability * 100:.1g}%"
    return f"{probability:.1%}"


def rank(place: int | None) -> str:
    """A rank; a dash where there is none."""
    return "–" if place is None else f"{place:,}"


def _findings(report: LogitsReport) -> Iterator[Text]:
    """What comes after the last token that was asked for, or what belongs at the masks, in a line each."""
    asked = [each for each in report.predictions if each.top]
    if not asked:
        return
    yield from (_finding(report, each) for each in (asked[:MASKS] if report.model.task == "masked-lm" else asked[-1:]))
    last = asked[-1]
    if last.targets:
        said = ", ".join(f"{word(each)} {percent(each.prob)} (rank {rank(each.rank)})" for each in last.targets)
        yield Text(said, style="bold")
    if len(report.continuations) > 1:
        best, second = report.continuations[:2]
        apart = (best.logprob or 0.0) - (second.logprob or 0.0)
        yield Text(
            f"{visible(best.text, spaces=True)} is likelier than {visible(second.text, spaces=True)} by ", "bold"
        ).append(f"{number(apart, 3)} nats", "bold")


def _finding(report: LogitsReport, prediction: PredictionRecord) -> Text:
    """What the model gives at or after one token, in a line."""
    first, *others = prediction.top
    what = "likeliest at" if report.bidirectional else "next after"
    place = token_text(_about(report).tokens[prediction.position])
    line = Text(f"{what} {prediction.position} {place}: ", style="bold")
    if first.prob is not None and isnan(first.prob):
        return line.append("nothing: not all of its logits are numbers", style="bold red")
    line.append(f"{word(first)} {percent(first.prob)}", style="bold green")
    if others:
        line.append(f", then {word(others[0])} {percent(others[0].prob)}", style="bold")
    return line.append(f"; entropy {number(prediction.entropy, 3)} nats", style="dim")


def _about(report: LogitsReport) -> SentenceRecord:
    """The text whose tokens the positions count."""
    return report.input if report.model.task == "masked-lm" else report.input.main


def _labels(report: LogitsReport, columns: int) -> Frame:
    """The labels of the text, the likeliest first; of tokens the likeliest label of each; an answer's ends."""
    of_tokens = report.labels[0].position is not None
    spans = report.model.task == "question-answering"
    table = frame()
    for name in ("index", "token") if of_tokens else ():
        table.add_column(name, justify="right" if name == "index" else "left", no_wrap=True)
    table.add_column("label")
    for name in ("logit", "probability"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for each in _shown_labels(report.labels, spans=spans):
        place = (
            [] if each.position is None else [str(each.position), token_text(report.input.main.tokens[each.position])]
        )
        long = Text(bar(each.prob or 0.0, 1.0, columns), style="cyan")
        table.add_row(*place, plain(each.label, "green"), number(each.logit), percent(each.prob), long)
    return table


def _shown_labels(labels: Sequence[LabelRecord], *, spans: bool) -> list[LabelRecord]:
    """What a table has room for."""
    ordered = sorted(labels, key=lambda each: -(each.prob or 0.0))
    if spans:
        return [each for label in ("start", "end") for each in [one for one in ordered if one.label == label][:ENDS]]
    if labels[0].position is None:
        return ordered[:MOST]
    best = {each.position: each for each in reversed(ordered)}
    return [best[position] for position in sorted(best, key=lambda index: index or 0)]


def _masked(report: LogitsReport, score: PseudoScoreRecord, columns: int) -> Frame:
    """Each token as the model gives it where it is masked."""
    shown, title = score.tokens, "each token masked in turn"
    if len(shown) > MOST:
        worst = sorted(shown, key=lambda each: each.logprob or 0.0)[:LEAST_EXPECTED]
        shown = sorted(worst, key=lambda each: each.position)
        title = f"the {len(shown)} least expected of {len(score.tokens):,} tokens, each masked in turn"
    table = frame(title)
    table.add_column("index", justify="right", no_wrap=True)
    table.add_column("token")
    for name in ("probability", "rank"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for each in shown:
        probability = None if each.logprob is None else exp(each.logprob)
        long = Text(bar(probability or 0.0, 1.0, columns), style="cyan")
        token = token_text(report.input.tokens[each.position])
        table.add_row(str(each.position), token, percent(probability), rank(each.rank), long)
    return table


def _pseudo(score: PseudoScoreRecord) -> str:
    return (
        f"{counted(len(score.tokens), 'token')} masked · pseudo-log-likelihood {number(score.pll)} · "
        f"pseudo-perplexity {number(score.pseudo_perplexity)}"
    )


def _likeliest(report: LogitsReport, prediction: PredictionRecord, columns: int) -> Frame:
    place = _about(report).tokens[prediction.position]
    table = frame(
        Text(f"{'at' if report.bidirectional else 'after'} {prediction.position} {token_text(place)}", "bold")
    )
    for name in ("rank", "id"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("token")
    for name in ("logit", "probability"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for scored in prediction.top:
        _add(table, scored, columns)
    listed = {scored.id for scored in prediction.top}
    for scored in prediction.targets:
        if scored.id not in listed:
            _add(table, scored, columns)
    return table


def _add(table: Frame, scored: ScoredRecord, columns: int) -> None:
    ties = f" (+{scored.ties})" if scored.ties else ""
    table.add_row(
        f"{rank(scored.rank)}{ties}",
        str(scored.id),
        plain(word(scored), "green"),
        number(scored.logit),
        percent(scored.prob),
        Text(bar(scored.prob or 0.0, 1.0, columns), style="cyan"),
    )


def _text(report: LogitsReport, columns: int) -> Frame:
    """How likely each token of the text was behind those before it."""
    known = [each for each in report.predictions if each.next is not None]
    shown, title = known, "the text, token by token"
    if len(known) > MOST:
        order = sorted(known, key=lambda each: -(each.surprisal or 0.0))[:LEAST_EXPECTED]
        shown = sorted(order, key=lambda each: each.position)
        title = f"the {len(shown)} least expected of {len(known):,} tokens; --json has all"
    table = frame(title)
    table.add_column("index", justify="right", no_wrap=True)
    table.add_column("token")
    for name in ("probability", "rank", "surprisal", "entropy"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for each in shown:
        assert each.next is not None
        index = each.position + 1
        table.add_row(
            str(index),
            Text(token_text(report.input.main.tokens[index])),
            percent(each.next.prob),
            rank(each.next.rank),
            number(each.surprisal, 3),
            number(each.entropy, 3),
            Text(bar(each.next.prob or 0.0, 1.0, columns), style="cyan"),
        )
    return table


def _score(report: LogitsReport) -> str:
    score = report.text_score
    assert score is not None
    bits = "" if score.bits_per_byte is None else f" · {number(score.bits_per_byte, 3)} bits per byte"
    return (
        f"{counted(score.tokens, 'token')} predicted · log-probability {number(score.logprob)} · "
        f"perplexity {number(score.perplexity)}{bits}"
    )


def _continuations(report: LogitsReport) -> Frame:
    table = frame("continuations, the likeliest first")
    table.add_column("text")
    table.add_column("tokens", justify="right", no_wrap=True)
    for name in ("log-probability", "per byte", "greedy"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in report.continuations:
        pieces: Sequence[str | None] = each.pieces
        table.add_row(
            plain(each.text),
            str(len(pieces)),
            number(each.logprob),
            number(each.per_byte, 3),
            "yes" if each.greedy else "no",
        )
    return table
