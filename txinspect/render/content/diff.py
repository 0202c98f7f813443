"""What stands under `diff`: how far two ways of running are apart stage by stage, and what it changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite, log10

from txinspect.commands.diff import ChangedRecord, DiffReport, StageDiffRecord
from txinspect.render.content import heading, two_texts
from txinspect.render.spelling import number, or_dash, token_text, visible
from txinspect.render.tables import Cell, Column, Line, Row, Table, Tone, Words, bar, cell, line, numeric
from txinspect.stage_names import StageName
from txinspect.wording import predicted, some_of

FEW = 6
"""Stages on the first screen: of more, some of the layers' outputs and what is outside of them."""

CHANGED = 3
"""Predictions that are others, on the first screen."""

FLOOR = 1e-8
"""Where the bars begin, which are of the logarithm, if the tolerance is no more."""

MUCH = 0.1
"""A KL in nats, on average, from which predictions change much: each likely token's probability by a tenth of it."""

MANY = 0.25
"""Share of the predicted tokens from which predictions change much."""


def against(report: DiffReport) -> Iterator[Line]:
    """The lines that say what is on the other side of `diff`; another text is drawn under this side's."""
    if report.other_input is not None:
        return
    if report.against is not None:
        yield heading.against(report.against)
    if report.given is not None and report.way != "against":
        what = report.way.removeprefix("against_")
        yield Line([Words(f"against {what} ", "strong"), Words(visible(report.given), "text")])


def stages(report: DiffReport, *, everything: bool) -> Table:
    """The table of how far the two sides are apart at each stage; `everything`, or what stands on the first screen."""
    shown, title = report.stages, None
    few = _few(report)
    if len(shown) > few and not everything:
        shown = [each for each, said in named(shown) if _is_listed(said) or each.name == report.first_divergence]
        shown = _spread(shown, report.first_divergence, few) if len(shown) > few else shown
        title = f"{len(shown)} of {len(report.stages)} stages; --stage chooses others, --table has all"
    isolated = any(each.isolated_rel_l2 is not None for each in shown)
    rows: list[Row | Line] = []
    for each in shown:
        name = cell(visible(each.name), "bad" if each.name == report.first_divergence else "strong")
        alone = [numeric(each.isolated_rel_l2, 3)] if isolated else []
        apart = [numeric(each.rel_l2, 3), *alone, numeric(each.cosine, 7), numeric(each.max_abs, 3)]
        rows.append(Row([name, *apart, _bar(each, max(report.tolerance, FLOOR))]))
        if each.nan:
            rows.append(line(f"  {each.nan:,} numbers that are not finite", "bad"))
    titles = ["relative L2", *(["isolated"] if isolated else []), "cosine", "largest"]
    columns = [Column(each, right=True, whole=True, spread=each != "cosine") for each in titles]
    return Table([Column("stage"), *columns, Column("", whole=True)], rows, title)


def _few(report: DiffReport) -> int:
    """How many stages of `diff` the first screen has room for: the texts of two decoders take two lines."""
    return FEW - 2 if two_texts.has_decoders(report) else FEW


def _spread(stages: list[StageDiffRecord], first: str | None, few: int) -> list[StageDiffRecord]:
    """Some of many stages for the table of `diff`: the last ones, where the sides part, others evenly between."""
    step = -(-len(stages) // (few - 1))
    kept = {each.name for each in stages[(len(stages) - 1) % step :: step]}
    return [each for each in stages if each.name in kept or each.name == first]


def named(stages: Sequence[StageDiffRecord]) -> list[tuple[StageDiffRecord, StageName]]:
    """Stages of `diff`, each with what its name says."""
    return [(each, StageName.of(each.name)) for each in stages]


def _is_listed(said: StageName) -> bool:
    """Whether a stage is listed in `diff` among many: outside of layers, or a layer's output, of whichever run."""
    return said.layer is None or said.part == "output"


def _bar(stage: StageDiffRecord, tolerance: float) -> Cell:
    """The bar of how far a stage of `diff` is apart: the logarithm of the distance, from the tolerance to 1."""
    if not stage.rel_l2 or stage.rel_l2 <= tolerance or tolerance >= 1:
        return Cell()
    return bar(min(0.0, log10(stage.rel_l2)) - log10(tolerance), -log10(tolerance))


def tone(report: DiffReport) -> Tone:
    """The tone of the verdict of `diff`: bad where predictions change much, good where nothing is apart."""
    if report.first_divergence is None:
        return "good"
    logits = report.logits
    if logits is None or logits.kl_mean is None or not isfinite(logits.kl_mean):
        return "found" if logits is None else "bad"
    return "bad" if logits.kl_mean > MUCH or 1 - logits.same_top1 > MANY else "found"


def tolerance(report: DiffReport) -> Line:
    """The line about the tolerance of `diff`: how far apart is far."""
    how = "as asked" if report.noise is None else "3 × this side's own noise"
    bars = "; bars from it to 1, logarithmic" if report.first_divergence is not None else ""
    return line(f"tolerance {number(report.tolerance, 3)}, {how}{bars}", "dim")


def predictions(report: DiffReport) -> Line | None:
    """The line about how far the predictions of the two sides are apart."""
    logits = report.logits
    if logits is None:
        return None
    ratio = logits.ln_perplexity_ratio
    of_perplexity = "" if ratio is None else f" · ln perplexity ratio {number(ratio, 3)}"
    same = f"same {predicted(report.model.task)} token {logits.same_top1:.0%}{of_perplexity}"
    return line(
        f"KL of the predictions in nats: mean {number(logits.kl_mean, 3)}, median {number(logits.kl_median, 3)}, "
        f"99 % {number(logits.kl_p99, 3)}, largest {number(logits.kl_max, 3)} · {same}"
    )


def more(report: DiffReport) -> Line | None:
    """The line that says what the first screen of `diff` leaves out."""
    left_out = ["all stages"] if len(report.stages) > _few(report) else []
    left_out += ["all predictions that change"] if len(report.changed) > CHANGED else []
    return line(f"--table has {' and '.join(left_out)}", "dim") if left_out else None


def first_changed(report: DiffReport) -> Line | None:
    """The line about the first predictions that differ between the two sides."""
    if not report.changed:
        return None
    said = []
    for each in report.changed[:CHANGED]:
        this, other = (or_dash(None if word is None else visible(word, spaces=True)) for word in (each.from_, each.to))
        said.append(f"{_at(report)} {_place(report, each)} {this} → {other}")
    more = len(report.changed) - len(said)
    return line(
        f"{predicted(report.model.task)} tokens that change: {', '.join(said)}{f', and {more} more' if more else ''}"
    )


def _place(report: DiffReport, changed: ChangedRecord) -> str:
    """The token after which the sides of `diff` predict others, and the other side's where it is another."""
    token = token_text(report.input.main.tokens[changed.position])
    place = f"{changed.position} {token}"
    if report.other_input is None:
        return place
    where = changed.position if changed.other_position is None else changed.other_position
    other = token_text(report.other_input.main.tokens[where])
    parts = [str(where)] if where != changed.position else []
    parts += [other] if other != token else []
    return f"{place} (there {' '.join(parts)})" if parts else place


def _at(report: DiffReport) -> str:
    return "at" if report.model.task == "masked-lm" else "after"


def changed(report: DiffReport) -> Table | None:
    """The table of the predictions that differ between the two sides."""
    rows = []
    for each in report.changed:
        words = [None if word is None else visible(word, spaces=True) for word in (each.from_, each.to)]
        rows.append(Row([cell(_place(report, each)), *(cell(or_dash(word), "token") for word in words)]))
    title = f"{predicted(report.model.task)} tokens that change"
    return Table([Column(_at(report)), Column("this side"), Column("other side")], rows, title) if rows else None


def only(report: DiffReport) -> Iterator[Line]:
    """The lines about stages that one side of `diff` alone has."""
    for names, side in ((report.only_this, "this side"), (report.only_other, "the other side")):
        if names:
            yield line(f"only on {side}, or in another shape: {visible(some_of(names, 6))}", "warning")
