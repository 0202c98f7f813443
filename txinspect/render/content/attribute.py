"""What stands in the tables of `attribute`: which parts wrote the logit, the most first."""

from __future__ import annotations

from collections.abc import Sequence

from txinspect.commands.attribute import ROWS, AttributeReport, PartKind, PartRecord
from txinspect.render.spelling import number, visible, word
from txinspect.render.tables import Cell, Column, Line, Row, Table, Words, cell, line, numbers, numeric

PARTS: dict[PartKind, str] = {
    "embedding": "embedding",
    "positions": "positions",
    "segments": "segments",
    "attention": "attention",
    "cross attention": "cross-attention",
    "mixer": "mixer",
    "mlp": "MLP",
    "attention bias": "attention bias",
    "layer bias": "bias",
    "embedding bias": "bias of the embeddings",
    "norm bias": "bias of the last norm",
    "head bias": "bias of the head",
    "rest": "rest",
}
"""What a part is called that is no head."""

GROUPS: dict[PartKind, str] = {
    "head": "attention",
    "attention": "attention",
    "attention bias": "attention",
    "cross head": "cross-attention",
    "cross attention": "cross-attention",
    "mlp": "MLP",
    "mixer": "mixer",
}
"""What the parts of a layer are called together."""

TOKENS = 8
"""Tokens that are listed on the first screen."""


def size(value: float | None) -> float:
    """How much a part of `attribute` adds, whichever way; 0 where that is no number."""
    return abs(value) if value is not None and value == value else 0.0


def name(part: PartRecord) -> str:
    """A part of `attribute` as its tables name it."""
    if part.head is not None:
        cross = "cross " if part.kind == "cross head" else ""
        return f"{cross}head {part.layer}.{part.head}"
    what = PARTS[part.kind]
    return what if part.layer is None else f"layer {part.layer} {what}"


def groups(report: AttributeReport) -> dict[str, float]:
    """What the attention, cross-attention and MLP of each layer add together, and every other part by itself."""
    found: dict[str, float] = {}
    for part in report.parts:
        group = name(part)
        if part.layer is not None and part.kind in GROUPS:
            group = f"layer {part.layer}'s {GROUPS[part.kind]}"
        found[group] = found.get(group, 0.0) + (part.value or 0.0)
    return found


def finding(report: AttributeReport) -> Line:
    """The line about what `attribute` found: by how much the target leads, and what wrote the most of that."""
    together = groups(report)
    most = max(together, key=lambda group: size(together[group]))
    over = f" over {word(report.wrong)}" if report.wrong is not None else ""
    return Line(
        [
            Words(f"{word(report.target)}{over} by {number(report.logit, 4)}: ", "strong"),
            Words(f"{most} wrote {number(size(together[most]), 4)}", "found"),
            Words(" of it" if together[most] * (report.logit or 0.0) >= 0 else " against it", "strong"),
        ]
    )


def where(report: AttributeReport) -> Line:
    """The line that says after which token the logit of `attribute` is."""
    token = visible(report.input.main.words[report.position] or "", spaces=True)
    capped = f" before the cap of {report.cap:g}" if report.cap is not None else ""
    of = "logit difference" if report.wrong is not None else "logit"
    return line(f"{of}{capped} at token {report.position}, {token}", "dim")


def shown(report: AttributeReport, most: int | None = ROWS) -> list[PartRecord]:
    """The parts of `attribute` that are listed: the largest."""
    return sorted(report.parts, key=lambda part: -size(part.value))[:most]


def table(report: AttributeReport, most: int | None = ROWS) -> Table:
    """The table of what `attribute` adds up, the largest first; `most` of them, then the others."""
    listed = shown(report, most)
    top = max((size(part.value) for part in listed), default=0.0)
    rows = [_row(name(part), part.value, top) for part in listed]
    left = [part for part in report.parts if part not in listed]
    if left:
        rows.append(_row(f"{len(left)} others", sum(part.value or 0.0 for part in left), top, "dim"))
    return Table([Column("part", whole=True), *numbers("adds"), Column("", right=True), Column("")], rows)


def _row(what: str, value: float | None, top: float, tone: str = "plain") -> Row:
    return Row([cell(what), numeric(value, 4), *bars(value, top)], "dim" if tone == "dim" else "plain")


HALF = 8
"""Characters of the longest bar to either side."""


def bars(value: float | None, top: float, half: int = HALF) -> Sequence[Cell]:
    """Bars of a part: what is taken off to the left, what is added to the right."""
    length = round(half * size(value) / top) if top else 0
    left = "█" * length if (value or 0.0) < 0 else ""
    right = "█" * length if (value or 0.0) > 0 else ""
    return Cell([Words(left, "bad")], value), Cell([Words(right, "figure")], value)


def remainder(report: AttributeReport) -> Line:
    """The line about the sum of `attribute`, the model's own logit, and what is left over, and how much may be."""
    fits = size(report.remainder) <= (report.tolerance or 0.0)
    over = f": rounding {number(report.remainder, 2)}, {'within' if fits else 'beyond'} {number(report.tolerance, 2)}"
    both = f"sum {number(report.total, 5)}, the model's logit {number(report.logit, 5)}"
    return Line([Words(both, "strong"), Words(over, "dim" if fits else "bad")])


def neurons(report: AttributeReport) -> Table | None:
    """The table of the neurons that wrote the most, for `attribute --neurons`."""
    if not report.neurons:
        return None
    top = max(size(each.value) for each in report.neurons)
    rows = [
        Row([cell(f"neuron {each.layer}.{each.neuron}"), numeric(each.value, 4), *bars(each.value, top)])
        for each in report.neurons
    ]
    return Table([Column("of the MLPs", whole=True), *numbers("adds"), Column("", right=True), Column("")], rows)


def experts(report: AttributeReport) -> Table | None:
    """The table of what each chosen expert wrote, for `attribute --experts`."""
    if not report.experts:
        return None
    top = max(size(each.value) for each in report.experts)
    rows = [
        Row(
            [
                cell(f"expert {each.layer}.{each.expert}"),
                numeric(each.weight, 3),
                numeric(each.value, 4),
                *bars(each.value, top),
            ]
        )
        for each in report.experts
    ]
    columns = [Column("of the MLPs", whole=True), *numbers("weight", "adds"), Column("", right=True), Column("")]
    return Table(columns, rows)


def by_token(report: AttributeReport, most: int | None = TOKENS) -> list[Line | Table]:
    """How much each token matters, for `attribute --tokens`: a line, and the table of the tokens that matter most."""
    found = report.by_token
    if found is None:
        return []
    ordered = sorted(found.tokens, key=lambda each: -size(each.value))[:most]
    top = max((size(each.value) for each in ordered), default=0.0)
    rows = [
        Row(
            [
                cell(f"{each.stack + ' ' if each.stack else ''}{each.index}"),
                cell(visible(each.token or "–", spaces=True), "token"),
                numeric(each.value, 4),
                *bars(each.value, top),
            ]
        )
        for each in ordered
    ]
    said = "lost where no other token attends to it (Geva et al. 2023)"
    if found.how == "gradients":
        said = f"share by integrated gradients, {found.steps} steps, {number(100 * (found.gap or 0.0), 2)} % missed"
    columns = [Column("", right=True, whole=True), Column("token"), *numbers("matters")]
    columns += [Column("", right=True), Column("")]
    return [line(f"tokens: {said}", "dim"), Table(columns, rows)]


def more(report: AttributeReport, most: int) -> Line | None:
    """The line that says what the first screen of `attribute` leaves out."""
    count = len(report.parts)
    tokens = len(report.by_token.tokens) if report.by_token is not None else 0
    both = f" and all {tokens} tokens" if tokens > TOKENS else ""
    if count <= most:
        return line(f"--table has all {tokens} tokens", "dim") if both else None
    return line(f"--table has all {count} parts{both}, -k {min(count, 2 * most)} more", "dim")
