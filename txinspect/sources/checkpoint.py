"""The files that hold a model's weights: found, fetched where need be, and checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from txinspect import opening
from txinspect.errors import SourceError
from txinspect.queries import shown
from txinspect.sources import torch_files
from txinspect.sources.headers import StoredTensor, of_header, stored
from txinspect.sources.names import INDEX_FILES, SAFETENSORS_FILES, TORCH_FILES
from txinspect.sources.source import Source
from txinspect.wording import some_of

_PICKLE = b"\x80"


@dataclass(frozen=True)
class WeightFiles:
    """The weight files of a checkpoint that are to be read."""

    folder: Path
    files: list[Path]
    index: Path | None = None
    """The index of a checkpoint of which only these shards are here, or that transformers cannot read as it is."""

    def all_names(self) -> list[str]:
        """The names of the checkpoint's tensors: those in the files, or those that the index tells of."""
        return list(_weight_map(self.index)) if self.index else [tensor.name for tensor in stored(self.files)]


Choose = Callable[[list[str]], Collection[str]]
"""Given the names of a checkpoint's tensors, those that are wanted."""


def find(source: Source, choose: Choose | None = None) -> WeightFiles:
    """The weight files of a source, fetched where need be, every one there and readable as what it claims to be.

    Of a checkpoint in shards on the Hub only those are fetched that hold a tensor that `choose` picks. Raises
    SourceError if there are none, a shard is missing or a file is damaged.
    """
    if source.gguf_file:
        return WeightFiles(source.config_folder(), [source.config_folder() / source.gguf_file])
    folder = source.weights_folder()
    index = first_file(folder, source.weight_names)
    if source.hub is None or index is None or not _is_index(index):
        readable = index is None or not _is_index(index) or _has_metadata(index)
        return WeightFiles(folder, weight_files(folder, source.name, source.weight_names), None if readable else index)
    weight_map = _weight_map(index)
    wanted = shards_of(weight_map, choose)
    folder = source.folder(tuple(wanted))
    missing = [shard for shard in wanted if not opening.is_there(folder / shard)]
    if missing:
        next_step = source.hub.to_go_online if source.hub.offline else "the Hub does not have it either"
        raise SourceError(f"{source.name!r} is not fully in the local cache: it lacks {some_of(missing)}; {next_step}")
    files = [folder / shard for shard in wanted]
    for file in files:
        check_file(file)
    return WeightFiles(folder, files, index)


def shards_of(weight_map: dict[str, str], choose: Choose | None = None) -> list[str]:
    """The shards to read; the first at least, since a model without weights is not one."""
    names = list(weight_map) if choose is None else choose(list(weight_map))
    return sorted({weight_map[name] for name in names}) or sorted(weight_map.values())[:1]


def write_index(found: WeightFiles, folder: Path) -> None:
    """Write the index of the shards that are here, by their full paths, into another folder."""
    assert found.index is not None
    here = {file.name for file in found.files}
    full = {
        name: str((found.folder / shard).absolute())
        for name, shard in _weight_map(found.index).items()
        if shard in here
    }
    place = folder / found.index.relative_to(found.folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({"metadata": {}, "weight_map": full}), encoding="utf-8")


def weight_files(folder: Path, name: str, looked_for: Sequence[str] = SAFETENSORS_FILES + TORCH_FILES) -> list[Path]:
    """The weight files of a checkpoint, every one there and readable as what it claims to be.

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
    files = _shards(first, folder) if _is_index(first) else [first]
    for file in files:
        check_file(file)
    return files


def first_file(folder: Path, looked_for: Sequence[str]) -> Path | None:
    """The weight file, or the index of shards, that transformers takes; None if there are no weights."""
    return next((folder / file for file in looked_for if opening.is_there(folder / file)), None)


def _is_index(file: Path) -> bool:
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


def offered(source: Source) -> WeightListing:
    """What weights a source has, by their headers; these alone are fetched from the Hub.

    Raises SourceError if there are none or they cannot be described.
    """
    if source.hub is None:
        here = find(source).files
        return WeightListing({str(file): file.stat().st_size for file in here}, stored(here), {}, {})
    named = _named_shards(source)
    remote = source.hub.weights(named)
    files = {str(file.path or file.name): file.size for file in remote}
    tensors = []
    for file in remote:
        if file.path is not None:
            tensors += stored([file.path])
        elif file.header is not None:
            tensors += of_header(file.header(), Path(file.name))
    index = _index_of([file.name for file in remote], source)
    to_fetch = {file.name: file.size or 0 for file in remote if file.path is None}
    return WeightListing(files, tensors, to_fetch, _weight_map(index) if index else {})


def _named_shards(source: Source) -> list[str]:
    """The files that config.json itself names, on the Hub, by their index where it names one; empty if it does not."""
    named = source.named_weights
    if named is None or not named.endswith(".index.json"):
        return [] if named is None else [named]
    index = source.folder((named,)) / named
    if not opening.is_there(index):
        raise SourceError(f"{source.name!r} has no file {named}, whose weights its config.json names: fetch it again")
    return shards_of(_weight_map(index))


def _index_of(files: list[str], source: Source) -> Path | None:
    """The index of weight files in shards on the Hub; None where they are one file."""
    named = source.named_weights
    if named is not None:
        return source.folder((named,)) / named if named.endswith(".index.json") else None
    if not files or files[0] in source.weight_names:
        return None
    name = INDEX_FILES[0] if files[0].endswith(".safetensors") else INDEX_FILES[1]
    index = source.folder((name,)) / name
    return index if opening.is_there(index) else None


def here(source: Source) -> list[Path]:
    """The weight files of a source that are on this machine already: none are fetched, none are checked."""
    folder = source.config_folder()
    if source.gguf_file:
        return [folder / source.gguf_file]
    first = first_file(folder, source.weight_names)
    if first is None or not _is_index(first):
        return [first] if first else []
    return [folder / shard for shard in shards_of(_weight_map(first)) if opening.is_there(folder / shard)]


def stored_here(source: Source) -> list[StoredTensor]:
    """The tensors in the weight files that are here, by their headers.

    Raises SourceError for a file whose header cannot be read.
    """
    return stored(here(source))


def names_here(source: Source) -> list[str]:
    """The names of a checkpoint's tensors as far as they can be told from what is here and readable."""
    try:
        return indexed(source) or [tensor.name for tensor in stored_here(source)]
    except SourceError:  # whoever reads the weights says so
        return []


def indexed(source: Source) -> list[str]:
    """The names of a checkpoint's tensors in shards, here or not; empty for one that is not in shards."""
    if source.gguf_file:
        return []
    first = first_file(source.config_folder(), source.weight_names)
    return list(_weight_map(first)) if first is not None and _is_index(first) else []


def _weight_map(index: Path) -> dict[str, str]:
    """The shard that each tensor is in."""
    weight_map = opening.read_object(index, opening.INDEX).get("weight_map")
    if not isinstance(weight_map, dict):
        raise SourceError(f"{index} is not an index of shards: its weight_map is no object; fetch it again")
    if not weight_map:
        raise SourceError(f"{index} names no shards: fetch it again")
    for name, file in weight_map.items():
        if not isinstance(file, str) or not _is_beside(Path(file)):
            raise SourceError(
                f"{index} says that the tensor {shown(name)} is in {shown(file)}, which is no file of the model's: "
                f"fetch it again"
            )
    return weight_map


def _is_beside(file: Path) -> bool:
    """Whether a name is of a file in the same folder, or below it."""
    return bool(file.name) and not file.is_absolute() and ".." not in file.parts


def _has_metadata(index: Path) -> bool:
    """Whether an index has the metadata that transformers writes into."""
    return isinstance(opening.read_object(index, opening.INDEX).get("metadata"), dict)


def _shards(index: Path, folder: Path) -> list[Path]:
    """The files that an index names, in the folder of the checkpoint."""
    shards = shards_of(_weight_map(index))
    missing = [shard for shard in shards if not opening.is_there(folder / shard)]
    if missing:
        raise SourceError(
            f"{index} names {len(shards)} shards, of which {len(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not there ({some_of(missing)}): fetch what is missing"
        )
    return [folder / shard for shard in shards]


def check_file(file: Path) -> None:
    """Raise SourceError for a file that cannot be read as weights."""
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
