"""What a comparison comes to: the tolerance, where the sides part, in a sentence, and what is checked."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from txinspect.answers.differences.comparison import OTHER, Comparison
from txinspect.answers.observing import Observation
from txinspect.commands.diff import LogitsDiffRecord, StageDiffRecord, parsed
from txinspect.errors import InspectError, spelled
from txinspect.records import CheckRecord
from txinspect.wording import predicted

WITHIN_NOISE = 3.0
"""Sides part where they are so many times the noise apart."""


def tolerance_of(comparison: Comparison) -> float:
    """The tolerance of a comparison: how far apart stages may be before its verdict says that they part."""
    if comparison.query.tolerance is not None:
        return comparison.query.tolerance
    return WITHIN_NOISE * (comparison.noise or 0.0)


def first_apart(stages: Sequence[StageDiffRecord], tolerance: float) -> str | None:
    """The stage where the two sides part: the first that is farther apart than the tolerance."""
    return next((each.name for each in stages if _parts(each, tolerance)), None)


def finding(comparison: Comparison, stages: Sequence[StageDiffRecord], first: str | None, tolerance: float) -> str:
    """The verdict on two sides in a sentence: where they part, and what it changes."""
    if all(not each.max_abs and not each.nan for each in stages):
        if comparison.alignment is not None and not comparison.alignment.is_whole:
            return "The two sides are equal to the last bit where their tokens are aligned."
        if comparison.widths is None:
            return "The two sides are equal to the last bit."
        return f"The two sides are equal to the last bit where both are: {comparison.widths}; {_changes(comparison)}."
    where = f"No stage is farther apart than the tolerance, {tolerance:.2g}"
    if first is not None:
        stage = next(each for each in stages if each.name == first)
        by = "numbers that are not finite" if stage.nan or stage.rel_l2 is None else f"{stage.rel_l2:.2g} relative L2"
        where = f"The sides part at {first} ({by})"
    if comparison.logits is None:
        return where + "."
    mean = comparison.logits.kl_mean
    divergence = f", KL {mean:.2g} nats on average" if mean is not None and isfinite(mean) else ""
    return f"{where}; {_changes(comparison)}{divergence}."


def _changes(comparison: Comparison) -> str:
    """How many predictions change between the two sides, in words for the verdict."""
    count, what = len(comparison.compared_positions), predicted(comparison.subject.task.name)
    if not comparison.changed:
        return f"no {what} token changes"
    return f"{len(comparison.changed)} of {count} {what} tokens change"


def checks(
    comparison: Comparison, stages: Sequence[StageDiffRecord], this: Observation, other: Observation | None
) -> list[CheckRecord] | None:
    """The checks of a comparison: --check on each side, and --fail-on between them; None where neither was asked."""
    from msgspec import structs

    if not comparison.query.check and not comparison.query.fail_on:
        return None
    others = (other.checks if other else None) or []
    return [
        *(this.checks or []),
        *(structs.replace(each, name=OTHER + each.name, detail=f"other side: {each.detail}") for each in others),
        *(_check(test, stages, comparison.logits, len(comparison.changed)) for test in comparison.query.fail_on),
    ]


def _parts(stage: StageDiffRecord, tolerance: float) -> bool:
    """Whether a stage is farther apart than the tolerance; one that is not finite on a side is."""
    return bool(stage.nan) or (stage.rel_l2 is None and bool(stage.max_abs)) or (stage.rel_l2 or 0.0) > tolerance


def _check(test: str, stages: Sequence[StageDiffRecord], logits: LogitsDiffRecord | None, changed: int) -> CheckRecord:
    """The check that a test of --fail-on, such as rel_l2>1e-2, holds at no stage of a comparison."""
    field_, sign, bound = parsed(test)
    values: dict[str, float | None]
    if field_ == "changed":
        values = {} if logits is None else {"next tokens": float(changed)}
    elif field_.startswith("kl_"):
        values = {"logits": getattr(logits, field_, None)}
    else:
        values = {stage.name: float("inf") if stage.nan else getattr(stage, field_) for stage in stages}
    if all(value is None for value in values.values()):
        raise InspectError(f"{spelled('fail_on', test)} was not measured: compare logits, or the stages that have it")
    known = {name: value for name, value in values.items() if value is not None}
    # A number that is none is no small distance.
    over = {name: each for name, each in known.items() if not each <= bound or (sign == ">=" and each == bound)}
    if over:
        name = next(iter(over))
        detail = f"{field_} is {over[name]:.3g} in {name}, the first of {len(over)} where {test}"
    else:
        detail = f"{field_} is at most {max(known.values(), default=0.0):.3g}"
    return CheckRecord(name=field_, passed=not over, detail=detail)
