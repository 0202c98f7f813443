"""Statistics of stored parameters, and how those of two checkpoints differ; imports no torch but for a pickle."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from txinspect.answers.reporting import head
from txinspect.commands.params import (
    SMALLEST_FIRST,
    DifferenceRecord,
    Flaw,
    MeasuredTensorRecord,
    MeasuredTotalsRecord,
    ParamsQuery,
    ParamsReport,
    SortKey,
)
from txinspect.errors import SourceError, UsageError, spelled
from txinspect.measure import parameters
from txinspect.models import describing
from txinspect.queries import ModelChoice, Notify
from txinspect.records import CheckRecord, ModelRecord
from txinspect.sources import checkpoint
from txinspect.sources.config import number
from txinspect.sources.gguf_header import read_header
from txinspect.sources.headers import StoredTensor, stored
from txinspect.sources.names import ADAPTER_CONFIG
from txinspect.sources.source import Source, is_adapter, resolve
from txinspect.sources.tensors import WHOLE_NUMBERS, TensorReader, is_readable
from txinspect.stages import is_glob, matching, nearest
from txinspect.wording import counted, short_bytes, some_of


@dataclass(frozen=True)
class _Checkpoint:
    """A model's tensors as they are stored."""

    source: Source
    tensors: dict[str, StoredTensor]
    """By name, in the order in which a person counts; of types that can be read."""
    unread: list[StoredTensor]
    """Of types that cannot."""


def answer(query: ParamsQuery, notify: Notify) -> ParamsReport:
    """The report of `params`.

    Raises SourceError for files that are damaged or have no tensor in common, UsageError for a name that picks none.
    """
    choose = _choosing(query.params)
    notify(f"looking for {query.model.name}")
    here = _checkpoint(query.model, choose)
    others = [_other(query.model, name, here) for name in (query.diff, query.base) if name is not None]
    notes = _notes(here, others)
    with TensorReader() as reader, TensorReader() as second, TensorReader() as third, parameters.threads() as pool:
        stored_here = list(here.tensors.values())
        tensors = [_tensor(each, reader) for each in stored_here]
        size = short_bytes(sum(each.bytes for each in stored_here))
        measured = list(_told(parameters.measure(tensors, pool), stored_here, f"measuring {size}", notify))
        same = _identical(stored_here, measured, reader)
        spectra: list[Any] = [None] * len(tensors)
        if query.spectral:
            found = map(parameters.spectrum, tensors, measured)
            spectra = list(_told(found, stored_here, f"singular values of {size}", notify))
        differences: dict[str, DifferenceRecord] = {}
        if others:
            names = _in_common(here, others[0])
            bases = others[1].tensors if len(others) > 1 else {}
            pairs = [
                (
                    _tensor(here.tensors[name], reader),
                    _tensor(others[0].tensors[name], second),
                    _tensor(bases[name], third) if _alike(here.tensors[name], bases.get(name)) else None,
                )
                for name in names
            ]
            compared = parameters.compare(pairs, pool)
            listed = [here.tensors[name] for name in names]
            differences = dict(zip(names, _told(compared, listed, "comparing", notify), strict=True))
        config = _config(here.source)
        records = [
            MeasuredTensorRecord(
                name=each.name,
                file=each.file.name,
                shape=list(each.shape),
                dtype=each.dtype,
                stats=found.stats,
                kurtosis=found.kurtosis,
                outliers=found.outliers,
                dead_rows=None if _is_coded(each) else found.dead_rows,
                padding_row=_padding_row(each, found, config, reader),
                identical_to=same.get(each.name),
                spectral=spectrum,
                diff=differences.get(each.name),
            )
            for each, found, spectrum in zip(stored_here, measured, spectra, strict=True)
        ]
    findings = _findings(records)
    return ParamsReport(
        **head("params", [*findings, *notes, *_comparison(records, others)]),
        model=_model_record(here.source),
        findings=findings,
        tensors=_sorted(records, query.sort),
        totals=_totals(records, here, compared=bool(others)),
        checks=[_check(records, kind) for kind in dict.fromkeys(query.fail_on)] if query.fail_on else None,
        params=list(query.params),
        sort=query.sort,
        other=query.diff,
        base=query.base,
    )


# What is measured


def _choosing(patterns: Sequence[str]) -> Callable[[list[str]], list[str]]:
    """What picks the names that patterns mean; raises UsageError for one that means none."""

    def choose(names: list[str]) -> list[str]:
        if not patterns:
            return names
        picked = set()
        for pattern in patterns:
            found = matching(pattern, names) if is_glob(pattern) else [name for name in names if name == pattern]
            if not found:
                raise UsageError(f"{spelled('params')} {pattern!r} picks no tensor: {_advice(pattern, names)}")
            picked.update(found)
        return [name for name in names if name in picked]

    return choose


def _advice(pattern: str, names: Sequence[str]) -> str:
    """Names that are there and look like what was asked for."""
    core = pattern.strip("*.")
    for whole in (f"**.{core}", f"**{core}**") if core else ():
        if ending := matching(whole, names):
            return f"{whole!r} picks {some_of(ending)}"
    near = nearest(pattern.replace("*", ""), names) or sorted(names, key=_natural)[:3]
    return f"there are {some_of(near)}" if near else "there are none"


def _checkpoint(choice: ModelChoice, choose: Callable[[list[str]], Collection[str]] | None) -> _Checkpoint:
    """The tensors of a model, or of an adapter, that are asked for."""
    source = _source(choice)
    found = source.adapter_files if source.adapter else checkpoint.find(source, choose).files
    tensors = {each.name: each for each in stored(found)}
    if not tensors:
        raise SourceError(f"{source.name!r} holds no tensors: its weight files are empty")
    kept = sorted(choose(list(tensors)) if choose else tensors, key=_natural)
    readable = {name: tensors[name] for name in kept if is_readable(tensors[name])}
    return _Checkpoint(source, readable, [tensors[name] for name in kept if name not in readable])


def _source(choice: ModelChoice) -> Source:
    """Where the files are; of an adapter its own, for which neither peft nor the base is needed."""
    folder = Path(choice.name).expanduser()
    if folder.is_dir() and is_adapter(folder):
        source = Source(choice.name, "directory", folder, adapter=folder, base=_base_of(folder))
        if not source.adapter_files:
            raise SourceError(f"the adapter {choice.name!r} has no weights in {folder}")
        return source
    return resolve(choice)


def _base_of(folder: Path) -> str | None:
    """The base model that an adapter's config names; None if it cannot be told."""
    try:
        base = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return base if isinstance(base, str) else None


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts names with numbers in them as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _tensor(each: StoredTensor, reader: TensorReader) -> parameters.Tensor:
    return parameters.Tensor(each.shape, reader.reading(each))


def _told(values: Iterator[Any], tensors: Sequence[StoredTensor], doing: str, notify: Notify) -> Iterator[Any]:
    """The values, saying how far they are whenever another twentieth of the bytes is done."""
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
    """The first tensor with the same type, shape and bytes as a later one; only those with equal numbers are read."""
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


# Another checkpoint


def _other(choice: ModelChoice, name: str, here: _Checkpoint) -> _Checkpoint:
    """The other model's tensors of the names that are measured here. Raises SourceError if there are none."""
    seen: list[str] = []

    def choose(names: list[str]) -> list[str]:
        seen.extend(names)
        return [each for each in names if each in here.tensors]

    found = _checkpoint(replace(choice, name=name, revision=None), choose)
    if not found.tensors:
        raise SourceError(
            f"{here.source.name!r} and {name!r} have no tensor in common: the first has "
            f"{some_of(list(here.tensors), 2)}, the second {some_of(sorted(set(seen), key=_natural), 2)}; "
            f"compare checkpoints of one architecture in one format"
        )
    if not _in_common(here, found):
        one = next(iter(found.tensors.values()))
        raise SourceError(
            f"{here.source.name!r} and {name!r} have no tensor of the same shape in common: {one.name} is "
            f"{list(here.tensors[one.name].shape)} in the first and {list(one.shape)} in the second; compare "
            f"checkpoints of one architecture"
        )
    return found


def _in_common(here: _Checkpoint, other: _Checkpoint) -> list[str]:
    return [name for name, each in here.tensors.items() if _alike(each, other.tensors.get(name))]


def _alike(here: StoredTensor, other: StoredTensor | None) -> bool:
    return other is not None and other.shape == here.shape


# What is said of it


def _notes(here: _Checkpoint, others: Sequence[_Checkpoint]) -> list[str]:
    """What to know of the files."""
    notes = []
    if here.source.adapter:
        base = f": see 'txinspect params {here.source.base}'" if here.source.base else ""
        notes.append(f"{here.source.name} is an adapter: these are its own tensors, without those of its base{base}.")
    for each in (here, *others):
        notes += [f"{each.source.name}: {sentence}" for sentence in _storage(each)]
    return notes


def _storage(here: _Checkpoint) -> Iterator[str]:
    """That what is stored is not the weights themselves."""
    method = _quantization(here.source)
    coded = [each for each in here.tensors.values() if _is_coded(each)]
    scaled = [each for each in here.tensors.values() if each.dtype.startswith("float8")]
    if method and (coded or scaled):
        kinds = some_of(sorted({each.dtype for each in coded or scaled}))
        what = "codes, packed or not," if coded else "values without their scales"
        yield (
            f"stored quantized ({method}): {len(coded or scaled)} {kinds} tensors are measured as the {what} that the "
            f"file holds, not as the weights they stand for."
        )
    blocks = Counter(each.dtype for each in here.tensors.values() if each.dtype.isupper())
    if blocks:
        yield f"blocks ({some_of(list(blocks), 6)}) are measured as the numbers that they stand for."
    if here.unread:
        kinds = some_of(sorted({each.dtype for each in here.unread}))
        yield (
            f"{len(here.unread)} tensors are left out, since numbers of type {kinds} cannot be read, such as "
            f"{here.unread[0].name}."
        )


def _config(source: Source) -> dict[str, Any]:
    """config.json; empty where there is none that can be read, without which the tensors are there all the same."""
    try:
        return {} if source.adapter else source.config
    except SourceError:
        return {}


def _quantization(source: Source) -> str | None:
    """How config.json says that the weights are stored."""
    found = _config(source).get("quantization_config")
    if not isinstance(found, dict):
        return None
    method = found.get("quant_method")
    if method in (None, "bitsandbytes"):
        return "bitsandbytes, 4 bits" if found.get("load_in_4bit") else "bitsandbytes, 8 bits"
    return str(method)


def _padding_row(
    each: StoredTensor, found: parameters.Measured, config: dict[str, Any], reader: TensorReader
) -> int | None:
    """The padding token's row, where it is all zero: torch makes and keeps it so in an embedding."""
    row, rows = config.get("pad_token_id"), number(config, "vocab_size")
    if not found.dead_rows or len(each.shape) != 2 or each.shape[0] != rows or _is_coded(each):
        return None
    if not isinstance(row, int) or not 0 <= row < each.shape[0]:
        return None
    start = row * each.shape[1]
    return None if reader.reading(each)(start, start + each.shape[1]).any() else row


def _is_coded(each: StoredTensor) -> bool:
    return each.dtype in WHOLE_NUMBERS


def _model_record(source: Source) -> ModelRecord:
    """The model, as far as its files tell without torch; a folder of weights needs no config.json."""
    from msgspec import structs

    record = describing.unbuilt_model_record(source, _config(source))
    if source.gguf_file and source.path:
        settings = read_header(source.path).settings
        kind = settings.get("general.architecture")
        layers = settings.get(f"{kind}.block_count")
        return structs.replace(record, model_type=kind, num_hidden_layers=layers)
    return structs.replace(record, quantization=_quantization(source))


def _findings(records: Sequence[MeasuredTensorRecord]) -> list[str]:
    """What is wrong with the numbers, a sentence for each kind."""
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
    """How much of a flaw a tensor has; 0 if it is without."""
    stats = record.stats
    return {
        "nan": stats.nan,
        "inf": stats.posinf + stats.neginf,
        "zero": stats.numel if stats.zeros == stats.numel else 0,
        "dead": record.dead,
    }[kind]


_FLAWS: dict[str, str] = {
    "nan": "{count:,} NaN",
    "inf": "{count:,} infinite values",
    "zero": "nothing but zeros",
    "dead": "{count:,} dead rows",
}


def _check(records: Sequence[MeasuredTensorRecord], kind: Flaw) -> CheckRecord:
    """Whether no tensor has a flaw."""
    having = [each for each in records if _flaw(each, kind)]
    what = {"nan": "NaN", "inf": "infinite values", "zero": "nothing but zeros", "dead": "dead rows"}[kind]
    detail = f"no tensor has {what}"
    if having:
        detail = f"{having[0].name} has {_FLAWS[kind].format(count=_flaw(having[0], kind))}"
        more = len(having) - 1
        detail += f", and {more} more tensor{'' if more == 1 else 's'}" if more else ""
    return CheckRecord(name=kind, passed=not having, detail=detail)


def _comparison(records: Sequence[MeasuredTensorRecord], others: Sequence[_Checkpoint]) -> list[str]:
    """What a comparison comes to."""
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
    """A distance to sort by; one that is undefined, since one side is zero or no number, is beyond all others."""
    return float("inf") if rel_l2 is None or rel_l2 != rel_l2 else rel_l2


def _column(record: MeasuredTensorRecord, key: SortKey) -> float | None:
    """The number that a key sorts by."""
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
    """What stands out first, and what has no such number last; the order stays among equals."""
    if key in (None, "name"):
        return records
    assert key is not None
    by: SortKey = key
    sign = 1 if key in SMALLEST_FIRST else -1

    def place(each: MeasuredTensorRecord) -> tuple[bool, float]:
        value = _column(each, by)
        return value is None, sign * (value or 0.0)

    return sorted(records, key=place)


def _totals(records: Sequence[MeasuredTensorRecord], here: _Checkpoint, *, compared: bool) -> MeasuredTotalsRecord:
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
