"""What stands in the story of `why`: what comes next, when it was decided, which parts wrote it, whether it is so."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from txinspect.commands.why import ReadRecord, StoryRecord, Verdict, WhyReport
from txinspect.render.content import attribute
from txinspect.render.spelling import number, percent, visible, word
from txinspect.render.tables import Column, Line, Row, Table, Tone, Words, cell, line, numbers, numeric
from txinspect.wording import counted

SAID: dict[Verdict, tuple[str, Tone]] = {
    "confirmed": ("Ablation confirms it: the difference falls without these, not without others.", "good"),
    "made up for": ("Ablation does not confirm it: without these, others make up for over half.", "warning"),
    "no more than others": ("Ablation does not single these out: the others matter about as much.", "warning"),
    "not confirmed": ("Ablation does not confirm it: without these the difference does not fall.", "bad"),
    "below the noise": ("Ablation says nothing: the change is no more than the noise.", "warning"),
    "too few": ("These parts wrote less than half of it: many did, and -k names more.", "warning"),
}
"""What is said of each verdict, never more than was measured."""

ALONE: dict[Verdict, tuple[str, Tone]] = {
    "confirmed": ("Ablation confirms it as far as it goes: no others are left to compare with.", "warning"),
    "too few": ("These parts wrote less than half of it: embeddings and biases wrote the rest.", "warning"),
}
"""And where no other parts are left."""


def finding(report: WhyReport) -> Line:
    """The line about what `why` found: what comes next, and what nearly came."""
    first, *others = report.likely
    nearly = f", then {word(others[0])} {percent(others[0].prob)}" if others else ""
    return Line([Words(f"{word(first)} {percent(first.prob)}{nearly}", "found"), Words(_decided(report), "strong")])


def _decided(report: WhyReport) -> str:
    """When the likeliest token was there, by the lens."""
    if report.decided_at is None or report.first_at is None:
        return ""
    first = "" if report.first_at == report.decided_at else f", first at {_layer(report.first_at)}"
    return f": decided at {_layer(report.decided_at)}{first}"


def _layer(layer: int) -> str:
    return "the embedding" if layer < 0 else f"layer {layer}"


def where(report: WhyReport) -> Line:
    """The line about the difference that the story is of: where, and how much of it the parts wrote."""
    token = f"{report.position}, {visible(report.input.main.words[report.position] or '', spaces=True)}"
    over = f"{word(report.target)} over {word(report.wrong)} by {number(report.logit, 4)} at token {token}"
    over += f" before the cap of {report.cap:g}" if report.cap is not None else ""
    count = counted(len(report.parts), "part")
    return line(f"{over}: {count} of {len(report.parts) + report.others} wrote {number(report.written, 4)}", "dim")


def table(report: WhyReport) -> Table:
    """The table of the parts of the story: how much each wrote, what falls without it, what it reads from."""
    story = [*report.parts, *report.carriers]
    top = max((attribute.size(part.value) for part in report.parts), default=0.0)
    words = [*report.input.words, *(report.input.decoder.words if report.input.decoder else ())]
    repeated = {word for word in words if words.count(word) > 1}
    rows: list[Row | Line] = [_row(part, top, repeated) for part in report.parts]
    if report.carriers:
        rows += [
            line("and what these read is written by", "dim"),
            *(_row(part, top, repeated) for part in report.carriers),
        ]
    columns = [Column("part", whole=True), *numbers("wrote"), Column("", right=True), Column(""), *numbers("falls")]
    kind = "kind" if any(part.labels for part in story) else ""
    return Table([*columns, Column(kind), Column("reads from" if any(part.reads for part in story) else "")], rows)


def _row(part: StoryRecord, top: float, repeated: Collection[str | None]) -> Row:
    return Row(
        [
            cell(attribute.name(part)),
            numeric(part.value, 4),
            *attribute.bars(part.value, top, HALF),
            numeric(part.fall, 4),
            cell(", ".join(part.labels)),
            cell(" · ".join(_read(read, repeated) for read in part.reads if (read.share or 0.0) >= LEAST), "token"),
        ]
    )


LEAST = 0.005
"""Of what a head reads: less is not worth a word."""

HALF = 5
"""Characters of the longest bar to either side."""


def _read(read: ReadRecord, repeated: Collection[str | None]) -> str:
    index = f"{read.index} " if read.token in repeated else ""
    return f"{index}{visible(read.token or '', spaces=True)} {round(100 * (read.share or 0.0))}%"


def without(report: WhyReport) -> Iterator[Line]:
    """The lines about whether it is so: the difference without these parts, and without as many others."""
    said = f"without these {len(report.without.parts)}: {number(report.logit, 4)} → {number(report.without.logit, 4)}"
    if report.control is not None:
        said += f" · {counted(len(report.control.parts), 'other')} at random: {number(report.control.logit, 4)}"
    yield line(f"{said} · noise {number(report.noise, 2)}")
    sentence, tone = (SAID if report.control is not None else ALONE).get(report.verdict, SAID[report.verdict])
    yield Line([Words(sentence, tone)])


def parts(report: WhyReport) -> Iterator[Line | Table]:
    """All of it, in its order."""
    yield finding(report)
    yield where(report)
    yield table(report)
    yield from without(report)
