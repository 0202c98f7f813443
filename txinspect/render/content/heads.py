"""What stands beside the grid of `heads`: the strongest of each kind, sinks, every head's numbers."""

from __future__ import annotations

from collections.abc import Set

from txinspect.commands.heads import NUMBERS, HeadsReport, Kind, KindRecord
from txinspect.records import SentenceRecord
from txinspect.render.spelling import token_text
from txinspect.render.tables import Cell, Column, Line, Row, Table, Words, cell, line, numbers, numeric
from txinspect.wording import counted

WHERE: dict[Kind, str] = {
    "induction": "the token after the same one earlier",
    "duplicate": "the same token earlier",
    "previous": "the token before",
    "next": "the token after",
    "self": "its own token",
    "first": "the first token",
    "broad": "all tokens, nearly evenly",
}
"""Where the heads of each kind look."""

SHOWN, FIRST = 4, 2
"""Heads of a kind that are named, and on the first screen of a deep model."""

LINES = 10
"""Layers that have a line each on the first screen."""

FEW = 40
"""Heads that are listed with or without a label."""

COLUMNS = {
    "induct": "induction",
    "dupl": "duplicate",
    "prev": "previous",
    "next": "next_token",
    "first": "first_token",
    "self": "self_token",
    "entropy": "entropy",
    "even": "relative_entropy",
    "distance": "distance",
    "special": "special",
}
"""The numbers of a head, by the titles of their columns."""

GIVING_WAY = ("special", "even", "distance", "self", "dupl", "entropy", "first", "next", "prev", "induct")
"""What is left out of the numbers, in this order, where the terminal is too narrow."""


def finding(report: HeadsReport) -> Line:
    """The line about what `heads` found: how many heads are of each kind, by the first of several."""
    first = [head.labels[0] for head in report.heads if head.labels]
    counts = sorted(((first.count(kind), kind) for kind in WHERE if kind in first), reverse=True)
    said = ", ".join(f"{count} {kind}" for count, kind in counts)
    of = f"{len(first)} of {counted(len(report.heads), 'head')} {'is' if len(first) == 1 else 'are'} of a kind"
    return line(f"{of}: {said}" if said else f"none of {counted(len(report.heads), 'head')} is of a kind", "found")


def _name(head: KindRecord) -> str:
    return f"{head.layer}.{head.head}" + (f"#{head.run}" if head.run > 1 else "")


def strength(head: KindRecord, kind: Kind) -> float:
    """How much a head is of a kind, as the tables and grid of `heads` say it."""
    return float(getattr(head, NUMBERS[kind]) or 0.0)


def layers(report: HeadsReport) -> list[int]:
    """The layers that `heads` reports, in their order."""
    return list(dict.fromkeys(head.layer for head in report.heads))


def strongest(report: HeadsReport, most: int = SHOWN) -> Table:
    """The table of the strongest heads of each kind; without any of a kind, the largest of all."""
    rows = []
    for kind, where in WHERE.items():
        known = [head for head in report.heads if getattr(head, NUMBERS[kind]) is not None]
        if known:
            own = any(kind in head.labels for head in known)
            named = Cell(_ranked(sorted(known, key=lambda head: -strength(head, kind)), kind, most))
            rows.append(Row([cell(kind, "strong" if own else "dim"), named, cell(where, "dim")]))
    return Table([Column("kind"), Column("heads, as layer.head"), Column("look at")], rows, rule=False)


def _ranked(heads: list[KindRecord], kind: Kind, most: int) -> list[Words]:
    """The first heads of a kind with their numbers, and how many more; the first of all where none is."""
    own = [head for head in heads if kind in head.labels]
    words: list[Words] = []
    for head in own[:most] or heads[:1]:
        words += [Words("  ")] if words else []
        words += [Words(_name(head), "strong" if own else "dim")]
        words += [Words(f" {strength(head, kind):.2f}", "figure" if own else "dim")]
    more = f"  and {len(own) - most} more" if len(own) > most else "" if own else "  at most"
    return [*words, Words(more, "dim")]


def _sentence(report: HeadsReport) -> SentenceRecord:
    """The text that the heads of a report read."""
    return report.input if report.stack == "encoder" else report.input.main


def sinks(report: HeadsReport, most: int = SHOWN) -> Line | None:
    """The line about sinks: the keys on which heads rest."""
    tokens = _sentence(report).tokens
    named = [f"{sink.key} {token_text(tokens[sink.key])} {sink.share:.0%}" for sink in report.sinks[:most]]
    return line(f"sinks (share of heads that rest on a key): {', '.join(named)}") if named else None


def letters(report: HeadsReport) -> Line:
    """The line about what the letters of a grid of heads stand for."""
    kinds = dict.fromkeys(label for head in report.heads for label in head.labels[:1])
    return line(f"layer, and a letter for each head: {', '.join(kinds)}; · for none", "dim")


def more(report: HeadsReport) -> Line:
    """The line that says what the first screen of `heads` leaves out."""
    which = " that has a label" if len(report.heads) > FEW else ""
    lines = "a line for each layer, and " if len(layers(report)) > LINES else ""
    return line(f"--table has {lines}the numbers of every head{which}", "dim")


def every(report: HeadsReport, left_out: Set[str] = frozenset()) -> Table:
    """The table of every head's numbers that has a label; of all heads where they are few."""
    heads = report.heads if len(report.heads) <= FEW else [head for head in report.heads if head.labels]
    title = f"the {len(heads)} of {len(report.heads)} heads with a label" if len(heads) < len(report.heads) else None
    unknown = {"induct", "dupl"} if report.copies is None else set()
    unknown |= {"next"} if all(head.next_token is None for head in report.heads) else set()
    shown = {name: field for name, field in COLUMNS.items() if name not in left_out | unknown}
    rows = [
        Row(
            [
                cell(_name(head), "strong"),
                *(numeric(getattr(head, field), 3) for field in shown.values()),
                cell(", ".join(head.labels)),
            ]
        )
        for head in heads
    ]
    return Table([Column("head", whole=True), *numbers(*shown), Column("labels", whole=True)], rows, title)
