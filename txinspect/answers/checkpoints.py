"""The tensors of a checkpoint as they are stored, for params: which are asked for, which two have in common, what the
files say of them. No torch."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from txinspect.errors import SourceError, UsageError, spelled
from txinspect.globs import is_glob, matching
from txinspect.loading import describing
from txinspect.model_choice import ModelChoice
from txinspect.nearest import nearest
from txinspect.records import ModelRecord
from txinspect.sources.adapter import Adapter, is_adapter
from txinspect.sources.gguf_header import read_header
from txinspect.sources.headers import StoredTensor, stored
from txinspect.sources.names import ADAPTER_CONFIG
from txinspect.sources.places import Folder
from txinspect.sources.resolving import resolve
from txinspect.sources.source import Source
from txinspect.sources.tensors import is_coded, is_readable
from txinspect.wording import some_of


@dataclass(frozen=True)
class StoredCheckpoint:
    """A model's tensors as they are stored."""

    source: Source
    tensors: dict[str, StoredTensor]
    """By name, in the order in which a person counts; of types that can be read."""
    unread: list[StoredTensor]
    """Of types that cannot."""

    @property
    def config(self) -> dict[str, Any]:
        """For `params`, a checkpoint's config.json; empty where none can be read, which its tensors do not need."""
        try:
            return {} if self.source.adapter else self.source.config
        except SourceError:
            return {}

    @property
    def quantization(self) -> str | None:
        """For `params`, how config.json says that a checkpoint's weights are stored."""
        found = self.config.get("quantization_config")
        if not isinstance(found, dict):
            return None
        method = found.get("quant_method")
        if method in (None, "bitsandbytes"):
            return "bitsandbytes, 4 bits" if found.get("load_in_4bit") else "bitsandbytes, 8 bits"
        return str(method)

    @property
    def model(self) -> ModelRecord:
        """The model of a checkpoint, as far as its files tell without torch; weights need no config.json."""
        from msgspec import structs

        record = describing.unbuilt_model_record(self.source, self.config)
        if self.source.is_one_file and self.source.path:
            settings = read_header(self.source.path).settings
            kind = settings.get("general.architecture")
            layers = settings.get(f"{kind}.block_count")
            return structs.replace(record, model_type=kind, num_hidden_layers=layers)
        return structs.replace(record, quantization=self.quantization)


def choosing(patterns: Sequence[str]) -> Callable[[list[str]], list[str]]:
    """What picks a checkpoint's tensors for `params` by patterns; raises UsageError for one that picks none."""

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
    """Names of a checkpoint's tensors that look like a pattern of `params` which picks none."""
    core = pattern.strip("*.")
    for whole in (f"**.{core}", f"**{core}**") if core else ():
        if ending := matching(whole, names):
            return f"{whole!r} picks {some_of(ending)}"
    near = nearest(pattern.replace("*", ""), names) or sorted(names, key=natural_order)[:3]
    return f"there are {some_of(near)}" if near else "there are none"


def of_choice(choice: ModelChoice, choose: Callable[[list[str]], Collection[str]] | None) -> StoredCheckpoint:
    """The stored tensors of a checkpoint, a model's or an adapter's, that `params` is asked for."""
    source = _source(choice)
    found = source.adapter.files if source.adapter else source.weights(choose).files
    tensors = {each.name: each for each in stored(found)}
    if not tensors:
        raise SourceError(f"{source.name!r} holds no tensors: its weight files are empty")
    kept = sorted(choose(list(tensors)) if choose else tensors, key=natural_order)
    readable = {name: tensors[name] for name in kept if is_readable(tensors[name])}
    return StoredCheckpoint(source, readable, [tensors[name] for name in kept if name not in readable])


def _source(choice: ModelChoice) -> Source:
    """Where the files of a checkpoint for `params` are; an adapter's own, which need neither peft nor the base."""
    folder = Path(choice.name).expanduser()
    if folder.is_dir() and is_adapter(folder):
        adapter = Adapter(choice.name, folder, _base_of(folder))
        if not adapter.files:
            raise SourceError(f"the adapter {choice.name!r} has no weights in {folder}")
        return Source(choice.name, Folder(folder), adapter)
    return resolve(choice)


def _base_of(folder: Path) -> str | None:
    """The base model that the config of an adapter's checkpoint names; None if it cannot be told."""
    try:
        base = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return base if isinstance(base, str) else None


def natural_order(name: str) -> list[tuple[int, str]]:
    """The order by name of a checkpoint's tensors for `params`, with numbers in names as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def of_other(choice: ModelChoice, name: str, here: StoredCheckpoint) -> StoredCheckpoint:
    """The tensors of another checkpoint that `params` compares by name. Raises SourceError if there are none."""
    seen: list[str] = []

    def choose(names: list[str]) -> list[str]:
        seen.extend(names)
        return [each for each in names if each in here.tensors]

    found = of_choice(replace(choice, name=name, revision=None), choose)
    if not found.tensors:
        raise SourceError(
            f"{here.source.name!r} and {name!r} have no tensor in common: the first has "
            f"{some_of(list(here.tensors), 2)}, the second {some_of(sorted(set(seen), key=natural_order), 2)}; "
            f"compare checkpoints of one architecture in one format"
        )
    if not in_common(here, found):
        one = next(iter(found.tensors.values()))
        raise SourceError(
            f"{here.source.name!r} and {name!r} have no tensor of the same shape in common: {one.name} is "
            f"{list(here.tensors[one.name].shape)} in the first and {list(one.shape)} in the second; compare "
            f"checkpoints of one architecture"
        )
    return found


def in_common(here: StoredCheckpoint, other: StoredCheckpoint) -> list[str]:
    """The names of tensors that two checkpoints of `params` both have in one shape."""
    return [name for name, each in here.tensors.items() if is_alike(each, other.tensors.get(name))]


def is_alike(here: StoredTensor, other: StoredTensor | None) -> bool:
    """Whether the other checkpoint of `params` has this tensor, in the same shape."""
    return other is not None and other.shape == here.shape


def notes(here: StoredCheckpoint, others: Sequence[StoredCheckpoint]) -> list[str]:
    """What to know of the checkpoints that `params` reads: of adapters, and of how weights are stored."""
    said = []
    if here.source.adapter:
        base = here.source.adapter.base
        base = f": see 'txinspect params {base}'" if base else ""
        said.append(f"{here.source.name} is an adapter: these are its own tensors, without those of its base{base}.")
    for each in (here, *others):
        said += [f"{each.source.name}: {sentence}" for sentence in _storage(each)]
    return said


def _storage(here: StoredCheckpoint) -> Iterator[str]:
    """That what a checkpoint for `params` stores is not the weights themselves."""
    method = here.quantization
    coded = [each for each in here.tensors.values() if is_coded(each)]
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
