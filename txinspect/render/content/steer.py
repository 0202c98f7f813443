"""What stands in the drawing of `steer`: the vectors, and what is generated with them at each scale."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from txinspect.commands.steer import SteerReport, TryRecord
from txinspect.render.spelling import number, visible
from txinspect.render.tables import Cell, Column, Line, Row, Table, Words, cell, line, numbers, numeric
from txinspect.wording import counted

FIRST = 5
"""Vectors on the first screen."""

RANDOM = "random"


def finding(report: SteerReport) -> Line:
    """The line about what `steer` found: how strong a vector is, or from which scale on it changes the text."""
    if report.action == "make":
        return _made(report)
    own, random = _first_change(report, random=False), _first_change(report, random=True)
    if own is None:
        return line(f"No scale changes what is generated, up to {_size(report.tries[-1])}.", "strong")
    beside = "a random direction never" if random is None else f"a random direction from {random.scale:+g} on"
    return Line(
        [
            Words("What is generated changes from scale ", "strong"),
            Words(f"{own.scale:+g}", "found"),
            Words(f" on, {_size(own)}; ", "strong"),
            Words(f"{beside}", "strong"),
        ]
    )


def _made(report: SteerReport) -> Line:
    strongest = max(report.vectors, key=lambda each: each.ratio or 0.0)
    return Line(
        [
            Words(f"A vector at {strongest.place}: ", "strong"),
            Words(f"{number(strongest.ratio, 2)} of ‖h‖ there", "found"),
            Words(f", of {counted(report.pairs or 0, 'pair')}", "strong"),
        ]
    )


def _size(each: TryRecord) -> str:
    return f"{number(each.ratio, 2)} of ‖h‖"


def _first_change(report: SteerReport, *, random: bool) -> TryRecord | None:
    """The try of the smallest scale at which other tokens than the model's own are generated."""
    (own,) = (each.ids for each in report.tries if not each.scale)
    changed = [each for each in report.tries if each.scale and each.random == random and each.ids != own]
    return min(changed, key=lambda each: (abs(each.scale), -each.scale), default=None)


def how(report: SteerReport) -> Line:
    """The line that says how the vectors of `steer` were made, or where the one that is tried is added."""
    if report.action == "make":
        what = "first principal component" if report.method == "pca" else "mean"
        tokens = "last tokens" if report.over == "last" else "the mean of each text's tokens"
        return line(f"{what} of the differences toward − away, at {tokens}", "dim")
    (first, *others) = report.vectors
    more = f" and {counted(len(others), 'other place')}" if others else ""
    norms = f"‖v‖ {number(first.norm, 3)} · ‖h‖ {number(first.stream, 3)}"
    return line(f"{visible(str(report.vector))} at {first.place}{more} · {norms}", "dim")


def vectors(report: SteerReport, most: int | None = None) -> Table:
    """The table of the vectors of `steer`, `most` of them."""
    columns = [Column("place"), *numbers("width", "‖v‖", "‖h‖", "‖v‖/‖h‖", "agreement")]
    rows = [
        Row(
            [
                cell(each.place, "strong"),
                cell(str(each.width), value=each.width),
                numeric(each.norm, 3),
                numeric(each.stream, 3),
                numeric(each.ratio, 3),
                numeric(each.agreement, 3),
            ]
        )
        for each in report.vectors[:most]
    ]
    return Table(columns, rows)


def tries(report: SteerReport, width: int | None = None) -> Table:
    """The table of what is generated with a vector of `steer`, each text in `width` columns at most."""
    columns = [*numbers("scale"), Column("", whole=True), *numbers("of ‖h‖", "perplexity"), Column("generated")]
    return Table(columns, [_row(each, width) for each in report.tries])


def _row(each: TryRecord, width: int | None) -> Row:
    text = visible(each.text)
    shown = text if width is None or len(text) <= width else f"{text[: max(0, width - 1)]}…"
    what: Cell = cell(shown, "dim" if each.random else "text", value=each.text)
    beside = RANDOM if each.random else ("" if each.scale else "own")
    scale = cell("" if each.random else f"{each.scale:+g}" if each.scale else "0", "strong", value=each.scale)
    cells = [scale, cell(beside, "dim"), numeric(each.ratio, 2), numeric(each.perplexity, 3), what]
    return Row(cells, "dim" if each.random else "plain")


def use(report: SteerReport) -> Line | None:
    """The line that says how a vector of `steer` is added to any pass; None where it was not written."""
    if report.action != "make" or not report.vectors:
        return None
    if report.saved is None:
        return line("not written: -o FILE.safetensors keeps it", "dim")
    first = report.vectors[0]
    return line(f"add it by --edit '{first.place} + 4*{Path(report.saved).name}:{first.name}'", "dim")


def parts(report: SteerReport) -> Iterator[Line | Table | None]:
    """All that `steer` found, for a page."""
    yield finding(report)
    yield how(report)
    yield tries(report) if report.tries else vectors(report)
    yield use(report)
