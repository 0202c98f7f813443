"""What stands in the drawing of `patch`: where the difference between two texts is, and how much of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from txinspect.commands.patch import CellRecord, PatchReport
from txinspect.render.content import heading
from txinspect.render.spelling import number, token_text, visible
from txinspect.render.tables import Cell, Column, Line, Row, Table, Tone, Words, bar, cell, line, numbers, numeric
from txinspect.wording import counted

FIRST = 5
"""Parts on the first screen, where there is no grid."""

PARTS = {"heads": "head", "attention": "attention", "mlp": "MLP", "stream": "stream"}
"""What one part is called, by what is swept."""

VERBS = {"denoise": "restores", "noise": "breaks"}
"""What a part does to the metric, by which text is patched."""

ENOUGH = 0.5
"""Share of the gap from which the stream is said to hold the difference at a token."""


def size(part: CellRecord) -> float:
    """How much a part does in `patch`, whichever way; 0 where that is no number."""
    return abs(part.effect) if part.effect is not None and part.effect == part.effect else 0.0


def directions(report: PatchReport) -> list[str]:
    """Which ways `patch` went."""
    return list(dict.fromkeys(part.direction for part in report.cells))


def of(report: PatchReport, direction: str) -> list[CellRecord]:
    """The parts that `patch` patched one way."""
    return [part for part in report.cells if part.direction == direction]


def texts(report: PatchReport) -> list[Line]:
    """What `patch` is between, but for CLEAN itself: the other text, or which words had noise on them."""
    if report.other_input is not None:
        return [Line([Words("→ ", "dim"), *one.words]) for one in heading.texts(report.other_input)[:1]]
    words = "".join(report.input.words[place] or "" for place in report.subject or ())
    noise = f"{report.samples} samples of deviation {number(report.deviation, 3)}"
    return [line(f"→ with noise on {visible(words.strip())!r}: {noise}", "dim")]


def finding(report: PatchReport, direction: str) -> Line:
    """The line about what `patch` found one way: the part that does most, and how much of the gap that is."""
    parts = of(report, direction)
    most = max(parts, key=size)
    if size(most) <= (report.noise.effect or 0.0):
        return line(f"No {PARTS[report.sweep]} {VERBS[direction]} more than noise does.", "strong")
    what = Words(f" of {metric(report)}", "strong")
    if report.sweep == "stream" and (path := _path(report, parts)):
        return Line([Words("The difference is at ", "strong"), Words(path, "found")])
    verb = VERBS[direction] if (most.effect or 0.0) > 0 else "goes the other way by"
    share = Words(f"{verb} {rounded(size(most))}", "found")
    return Line([Words(f"{name(most, report)} ", "strong"), share, what])


def rounded(value: float) -> str:
    """A share of the gap of `patch` in a sentence: two decimals, of less two digits."""
    return f"{value:.2f}" if value >= 0.005 else number(value, 2)


def metric(report: PatchReport) -> str:
    """What `patch` measures, in words."""
    own, other = (" or ".join(repr(visible(each.text)) for each in some) for some in (report.answers, report.wrong))
    if report.metric == "kl":
        return "how far the prediction is from CLEAN's"
    return {
        "logit-difference": f"the logit difference {own} − {other}",
        "logprob": f"the log-probability of {own}",
        "prob": f"the probability of {own}",
    }[report.metric]


def baseline(report: PatchReport) -> Line:
    """The line of `patch` that says what 0 and 1 are, and what is noise."""
    said = f"CLEAN {number(report.clean, 4)} · CORRUPT {number(report.corrupt, 4)} · gap {number(gap(report), 4)}"
    return line(f"{said} · noise {number(report.noise.effect, 2)} of it", "dim")


def gap(report: PatchReport) -> float | None:
    """How far the texts of `patch` are apart."""
    return None if report.clean is None or report.corrupt is None else abs(report.clean - report.corrupt)


def title(report: PatchReport, direction: str) -> str:
    """What a grid of `patch` is titled: which text is patched, what 0 and 1 are."""
    columns = "token" if report.sweep == "stream" else "head"
    into, source = ("CORRUPT", "CLEAN") if direction == "denoise" else ("CLEAN", "CORRUPT")
    values = [number(report.clean if each == "CLEAN" else report.corrupt, 3) for each in (into, source)]
    return f"{direction}: 0 as {into} ({values[0]}), 1 as {source} ({values[1]}) · layer ↓ {columns} →"


def name(part: CellRecord, report: PatchReport) -> str:
    """A part of `patch` in a sentence."""
    layer = f"layer {part.layer}"
    if part.position is not None:
        return f"The stream at {part.position} {_token(part, report)} before {layer}"
    return (
        f"{layer.capitalize()} head {part.head}"
        if part.head is not None
        else f"{layer.capitalize()}'s {_whole(report)}"
    )


def short(part: CellRecord, report: PatchReport) -> str:
    """A part of `patch` as its tables name it."""
    if part.position is not None:
        return f"{part.layer} at {part.position} {_token(part, report)}"
    return f"{part.layer}" if part.head is None else f"{part.layer}.{part.head}"


def table(report: PatchReport, direction: str, most: int | None = FIRST) -> Table:
    """The table of parts that `patch` patched one way, the largest effect first; `most` of them."""
    parts = sorted(of(report, direction), key=size, reverse=True)[:most]
    top = max(map(size, parts), default=0.0)
    columns = [Column(PARTS[report.sweep], whole=True), *numbers("effect", "metric"), Column("")]
    rows = [Row(_cells(part, report, top), _tone(part, report)) for part in parts]
    return Table(columns, rows, title=f"{direction}: {VERBS[direction]}")


def columns(report: PatchReport, parts: Sequence[CellRecord]) -> list[tuple[int, str]]:
    """The columns of a grid of `patch`: head or position, and its title."""
    if report.sweep == "stream":
        tokens = {part.position or 0: _token(part, report) for part in parts}
        return sorted(tokens.items())
    return [(head, str(head)) for head in sorted({part.head for part in parts if part.head is not None})]


def column(part: CellRecord) -> int | None:
    """Which column of a grid of `patch` a part stands in."""
    return part.head if part.position is None else part.position


def layers(parts: Sequence[CellRecord], most: int | None = None) -> list[int]:
    """The layers of parts of `patch`, in order; at `most` so many, those with the largest effects."""
    found = {part.layer: 0.0 for part in parts}
    for part in parts:
        found[part.layer] = max(found[part.layer], size(part))
    return sorted(sorted(found, key=lambda layer: -found[layer])[:most])


def more(report: PatchReport) -> Line:
    """The line that says what the first screen of `patch` leaves out."""
    return line(f"--table has all {counted(len(report.cells), 'part')}, with the metric of each", "dim")


def parts(report: PatchReport) -> Iterator[Line | Table]:
    """All that `patch` found, for a page."""
    yield from texts(report)
    yield baseline(report)
    for direction in directions(report):
        yield finding(report, direction)
        yield table(report, direction, None)


def _path(report: PatchReport, parts: Sequence[CellRecord]) -> str | None:
    """Where the stream holds the difference, layer by layer; None where it is in no one place."""
    best = [max((each for each in parts if each.layer == layer), key=size) for layer in layers(parts)]
    if any(size(each) < ENOUGH for each in best):
        return None
    runs = [list(run) for _, run in groupby(best, key=lambda each: each.position)]
    return ", then ".join(f"{run[0].position} {_token(run[0], report)} before layer {run[0].layer}" for run in runs)


def _token(part: CellRecord, report: PatchReport) -> str:
    """The token that a part of the stream is of, as the text that is patched has it."""
    text = report.other_input if part.direction == "denoise" and report.other_input is not None else report.input
    own = text if report.stack == "encoder" or text.decoder is None else text.decoder
    return token_text(own.tokens[part.position or 0])


def _whole(report: PatchReport) -> str:
    return f"{'cross-' if report.cross else ''}{PARTS[report.sweep]}"


def _cells(part: CellRecord, report: PatchReport, top: float) -> list[Cell]:
    return [cell(short(part, report)), numeric(part.effect, 3), numeric(part.metric, 4), bar(size(part), top)]


def _tone(part: CellRecord, report: PatchReport) -> Tone:
    return "dim" if size(part) <= (report.noise.effect or 0.0) else "plain"
