"""What is wrong with stored numbers: kinds of flaws, a sentence for each, and the checks that fail on them."""

from __future__ import annotations

from collections.abc import Sequence

from txinspect.commands.params import Flaw, MeasuredTensorRecord
from txinspect.records import CheckRecord
from txinspect.wording import counted


def findings(records: Sequence[MeasuredTensorRecord]) -> list[str]:
    """The flaws that `params` finds in stored numbers, a sentence for each kind: NaN, infinities, zeros, dead rows."""
    found = []
    for kind, what in (("nan", "NaN"), ("inf", "infinite values")):
        having = [(each, _flaw(each, kind)) for each in records if _flaw(each, kind)]
        if having:
            first, count = having[0]
            total = sum(each for _, each in having)
            named = f"{first.name} holds {count:,} {what}" if len(having) == 1 else ""
            found.append(
                f"{named}." if named else f"{len(having)} tensors hold {what}, {total:,} in all, such as {first.name}."
            )
    zero = [each for each in records if len(each.shape) > 1 and _flaw(each, "zero")]
    if zero:
        found.append(
            f"{zero[0].name} is all zeros."
            if len(zero) == 1
            else f"{len(zero)} matrices are all zeros, such as {zero[0].name}."
        )
    dead = [each for each in records if each.dead and each not in zero]
    if dead:
        rows = counted(sum(each.dead for each in dead), "dead row")
        found.append(
            f"{dead[0].name} has {rows}."
            if len(dead) == 1
            else f"{len(dead)} tensors have {rows} in all, such as {dead[0].name} ({dead[0].dead:,})."
        )
    same = [each for each in records if each.identical_to and each.stats.std]
    if same:
        found.append(
            f"{same[0].name} is identical to {same[0].identical_to}."
            if len(same) == 1
            else f"{len(same)} tensors are identical to another, such as {same[0].name} to {same[0].identical_to}."
        )
    return found


def _flaw(record: MeasuredTensorRecord, kind: str) -> int:
    """How much of a kind of flaw a stored tensor has; 0 if it is without."""
    stats = record.stats
    return {
        "nan": stats.nan,
        "inf": stats.posinf + stats.neginf,
        "zero": stats.numel if stats.zeros == stats.numel else 0,
        "dead": record.dead,
    }[kind]


_FLAWS = {"nan": "NaN", "inf": "infinite values", "zero": "nothing but zeros", "dead": "dead rows"}


def check(records: Sequence[MeasuredTensorRecord], kind: Flaw) -> CheckRecord:
    """The check that no stored tensor has a kind of flaw."""
    having = [each for each in records if _flaw(each, kind)]
    detail = f"no tensor has {_FLAWS[kind]}"
    if having:
        count = "" if kind == "zero" else f"{_flaw(having[0], kind):,} "
        detail = f"{having[0].name} has {count}{_FLAWS[kind]}"
        more = len(having) - 1
        detail += f", and {more} more tensor{'' if more == 1 else 's'}" if more else ""
    return CheckRecord(name=kind, passed=not having, detail=detail)
