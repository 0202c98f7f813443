"""The files that hold a model's weights: found, and checked before they are read."""

from __future__ import annotations

import json
from pathlib import Path

from txinspect.errors import SourceError, first_line, some_of

_NAMES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""What transformers looks for, in its order."""

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"


def weight_files(folder: Path, name: str) -> list[Path]:
    """The weight files of a checkpoint, every one there and readable as what it claims to be.

    Raises SourceError, for the model called `name`, where there are none, a shard is missing or a file is damaged.
    """
    first = next((folder / file for file in _NAMES if (folder / file).is_file()), None)
    if first is None:
        raise SourceError(f"{name!r} has no weights: none of {', '.join(_NAMES)} is in {folder}")
    files = _shards(first) if first.name.endswith(".index.json") else [first]
    for file in files:
        _check(file)
    return files


def stored_dtype(file: Path) -> str | None:
    """The type of the first floating-point tensor of a safetensors file, such as float16; None for other files."""
    if file.suffix != ".safetensors":
        return None
    from safetensors import safe_open

    names = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    with safe_open(file, "numpy") as tensors:
        types = (tensors.get_slice(key).get_dtype() for key in tensors.keys())  # noqa: SIM118 - no mapping
        return next((names[kind] for kind in types if kind in names), None)


def _shards(index: Path) -> list[Path]:
    """The files that an index names."""
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted({str(file) for file in weight_map.values()})
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise SourceError(f"{index} is not an index of shards ({error!r}): fetch it again") from error
    if not shards:
        raise SourceError(f"{index} names no shards: fetch it again")
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
    """Read the index of a pytorch_model.bin, never its code: weights_only refuses every other pickled object."""
    import pickle

    import torch

    if not head.startswith((_ZIP, _PICKLE)):
        raise SourceError(f"{file} is no checkpoint: it begins with {head[:12]!r}; fetch it again")
    try:
        # Only the zip format can be mapped; the format before torch 1.6 has no index to check.
        if head.startswith(_ZIP):
            torch.load(file, map_location="meta", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise SourceError(pickled(file)) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise SourceError(f"{file} is damaged or truncated ({first_line(error)}): fetch it again") from error
