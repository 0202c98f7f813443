"""What stands in the tables of `ablate`: what is lost without each part, the most first."""

from __future__ import annotations

from collections.abc import Sequence

from txinspect.commands.ablate import AblateReport, AblationRecord
from txinspect.render.spelling import number, visible
from txinspect.render.tables import Cell, Column, Line, Row, Table, Words, bar, cell, line, numbers, numeric
from txinspect.wording import counted, some_of

FIRST = 5
"""Parts on the first screen."""

PARTS = {"heads": "head", "attention": "attention", "mlp": "MLP", "layers": "layer"}
"""What one part is called, by what is swept."""


def size(part: AblationRecord) -> float:
    """How much is lost without a part of `ablate`, whichever way; 0 where that is no number."""
    return abs(part.delta) if part.delta is not None and part.delta == part.delta else 0.0


def name(part: AblationRecord) -> str:
    """A part of `ablate` as its tables name it: layer and head."""
    return f"{part.layer}" if part.head is None else f"{part.layer}.{part.head}"


def finding(report: AblateReport) -> Line:
    """The line about what `ablate` found: the part without which the most is lost, and how much."""
    most = max(report.parts, key=size)
    what = PARTS[report.sweep]
    if size(most) <= report.noise.delta:
        return Line([Words(f"No {what} changes more than noise does, {number(report.noise.delta, 2)} nats.", "strong")])
    lost = f"{'lost' if (most.delta or 0) < 0 else 'gained'} {number(size(most), 3)} nats"
    where = f"{what} {name(most)}" if report.sweep != "layers" else f"layer {name(most)}"
    return Line(
        [
            Words(f"Without {where}: ", "strong"),
            Words(lost, "found"),
            Words(f" of the log-probability of {visible(report.of)}", "strong"),
            Words(f", {number(report.logprob, 3)} in the whole model", "dim"),
        ]
    )


def baseline(report: AblateReport) -> Line:
    """The line that says what took the place of a part that `ablate` left out, and what is noise."""
    places = counted(len(report.positions), "position") if report.positions else "the whole text"
    noise = f"noise {number(report.noise.delta, 2)} nats, KL {number(report.noise.kl, 2)}"
    said = f"in its place: {visible(report.baseline)} · means over {places} · {noise}"
    return line(said, "dim")


def table(report: AblateReport, most: int | None = FIRST) -> Table:
    """The table of parts that `ablate` left out, the largest effect first; `most` of them."""
    ordered = sorted(report.parts, key=size, reverse=True)[:most]
    top = max(map(size, ordered), default=0.0)
    columns = [Column(PARTS[report.sweep], whole=True), *numbers("Δ log-prob", "KL", "changed"), Column("")]
    return Table(columns, [_row(part, report, top) for part in ordered])


def _row(part: AblationRecord, report: AblateReport, top: float) -> Row:
    noise = size(part) <= report.noise.delta
    cells = [cell(name(part), "strong"), numeric(part.delta, 3), numeric(part.kl, 3), _changed(part.changed, report)]
    return Row([*cells, bar(size(part), top)], "dim" if noise else "plain")


def _changed(count: int, report: AblateReport) -> Cell:
    return cell(f"{count} of {max(1, len(report.positions))}", value=count)


def together(report: AblateReport) -> list[Line]:
    """The lines about parts that `ablate` left out all at once."""
    found = []
    for each in report.together:
        which = f"{len(each.parts)} at random ({some_of(each.parts)})" if each.random else f"all {len(each.parts)}"
        said = f"{number(each.delta, 3)} nats, KL {number(each.kl, 3)}, {each.changed} next tokens change"
        found.append(Line([Words(f"{which} at once: ", "strong"), Words(said)]))
    return found


def more(report: AblateReport) -> Line | None:
    """The line that says what the first screen of `ablate` leaves out."""
    return line(f"--table has all {len(report.parts)}", "dim") if len(report.parts) > FIRST else None


def layers(report: AblateReport) -> Sequence[int]:
    """The layers of which `ablate` left heads out, in order."""
    return list(dict.fromkeys(part.layer for part in report.parts))
