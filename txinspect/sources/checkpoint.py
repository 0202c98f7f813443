"""The files that hold a model's weights, one or in shards: what an index says of them, and whether they can be read."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from txinspect import opening
from txinspect.errors import SourceError
from txinspect.sources import torch_files
from txinspect.sources.headers import StoredTensor, stored
from txinspect.sources.names import SAFETENSORS_FILES, TORCH_FILES
from txinspect.wording import shown, some_of

_PICKLE = b"\x80"


@dataclass(frozen=True)
class Wanted:
    """The weights of a model that are looked for."""

    model: str
    """The model's name, for sentences."""
    named: str | None = None
    """The file, or the index of shards, that its config.json names; None where it names none."""

    @property
    def files(self) -> tuple[str, ...]:
        """The weight files of a checkpoint that transformers looks for, in its order."""
        return SAFETENSORS_FILES + TORCH_FILES if self.named is None else (self.named,)


@dataclass(frozen=True)
class WeightFiles:
    """The weight files of a checkpoint that are to be read."""

    folder: Path
    files: list[Path]
    index: Path | None = None
    """The index of a checkpoint of which only these shards are here, or that transformers cannot read as it is."""

    def all_names(self) -> list[str]:
        """The names of the checkpoint's tensors: those in the files, or those that the index tells of."""
        return list(weight_map(self.index)) if self.index else [tensor.name for tensor in stored(self.files)]


Choose = Callable[[list[str]], Collection[str]]
"""Given the names of a checkpoint's tensors, those that are wanted."""


def shards_of(by_tensor: dict[str, str], choose: Choose | None = None) -> list[str]:
    """The shards of a checkpoint to read; the first at least, since a model without weights is not one."""
    names = list(by_tensor) if choose is None else choose(list(by_tensor))
    return sorted({by_tensor[name] for name in names}) or sorted(by_tensor.values())[:1]


def write_index(found: WeightFiles, folder: Path) -> None:
    """Write a checkpoint's index of the shards that are here, by their full paths, into another folder."""
    assert found.index is not None
    here = {file.name for file in found.files}
    full = {
        name: str((found.folder / shard).absolute()) for name, shard in weight_map(found.index).items() if shard in here
    }
    place = folder / found.index.relative_to(found.folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({"metadata": {}, "weight_map": full}), encoding="utf-8")


def weight_files(folder: Path, name: str, looked_for: Sequence[str] = SAFETENSORS_FILES + TORCH_FILES) -> list[Path]:
    """The checkpoint's files of weights, every one there and readable as what it claims to be.

    Raises SourceError, for the model called `name`, where there are none, a shard is missing or a file is damaged.
    """
    first = first_file(folder, looked_for)
    if first is None and len(looked_for) == 1:
        raise SourceError(
            f"{name!r} has no file {looked_for[0]}, which its config.json names as its weights (transformers_weights): "
            f"fetch it again, or take the key out"
        )
    if first is None:
        raise SourceError(f"{name!r} has no weights: none of {', '.join(looked_for)} is in {folder}")
    files = _shards(first, folder) if is_index(first) else [first]
    for file in files:
        check_file(file)
    return files


def first_file(folder: Path, looked_for: Sequence[str]) -> Path | None:
    """The checkpoint's file of weights, or index of shards, that transformers takes; None if there are no weights."""
    return next((folder / file for file in looked_for if opening.is_there(folder / file)), None)


def is_index(file: Path) -> bool:
    """Whether a checkpoint's file is an index that tells which shard each tensor is in."""
    return file.name.endswith(".index.json")


@dataclass(frozen=True)
class WeightListing:
    """The weights of a source as they are described, before any is fetched."""

    files: dict[str, int | None]
    """Weight files and their sizes: paths here, names in the repository of those that are not."""
    tensors: list[StoredTensor]
    """What is in them; of a pytorch_model.bin that is not here nothing is known."""
    to_fetch: dict[str, int]
    """Sizes of the files that are not here."""
    weight_map: dict[str, str]
    """The shard that each tensor is in, where an index tells."""

    def all_names(self) -> list[str]:
        """The names of the checkpoint's tensors, as far as they are known."""
        return list(self.weight_map) or [tensor.name for tensor in self.tensors]


def weight_map(index: Path) -> dict[str, str]:
    """The shard that each tensor of a checkpoint is in, by its index. Raises SourceError for one that does not say."""
    found = opening.read_object(index, opening.INDEX).get("weight_map")
    if not isinstance(found, dict):
        raise SourceError(f"{index} is not an index of shards: its weight_map is no object; fetch it again")
    if not found:
        raise SourceError(f"{index} names no shards: fetch it again")
    for name, file in found.items():
        if not isinstance(file, str) or not _is_beside(Path(file)):
            raise SourceError(
                f"{index} says that the tensor {shown(name)} is in {shown(file)}, which is no file of the model's: "
                f"fetch it again"
            )
    return found


def _is_beside(file: Path) -> bool:
    """Whether an index names a shard in the same folder, or below it."""
    return bool(file.name) and not file.is_absolute() and ".." not in file.parts


def has_metadata(index: Path) -> bool:
    """Whether a checkpoint's index has the metadata that transformers writes into it."""
    return isinstance(opening.read_object(index, opening.INDEX).get("metadata"), dict)


def _shards(index: Path, folder: Path) -> list[Path]:
    """The shards that a checkpoint's index names, in the folder of the checkpoint."""
    shards = shards_of(weight_map(index))
    missing = [shard for shard in shards if not opening.is_there(folder / shard)]
    if missing:
        raise SourceError(
            f"{index} names {len(shards)} shards, of which {len(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not there ({some_of(missing)}): fetch what is missing"
        )
    return [folder / shard for shard in shards]


def check_file(file: Path) -> None:
    """Raise SourceError for a file of a checkpoint that cannot be read as weights."""
    opening.check(file, None)
    try:
        with file.open("rb") as stream:
            head = stream.read(64)
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror}") from error
    if head.startswith(opening.LFS_POINTER):
        raise SourceError(f"{file} is a Git LFS pointer, not the weights: run 'git lfs pull' in its repository")
    if not head:
        raise SourceError(f"{file} is empty: fetch it again")
    if file.suffix == ".safetensors":
        _check_safetensors(file)
    else:
        _check_torch(file, head)


def _check_safetensors(file: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "numpy"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        raise SourceError(f"{file} is damaged or truncated ({error}): fetch it again") from error


def _check_torch(file: Path, head: bytes) -> None:
    if not head.startswith((torch_files.ZIP, _PICKLE)):
        raise SourceError(f"{file} is not a checkpoint: it begins with {head[:12]!r}; fetch it again")
    torch_files.read(file)
