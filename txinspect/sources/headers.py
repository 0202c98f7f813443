"""What a weight file says of its tensors: names, shapes and types; no weight is read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from txinspect import opening
from txinspect.errors import SourceError
from txinspect.sources import number_types, torch_files
from txinspect.sources.gguf_header import read_header
from txinspect.wording import shown

LONGEST_NAME = 10_000
"""Characters; torch's are paths of modules, some hundred."""

LONGEST_HEADER = 100_000_000
"""Bytes, as the safetensors library has it."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a weight file."""

    name: str
    file: Path
    dtype: str
    """As torch calls it, such as float16; of a GGUF block, as GGUF does, such as Q4_1."""
    shape: tuple[int, ...]
    bytes: int
    offset: int | None = None
    """Where its bytes begin in the file; None where a pickle or the Hub has them."""

    def __post_init__(self) -> None:
        """Raise SourceError for a weight file's tensor with a name that no screen can show."""
        if len(self.name) > LONGEST_NAME:
            raise SourceError(
                f"{self.file} is damaged: a tensor's name has {len(self.name):,} characters, {shown(self.name)}; fetch "
                f"it again"
            )


def stored(files: Sequence[Path]) -> list[StoredTensor]:
    """The tensors in weight files, by their headers; no weight is read.

    Raises SourceError for a file that cannot be read.
    """
    return [tensor for file in files for tensor in _stored(file, opening.check(file, None), file.stat().st_mtime_ns)]


@lru_cache(maxsize=512)
def _stored(file: Path, _size: int, _changed: int) -> tuple[StoredTensor, ...]:
    """The tensors in a weight file, by its header, kept: a question asks for them several times, of every shard."""
    readers = {".safetensors": _stored_safetensors, ".gguf": _stored_gguf}
    return tuple(readers.get(file.suffix.lower(), _stored_torch)(file))


def is_mappable(file: Path) -> bool:
    """Whether the header of a weight file lets it be mapped into memory: not a pytorch_model.bin before torch 1.6."""
    if file.suffix == ".safetensors" or not file.is_file():
        return file.suffix == ".safetensors"
    with file.open("rb") as stream:
        return stream.read(len(torch_files.ZIP)) == torch_files.ZIP


def of_header(header: dict[str, Any], file: Path, start: int | None = None) -> list[StoredTensor]:
    """The tensors that the header of a .safetensors file names; `start` is where a file's data begins that is here."""
    return [
        StoredTensor(
            name,
            file,
            number_types.torch_name(each["dtype"]) or each["dtype"].lower(),
            tuple(each["shape"]),
            each["data_offsets"][1] - each["data_offsets"][0],
            None if start is None else start + each["data_offsets"][0],
        )
        for name, each in header.items()
        if name != "__metadata__"
    ]


def _stored_safetensors(file: Path) -> list[StoredTensor]:
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > min(file.stat().st_size, LONGEST_HEADER):
                raise ValueError(f"its header would be {length} bytes long")
            return of_header(json.loads(stream.read(length)), file, 8 + length)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise SourceError(f"{file} is damaged or truncated ({error}): fetch it again") from error


def _stored_torch(file: Path) -> list[StoredTensor]:
    return [
        StoredTensor(name, file, each.dtype, each.shape, each.bytes, each.offset)
        for name, each in torch_files.read(file).items()
    ]


def _stored_gguf(file: Path) -> list[StoredTensor]:
    return [
        StoredTensor(
            each.name, file, number_types.torch_name(each.kind) or each.kind, each.shape, each.bytes, each.offset
        )
        for each in read_header(file).tensors
    ]


def stored_dtype(file: Path) -> str | None:
    """The type of the first floating-point tensor by a .safetensors header, such as float16; None for other files."""
    if file.suffix != ".safetensors":
        return None
    opening.check(file, None)
    return next((each.dtype for each in _stored_safetensors(file) if each.dtype.startswith(("float", "bfloat"))), None)
