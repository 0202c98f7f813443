"""The files that hold a model's weights: found, fetched where need be, checked, and their headers read."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from txinspect.errors import SourceError, first_line
from txinspect.source import INDEX_FILES, Source, hub_weights
from txinspect.wording import some_of

if TYPE_CHECKING:
    from torch import Tensor

_NAMES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""What transformers looks for, in its order."""

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"


_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
"""What safetensors calls torch's types."""


@dataclass(frozen=True)
class Stored:
    """A tensor in a weight file."""

    name: str
    file: Path
    dtype: str
    """As torch calls it, such as float16; of a GGUF block, as GGUF does, such as Q4_1."""
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class Found:
    """The weight files of a checkpoint that are to be read."""

    folder: Path
    files: list[Path]
    index: Path | None = None
    """The index of a checkpoint of which only these shards are here."""

    def names(self) -> list[str]:
        """The names of the tensors in the files."""
        return [tensor.name for tensor in stored(self.files)]


Choose = Callable[[list[str]], Collection[str]]
"""Given the names of a checkpoint's tensors, those that are wanted."""


def find(source: Source, choose: Choose | None = None) -> Found:
    """The weight files of a source, fetched where need be, every one there and readable as what it claims to be.

    Of a checkpoint in shards on the Hub only those are fetched that hold a tensor that `choose` picks. Raises
    SourceError where there are none, a shard is missing or a file is damaged.
    """
    if source.gguf_file:
        return Found(source.config_folder(), [source.config_folder() / source.gguf_file])
    if source.kind != "hub":
        folder = source.weights_folder()
        return Found(folder, weight_files(folder, source.name))
    index = _hub_index(source)
    if index is None:
        folder = source.weights_folder()
        return Found(folder, weight_files(folder, source.name))
    weight_map = _weight_map(index)
    wanted = shards_of(weight_map, choose)
    folder = source.folder(tuple(wanted))
    missing = [shard for shard in wanted if not (folder / shard).is_file()]
    if missing:
        raise SourceError(
            f"{source.name!r} is not wholly in the local cache: it lacks {some_of(missing)}; "
            f"{'run once without --offline' if source.offline else 'the Hub does not have it either'}"
        )
    files = [folder / shard for shard in wanted]
    for file in files:
        _check(file)
    return Found(folder, files, index)


def _hub_index(source: Source) -> Path | None:
    """The index of a checkpoint in shards on the Hub; None where its weights are one file."""
    folder = source.folder(INDEX_FILES)
    return next((folder / name for name in INDEX_FILES if (folder / name).is_file()), None)


def shards_of(weight_map: dict[str, str], choose: Choose | None = None) -> list[str]:
    """The shards to read; the first at least, since a model without any weights is none."""
    names = list(weight_map) if choose is None else choose(list(weight_map))
    return sorted({weight_map[name] for name in names}) or sorted(weight_map.values())[:1]


def write_index(found: Found, folder: Path) -> None:
    """Write the index of the shards that are here, by their full paths, into another folder."""
    assert found.index is not None
    here = {file.name for file in found.files}
    full = {name: str(found.folder / shard) for name, shard in _weight_map(found.index).items() if shard in here}
    (folder / found.index.name).write_text(json.dumps({"metadata": {}, "weight_map": full}), encoding="utf-8")


def weight_files(folder: Path, name: str) -> list[Path]:
    """The weight files of a checkpoint, every one there and readable as what it claims to be.

    Raises SourceError, for the model called `name`, where there are none, a shard is missing or a file is damaged.
    """
    first = first_file(folder)
    if first is None:
        raise SourceError(f"{name!r} has no weights: none of {', '.join(_NAMES)} is in {folder}")
    files = _shards(first) if first.name.endswith(".index.json") else [first]
    for file in files:
        _check(file)
    return files


def first_file(folder: Path) -> Path | None:
    """The weight file, or the index of shards, that transformers takes; None where there are no weights."""
    return next((folder / file for file in _NAMES if (folder / file).is_file()), None)


def stored(files: Sequence[Path]) -> list[Stored]:
    """The tensors in weight files, by their headers; no weight is read but where a file has no header.

    Raises SourceError for a file that cannot be read.
    """
    readers = {".safetensors": _stored_safetensors, ".gguf": _stored_gguf}
    return [tensor for file in files for tensor in readers.get(file.suffix, _stored_torch)(file)]


@dataclass(frozen=True)
class Offered:
    """The weights of a source as they are described, before any is fetched."""

    files: dict[str, int | None]
    """Weight files and their sizes: paths here, names in the repository of those that are not."""
    tensors: list[Stored]
    """What is in them; of a pytorch_model.bin that is not here nothing is known."""
    to_fetch: dict[str, int]
    """Sizes of the files that are not here."""
    weight_map: dict[str, str]
    """The shard that each tensor is in, where an index tells."""


def offered(source: Source) -> Offered:
    """What weights a source has, by their headers; these alone are fetched from the Hub.

    Raises SourceError where there are none or they cannot be described.
    """
    if source.kind != "hub":
        here = find(source).files
        return Offered({str(file): file.stat().st_size for file in here}, stored(here), {}, {})
    remote = hub_weights(source)
    files = {str(file.path or file.name): file.size for file in remote}
    tensors = []
    for file in remote:
        if file.path is not None:
            tensors += stored([file.path])
        elif file.header is not None:
            tensors += of_header(file.header(), Path(file.name))
    index = _hub_index(source)
    to_fetch = {file.name: file.size or 0 for file in remote if file.path is None}
    return Offered(files, tensors, to_fetch, _weight_map(index) if index else {})


def here(source: Source) -> list[Path]:
    """The weight files of a source that are on this machine already: none are fetched, none are checked."""
    folder = source.config_folder()
    if source.gguf_file:
        return [folder / source.gguf_file]
    first = first_file(folder)
    if first is None or not first.name.endswith(".index.json"):
        return [first] if first else []
    return [folder / shard for shard in shards_of(_weight_map(first)) if (folder / shard).is_file()]


def has_header(file: Path) -> bool:
    """Whether a weight file says what is in it without being read."""
    return file.suffix in (".safetensors", ".gguf") or is_mappable(file)


def is_mappable(file: Path) -> bool:
    """Whether a weight file can be mapped into memory: not a pytorch_model.bin of before torch 1.6."""
    if file.suffix == ".safetensors" or not file.is_file():
        return file.suffix == ".safetensors"
    with file.open("rb") as stream:
        return stream.read(len(_ZIP)) == _ZIP


def of_header(header: dict[str, Any], file: Path) -> list[Stored]:
    """The tensors that a safetensors header names."""
    return [
        Stored(
            name,
            file,
            _DTYPES.get(each["dtype"], each["dtype"].lower()),
            tuple(each["shape"]),
            each["data_offsets"][1] - each["data_offsets"][0],
        )
        for name, each in header.items()
        if name != "__metadata__"
    ]


def _stored_safetensors(file: Path) -> list[Stored]:
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > file.stat().st_size:
                raise ValueError(f"its header would be {length} bytes long")
            return of_header(json.loads(stream.read(length)), file)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"{file} is damaged or truncated ({error}): fetch it again") from error


def _stored_torch(file: Path) -> list[Stored]:
    return [
        Stored(name, file, str(each.dtype).removeprefix("torch."), tuple(each.shape), each.nbytes)
        for name, each in _state_dict(file).items()
    ]


def _state_dict(file: Path) -> dict[str, Tensor]:
    """The tensors of a pytorch_model.bin, on the meta device; never its code: other pickled objects are refused.

    Only the zip format has an index: a file of before torch 1.6 is read whole. Raises SourceError.
    """
    import pickle

    import torch

    try:
        found = torch.load(file, map_location="meta", mmap=is_mappable(file) or None, weights_only=True)
    except pickle.UnpicklingError as error:
        raise SourceError(pickled(file)) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise SourceError(f"{file} is damaged or truncated ({first_line(error)}): fetch it again") from error
    if not isinstance(found, dict):
        raise SourceError(f"{file} holds a {type(found).__name__}, no tensors by name: fetch it again")
    return {str(name): each for name, each in found.items() if isinstance(each, torch.Tensor)}


def _stored_gguf(file: Path) -> list[Stored]:
    """A header that transformers reads: gguf's own reader takes seconds over the vocabulary."""
    from gguf import GGMLQuantizationType
    from transformers.integrations.gguf.reader import GgufHeader

    try:
        header = GgufHeader.from_file(str(file))
        kinds = [GGMLQuantizationType(each.ggml_type).name for each in header.tensors]
        return [
            Stored(each.name, file, _DTYPES.get(kind, kind), each.shape, each.nbytes)
            for each, kind in zip(header.tensors, kinds, strict=True)
        ]
    except Exception as error:
        raise SourceError(f"{file} is damaged or truncated ({first_line(error)}): fetch it again") from error


def stored_dtype(file: Path) -> str | None:
    """The type of the first floating-point tensor of a safetensors file, such as float16; None for other files."""
    if file.suffix != ".safetensors":
        return None
    return next((each.dtype for each in _stored_safetensors(file) if each.dtype.startswith(("float", "bfloat"))), None)


def _weight_map(index: Path) -> dict[str, str]:
    """The shard that each tensor is in."""
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        found = {name: str(file) for name, file in weight_map.items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise SourceError(f"{index} is not an index of shards ({error!r}): fetch it again") from error
    if not found:
        raise SourceError(f"{index} names no shards: fetch it again")
    return found


def _shards(index: Path) -> list[Path]:
    """The files that an index names."""
    shards = shards_of(_weight_map(index))
    missing = [shard for shard in shards if not (index.parent / shard).is_file()]
    if missing:
        raise SourceError(
            f"{index} names {len(shards)} shards, of which {len(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not there ({some_of(missing)}): fetch what is missing"
        )
    return [index.parent / shard for shard in shards]


def _check(file: Path) -> None:
    """Raise SourceError for a file that cannot be read as weights."""
    try:
        with file.open("rb") as stream:
            head = stream.read(64)
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror}") from error
    if head.startswith(_LFS_POINTER):
        raise SourceError(f"{file} is a Git LFS pointer, not the weights: run 'git lfs pull' in its repository")
    if not head:
        raise SourceError(f"{file} is empty: fetch it again")
    if file.suffix == ".safetensors":
        _check_safetensors(file)
    else:
        _check_torch(file, head)


def pickled(file: Path) -> str:
    """The sentence about a file that is refused."""
    return (
        f"{file} holds other objects than weights, which may be code: it is not opened; "
        f"convert it to safetensors where you trust it"
    )


def _check_safetensors(file: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "numpy"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        raise SourceError(f"{file} is damaged or truncated ({error}): fetch it again") from error


def _check_torch(file: Path, head: bytes) -> None:
    if not head.startswith((_ZIP, _PICKLE)):
        raise SourceError(f"{file} is no checkpoint: it begins with {head[:12]!r}; fetch it again")
    if head.startswith(_ZIP):
        _state_dict(file)
