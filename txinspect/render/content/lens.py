"""What stands beside the grid of `lens`: what it found in a line, and layer by layer for the last token."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from txinspect.commands.lens import LensReport, LensRowRecord
from txinspect.records import VocabularyRecord
from txinspect.render.spelling import percent, rank, token_text, visible, word
from txinspect.render.tables import Column, Line, Row, Table, Words, cell, line, numbers, numeric
from txinspect.wording import counted

FOLLOWED = 2
"""Tokens that are followed in the table of the last token."""


def layer_name(layer: int) -> str:
    """What a layer, a row of `lens`, is called."""
    return "enters" if layer < 0 else str(layer)


def where(report: LensReport) -> str:
    """Where a prediction of `lens` belongs: a model that fills masks predicts the token at its place."""
    return "at" if report.model.task == "masked-lm" else "after"


def _place(report: LensReport) -> str:
    """The last token that `lens` was asked for, and whether its prediction is at it or after it."""
    position = report.positions[-1].position
    return f"{where(report)} {position} {token_text(report.input.main.tokens[position])}"


def finding(report: LensReport) -> Line:
    """The line of `lens` about when the prediction after the last token was there, by layers."""
    last = report.positions[-1]
    final = report.rows[-1].cells[-1].top[0]
    place = Words(f"{_place(report)}: ", "strong")
    if final.prob is not None and isnan(final.prob):
        return Line([place, Words("nothing: not all of its logits are numbers", "bad")])
    first, decided = ["the input" if each < 0 else f"layer {each}" for each in (last.first_at, last.decided_at)]
    read = sum(row.layer >= 0 for row in report.rows)
    among = "" if read == report.model.num_hidden_layers else f", of the {counted(read, 'layer')} that were read"
    when = Words(f": first at {first}, decided at {decided}{among}", "strong")
    return Line([place, Words(word(final), "found"), when])


def more(report: LensReport, *, table: bool, position: bool) -> Line | None:
    """The line that says what the first screen of `lens` leaves out, and which options bring it.

    Those that were asked for are not named again.
    """
    count = len(report.input.main.tokens)
    said = [] if table else ["--table has entropy, KL and ranks by layer"]
    said += [] if position or len(report.positions) == count else [f"--position all has all {count:,} tokens"]
    return line("; ".join(said), "dim") if said else None


def last(report: LensReport) -> Table:
    """The table of what each layer would predict after the last token that was asked for."""
    followed = report.rows[-1].cells[-1].targets[:FOLLOWED]
    ranks = [Column(f"rank of {word(each)}", right=True) for each in followed]
    columns = [*numbers("layer"), Column("likeliest"), *numbers("probability", "entropy", "KL"), *ranks]
    return Table(columns, [_row(row, followed) for row in report.rows], _place(report))


def _row(row: LensRowRecord, followed: Sequence[VocabularyRecord]) -> Row:
    layer = row.cells[-1]
    ranks = {each.id: each.rank for each in layer.targets}
    followers = [cell(rank(ranks[each.id]) if each.id in ranks else "", value=ranks.get(each.id)) for each in followed]
    return Row(
        [
            cell(layer_name(row.layer), value=row.layer),
            cell(visible(", ".join(map(word, layer.top))), "token"),
            cell(percent(layer.top[0].prob), value=layer.top[0].prob),
            numeric(layer.entropy),
            numeric(layer.kl),
            *followers,
        ]
    )
