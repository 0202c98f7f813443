"""NaN and infinities among what was recorded: found without being asked for, and what --fail-on fails on."""

from __future__ import annotations

from collections.abc import Sequence

from txinspect.queries import Unsound
from txinspect.records import CheckRecord, StatsRecord, TensorRecord


def findings(records: Sequence[TensorRecord]) -> list[str]:
    """A sentence where a recorded tensor has NaN or infinities, about the first one in the order of the pass."""
    unsound = [record for record in records if _count(record.stats, "nan") or _count(record.stats, "inf")]
    if not unsound:
        return []
    stats = unsound[0].stats
    parts = [_words(stats, kind) for kind in ("nan", "inf") if _count(stats, kind)]
    return [
        f"Not every number is finite: {unsound[0].name} has {' and '.join(parts)} among its {stats.numel:,} values"
        f"{_after(unsound)}."
    ]


def checks(records: Sequence[TensorRecord], kinds: Sequence[Unsound]) -> list[CheckRecord]:
    """For each kind of unsound number, NaN or infinite, the check of --fail-on that no recorded tensor holds one."""
    return [_check(records, kind) for kind in dict.fromkeys(kinds)]


def _check(records: Sequence[TensorRecord], kind: Unsound) -> CheckRecord:
    unsound = [record for record in records if _count(record.stats, kind)]
    detail = f"no recorded tensor has {'NaN' if kind == 'nan' else 'infinite values'}"
    if unsound:
        stats = unsound[0].stats
        detail = f"{unsound[0].name} has {_words(stats, kind)} among its {stats.numel:,} values{_after(unsound)}"
    return CheckRecord(name=kind, passed=not unsound, detail=detail)


def _count(stats: StatsRecord, kind: Unsound) -> int:
    return stats.nan if kind == "nan" else stats.posinf + stats.neginf


def _words(stats: StatsRecord, kind: Unsound) -> str:
    return f"{_count(stats, kind):,} {'NaN' if kind == 'nan' else 'infinite'}"


def _after(unsound: Sequence[TensorRecord]) -> str:
    """How many of the recorded tensors after the first unsound one have NaN or infinities, too."""
    more = len(unsound) - 1
    return f", and {more} of those after it {'has' if more == 1 else 'have'} some, too" if more else ""
