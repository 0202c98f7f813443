"""Statistics of stored parameters, and how those of two checkpoints differ; imports no torch but for a pickle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from txinspect.answers import checkpoints, flaws
from txinspect.answers.checkpoints import StoredCheckpoint
from txinspect.answers.reporting import head
from txinspect.answers.session import Session
from txinspect.commands.params import (
    SMALLEST_FIRST,
    DifferenceRecord,
    MeasuredTensorRecord,
    MeasuredTotalsRecord,
    ParamsQuery,
    ParamsReport,
    SortKey,
)
from txinspect.measure import parameter_differences, parameters, pieces, spectra
from txinspect.queries import Notify
from txinspect.sources.config import number
from txinspect.sources.headers import StoredTensor
from txinspect.sources.tensors import TensorReader, is_coded
from txinspect.wording import short_bytes


def answer(query: ParamsQuery, session: Session) -> ParamsReport:
    """The report of `params`.

    Raises SourceError for files that are damaged or have no tensor in common, UsageError for a name that picks none.
    """
    session.notify(f"looking for {query.model.name}")
    here = checkpoints.of_choice(query.model, checkpoints.choosing(query.params))
    others = [checkpoints.of_other(query.model, name, here) for name in (query.diff, query.base) if name is not None]
    notes = checkpoints.notes(here, others)
    with pieces.threads() as pool:
        records = _records(here, query, pool, session.notify)
        if others:
            differences = _differences(here, others, pool, session.notify)
            records = [_with_difference(each, differences.get(each.name)) for each in records]
    findings = flaws.findings(records)
    return ParamsReport(
        **head("params", [*findings, *notes, *_comparison(records, others)]),
        model=here.model,
        findings=findings,
        tensors=_sorted(records, query.sort),
        totals=_totals(records, here, compared=bool(others)),
        checks=[flaws.check(records, kind) for kind in dict.fromkeys(query.fail_on)] if query.fail_on else None,
        params=list(query.params),
        sort=query.sort,
        other=query.diff,
        base=query.base,
    )


# What is measured


def _records(
    here: StoredCheckpoint, query: ParamsQuery, pool: ThreadPoolExecutor, notify: Notify
) -> list[MeasuredTensorRecord]:
    """A record of `params` for each stored parameter by itself: statistics, spectrum, padding row."""
    listed = list(here.tensors.values())
    size = short_bytes(sum(each.bytes for each in listed))
    with TensorReader() as reader:
        tensors = [_tensor(each, reader) for each in listed]
        measured = list(_told(parameters.measure(tensors, pool), listed, f"measuring {size}", notify))
        same = _identical(listed, measured, reader)
        spectral: list[Any] = [None] * len(tensors)
        if query.spectral:
            found = map(spectra.spectrum, tensors, measured)
            spectral = list(_told(found, listed, f"singular values of {size}", notify))
        config = here.config
        return [
            MeasuredTensorRecord(
                name=each.name,
                file=each.file.name,
                shape=list(each.shape),
                dtype=each.dtype,
                stats=found.stats,
                kurtosis=found.kurtosis,
                outliers=found.outliers,
                dead_rows=None if is_coded(each) else found.dead_rows,
                padding_row=_padding_row(each, found, config, reader),
                identical_to=same.get(each.name),
                spectral=spectrum,
                diff=None,
            )
            for each, found, spectrum in zip(listed, measured, spectral, strict=True)
        ]


def _differences(
    here: StoredCheckpoint, others: Sequence[StoredCheckpoint], pool: ThreadPoolExecutor, notify: Notify
) -> dict[str, DifferenceRecord]:
    """What `params` says of how each parameter differs from the other model's, and both from the base's."""
    other, names = others[0], checkpoints.in_common(here, others[0])
    bases = others[1].tensors if len(others) > 1 else {}
    with TensorReader() as first, TensorReader() as second, TensorReader() as third:
        pairs = [
            (
                _tensor(here.tensors[name], first),
                _tensor(other.tensors[name], second),
                _tensor(bases[name], third) if checkpoints.is_alike(here.tensors[name], bases.get(name)) else None,
            )
            for name in names
        ]
        listed = [here.tensors[name] for name in names]
        compared = _told(parameter_differences.compare(pairs, pool), listed, "comparing", notify)
        return dict(zip(names, compared, strict=True))


def _with_difference(record: MeasuredTensorRecord, difference: DifferenceRecord | None) -> MeasuredTensorRecord:
    from msgspec import structs

    return structs.replace(record, diff=difference)


def _tensor(each: StoredTensor, reader: TensorReader) -> pieces.Tensor:
    return pieces.Tensor(each.shape, reader.reading(each))


def _told(values: Iterator[Any], tensors: Sequence[StoredTensor], doing: str, notify: Notify) -> Iterator[Any]:
    """Results of `params`, saying how far it is whenever another twentieth of the bytes is done."""
    total, done, told = sum(each.bytes for each in tensors) or 1, 0, -1
    for each, value in zip(tensors, values, strict=True):
        done += each.bytes
        if (part := 20 * done // total) > told:
            told = part
            notify(f"{doing}: {5 * part} %")
        yield value


def _identical(
    tensors: Sequence[StoredTensor], measured: Sequence[parameters.Measured], reader: TensorReader
) -> dict[str, str]:
    """For `params`, the first tensor with the type, shape and bytes of a later one; read if their numbers are equal."""
    alike: dict[Any, list[StoredTensor]] = {}
    for each, found in zip(tensors, measured, strict=True):
        alike.setdefault((each.dtype, each.shape, repr(found)), []).append(each)
    first: dict[tuple[Any, bytes], str] = {}
    same = {}
    for key, group in alike.items():
        for each in group if len(group) > 1 else ():
            earlier = first.setdefault((key, reader.digest(each)), each.name)
            if earlier != each.name:
                same[each.name] = earlier
    return same


def _padding_row(
    each: StoredTensor, found: parameters.Measured, config: dict[str, Any], reader: TensorReader
) -> int | None:
    """For `params`, the padding token's row where it is all zero: torch makes and keeps it so in an embedding."""
    row, rows = config.get("pad_token_id"), number(config, "vocab_size")
    if not found.dead_rows or len(each.shape) != 2 or each.shape[0] != rows or is_coded(each):
        return None
    if not isinstance(row, int) or not 0 <= row < each.shape[0]:
        return None
    start = row * each.shape[1]
    return None if reader.reading(each)(start, start + each.shape[1]).any() else row


# What is said of it


def _comparison(records: Sequence[MeasuredTensorRecord], others: Sequence[StoredCheckpoint]) -> list[str]:
    """What `params` found in comparing two checkpoints' parameters, in sentences."""
    if not others:
        return []
    differing = [(each, each.diff) for each in records if each.diff]
    equal = [each for each, diff in differing if diff.equal]
    said = f"Equal in {others[0].source.name}: {len(equal)} of {len(differing)} tensors"
    apart_by = [(_distance(diff.rel_l2), each.name) for each, diff in differing if not diff.equal]
    if apart_by:
        distance, name = max(apart_by)
        by = f"by {distance:.3g} of its norm" if distance < float("inf") else "beyond its norm"
        said += f"; {name} differs most, {by}"
    notes = [said + "."]
    apart = [each for each in records if each.diff is None]
    if apart:
        notes.append(
            f"{len(apart)} tensors are not in {others[0].source.name} in the same shape, such as {apart[0].name}."
        )
    return notes


def _distance(rel_l2: float | None) -> float:
    """A distance for `params` to sort by; an undefined one, where a side is zero or no number, is beyond all others."""
    return float("inf") if rel_l2 is None or rel_l2 != rel_l2 else rel_l2


def _column(record: MeasuredTensorRecord, key: SortKey) -> float | None:
    """The number of a parameter's record that a sort key of `params` sorts by."""
    if key == "inf":
        return record.stats.posinf + record.stats.neginf
    if key == "rel_l2" and record.diff is not None and not record.diff.equal:
        return _distance(record.diff.rel_l2)
    for part in (record, record.stats, record.spectral, record.diff):
        if hasattr(part, key):
            found: float | None = getattr(part, key)
            return found
    return None


def _sorted(records: list[MeasuredTensorRecord], key: SortKey | None) -> list[MeasuredTensorRecord]:
    """Parameters' records by a sort key: what stands out first, without such a number last; else in order."""
    if key in (None, "name"):
        return records
    assert key is not None
    by: SortKey = key
    sign = 1 if key in SMALLEST_FIRST else -1

    def place(each: MeasuredTensorRecord) -> tuple[bool, float]:
        value = _column(each, by)
        return value is None, sign * (value or 0.0)

    return sorted(records, key=place)


def _totals(records: Sequence[MeasuredTensorRecord], here: StoredCheckpoint, *, compared: bool) -> MeasuredTotalsRecord:
    stats = [each.stats for each in records]
    differences = [each.diff for each in records if each.diff]
    return MeasuredTotalsRecord(
        tensors=len(records),
        files=len({each.file for each in here.tensors.values()}),
        numel=sum(each.numel for each in stats),
        bytes=sum(each.bytes for each in here.tensors.values()),
        zeros=sum(each.zeros for each in stats),
        nan=sum(each.nan for each in stats),
        inf=sum(each.posinf + each.neginf for each in stats),
        outliers=sum(each.outliers for each in records),
        dead_rows=sum(each.dead_rows or 0 for each in records),
        identical=sum(each.identical_to is not None for each in records),
        compared=len(differences) if compared else None,
        equal=sum(each.equal for each in differences) if compared else None,
    )
