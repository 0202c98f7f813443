"""What stands under `logits`: what comes next, the likeliest tokens, how likely the text was, and other texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp, isnan

from txinspect.commands.logits import (
    LabelRecord,
    LogitsReport,
    PredictionRecord,
    PseudoScoreRecord,
    ScoredRecord,
    TextScoreRecord,
)
from txinspect.records import SentenceRecord
from txinspect.render.spelling import number, percent, rank, token_text, visible, word
from txinspect.render.tables import (
    Cell,
    Column,
    Line,
    Row,
    Table,
    Words,
    bar,
    cell,
    line,
    numbers,
    numeric,
)
from txinspect.wording import counted

MOST = 40
"""Tokens of a text that are listed; of a longer one the least expected."""

LEAST_EXPECTED = 15

MASKS = 4
"""Masks that are told in a line each."""

ENDS = 5
"""Tokens that are listed for each end of an answer."""


BAR = Column("", whole=True)

TOKEN = [*numbers("index"), Column("token")]
"""The columns of a token of the text."""


def findings(report: LogitsReport) -> Iterator[Line]:
    """The lines of `logits` about what comes after the last token asked for, or belongs at the masks."""
    asked = [each for each in report.predictions if each.top]
    if not asked:
        return
    yield from (_finding(report, each) for each in (asked[:MASKS] if report.model.task == "masked-lm" else asked[-1:]))
    last = asked[-1]
    if last.targets:
        said = ", ".join(f"{word(each)} {percent(each.prob)} (rank {rank(each.rank)})" for each in last.targets)
        yield line(said, "strong")
    if len(report.continuations) > 1:
        best, second = report.continuations[:2]
        apart = number((best.logprob or 0.0) - (second.logprob or 0.0), 3)
        texts = [visible(each.text, spaces=True) for each in (best, second)]
        yield Line([Words(f"{texts[0]} is likelier than {texts[1]} by ", "strong"), Words(f"{apart} nats", "strong")])


def _finding(report: LogitsReport, prediction: PredictionRecord) -> Line:
    """The line about what the logits give at or after one token."""
    first, *others = prediction.top
    what = "likeliest at" if report.bidirectional else "next after"
    place = token_text(_about(report).tokens[prediction.position])
    words = [Words(f"{what} {prediction.position} {place}: ", "strong")]
    if first.prob is not None and isnan(first.prob):
        return Line([*words, Words("nothing: not all of its logits are numbers", "bad")])
    words.append(Words(f"{word(first)} {percent(first.prob)}", "found"))
    if others:
        words.append(Words(f", then {word(others[0])} {percent(others[0].prob)}", "strong"))
    return Line([*words, Words(f"; entropy {number(prediction.entropy, 3)} nats", "aside")])


def _about(report: LogitsReport) -> SentenceRecord:
    """The text whose tokens the positions of `logits` count."""
    return report.input if report.model.task == "masked-lm" else report.input.main


FIRST = 5
"""The likeliest tokens on the first screen where no number was asked for."""


def tables(report: LogitsReport, most: int | None, *, everything: bool) -> Iterator[tuple[Table, Line | None]]:
    """The tables of `logits`, and what is said under each; `everything`, or what stands on the first screen.

    There, of the likeliest tokens, at `most` so many do.
    """
    for prediction in report.predictions:
        if prediction.top:
            yield _likeliest(report, prediction, most), None
    if report.labels:
        yield _labels(report), None
    if report.pseudo_score is not None:
        yield _masked(report, report.pseudo_score), line(_pseudo(report.pseudo_score), "strong")
    if report.text_score is not None and everything:
        yield _text(report), score(report)
    if report.continuations:
        yield _continuations(report), None


def surprisals(report: LogitsReport) -> list[tuple[str, float | None]]:
    """The tokens of a text that `logits` scored, each with its surprisal in nats; None for one not predicted."""
    if report.text_score is None:
        return []
    known = {each.position + 1: each.surprisal for each in report.predictions if each.next is not None}
    return [(token_text(token), known.get(token.index)) for token in report.input.main.tokens]


def score(report: LogitsReport) -> Line:
    """The line of `logits` about how well the model knew the text."""
    assert report.text_score is not None
    return line(_score(report.text_score), "strong")


def more(report: LogitsReport, most: int | None) -> Line | None:
    """The line that says what the first screen of `logits` leaves out, at `most` so many of the likeliest tokens."""
    longest = max((len(each.top) for each in report.predictions), default=0)
    left_out = [f"the {longest} likeliest tokens"] if most is not None and longest > most else []
    left_out += ["the text token by token"] if report.text_score is not None else []
    return line(f"--table has {' and '.join(left_out)}", "dim") if left_out else None


def _likeliest(report: LogitsReport, prediction: PredictionRecord, most: int | None) -> Table:
    place = token_text(_about(report).tokens[prediction.position])
    listed = {scored.id for scored in prediction.top[:most]}
    asked = [scored for scored in prediction.targets if scored.id not in listed]
    return Table(
        [*numbers("rank", "id"), Column("token"), *numbers("logit", "probability"), BAR],
        [_scored(scored) for scored in (*prediction.top[:most], *asked)],
        f"{'at' if report.bidirectional else 'after'} {prediction.position} {place}",
    )


def _scored(scored: ScoredRecord) -> Row:
    ties = f" (+{scored.ties})" if scored.ties else ""
    token = cell(visible(word(scored)), "token")
    place = [cell(f"{rank(scored.rank)}{ties}", value=scored.rank), cell(str(scored.id), value=scored.id)]
    return Row([*place, token, numeric(scored.logit), *_probability(scored.prob)])


def _probability(probability: float | None, *between: Cell) -> list[Cell]:
    """Cells of `logits`' tables: a probability, what stands after it, and its bar."""
    return [cell(percent(probability), value=probability), *between, bar(probability, 1.0)]


def _labels(report: LogitsReport) -> Table:
    """The table of labels: the text's, the likeliest first; of tokens the likeliest of each; an answer's ends."""
    of_tokens = report.labels[0].position is not None
    rows = []
    for each in shown_labels(report.labels, spans=report.model.task == "question-answering"):
        place = [] if each.position is None else _token(report.input.main, each.position)
        rows.append(Row([*place, cell(visible(each.label), "token"), numeric(each.logit), *_probability(each.prob)]))
    token = [*numbers("index"), Column("token", whole=True)] if of_tokens else []
    return Table([*token, Column("label"), *numbers("logit", "probability"), BAR], rows)


def _token(sentence: SentenceRecord, index: int) -> list[Cell]:
    return [cell(str(index), value=index), cell(token_text(sentence.tokens[index]))]


def shown_labels(labels: Sequence[LabelRecord], *, spans: bool) -> list[LabelRecord]:
    """The labels that a table of `logits` has room for."""
    ordered = sorted(labels, key=lambda each: -(each.prob or 0.0))
    if spans:
        return [each for label in ("start", "end") for each in [one for one in ordered if one.label == label][:ENDS]]
    if labels[0].position is None:
        return ordered[:MOST]
    best = {each.position: each for each in reversed(ordered)}
    return [best[position] for position in sorted(best, key=lambda index: index or 0)]


def _masked(report: LogitsReport, score: PseudoScoreRecord) -> Table:
    """The table of how likely each token is where it is masked."""
    shown, title = score.tokens, "each token masked in turn"
    if len(shown) > MOST:
        worst = sorted(shown, key=lambda each: each.logprob or 0.0)[:LEAST_EXPECTED]
        shown = sorted(worst, key=lambda each: each.position)
        title = f"the {len(shown)} least expected of {len(score.tokens):,} tokens, each masked in turn"
    rows = []
    for each in shown:
        probability = None if each.logprob is None else exp(each.logprob)
        place = cell(rank(each.rank), value=each.rank)
        rows.append(Row([*_token(report.input, each.position), *_probability(probability, place)]))
    return Table([*TOKEN, *numbers("probability", "rank"), BAR], rows, title)


def _pseudo(score: PseudoScoreRecord) -> str:
    return (
        f"{counted(len(score.tokens), 'token')} masked · pseudo-log-likelihood {number(score.pll)} · "
        f"pseudo-perplexity {number(score.pseudo_perplexity)}"
    )


def _text(report: LogitsReport) -> Table:
    """The table of how likely each token of the text was after those before it."""
    known = [each for each in report.predictions if each.next is not None]
    shown, title = known, "the text, token by token"
    if len(known) > MOST:
        order = sorted(known, key=lambda each: -(each.surprisal or 0.0))[:LEAST_EXPECTED]
        shown = sorted(order, key=lambda each: each.position)
        title = f"the {len(shown)} least expected of {len(known):,} tokens; --json has all"
    rows = []
    for each in shown:
        assert each.next is not None
        further = [cell(rank(each.next.rank), value=each.next.rank)]
        further += [numeric(each.surprisal), numeric(each.entropy)]
        rows.append(Row([*_token(report.input.main, each.position + 1), *_probability(each.next.prob, *further)]))
    return Table([*TOKEN, *numbers("probability", "rank", "surprisal", "entropy"), BAR], rows, title)


def _score(score: TextScoreRecord) -> str:
    bits = "" if score.bits_per_byte is None else f" · {number(score.bits_per_byte, 3)} bits per byte"
    return (
        f"{counted(score.tokens, 'token')} predicted · log-prob {number(score.logprob)} · "
        f"perplexity {number(score.perplexity)}{bits}"
    )


def _continuations(report: LogitsReport) -> Table:
    rows = []
    for each in report.continuations:
        said = [cell(visible(each.text)), cell(str(len(each.pieces)), value=len(each.pieces))]
        greedy = cell("yes" if each.greedy else "no")
        rows.append(Row([*said, numeric(each.logprob), numeric(each.per_byte, 3), greedy]))
    columns = [Column("text"), *numbers("tokens", "log-probability", "per byte", "greedy")]
    return Table(columns, rows, "continuations, the likeliest first")
