"""What a .gguf file says of itself, without torch: its settings and where its tensors are.

gguf's own reader takes seconds over a vocabulary, and transformers' header needs torch. The layout is in
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from txinspect import opening
from txinspect.errors import SourceError, first_line

_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
"""Kinds of values of a fixed size, as struct calls them."""

_STRING, _ARRAY = 8, 9

_VERSIONS = (2, 3)

_LONGEST = 1 << 24
"""Bytes of a string at most: chat templates have some thousands."""

_ALIGNMENT = 32
"""Where `general.alignment` says nothing."""


@dataclass(frozen=True)
class GgufTensor:
    """A tensor in a .gguf file."""

    name: str
    kind: str
    """As GGUF calls it: F32, Q4_0, …"""
    shape: tuple[int, ...]
    """In the order of torch."""
    bytes: int
    offset: int
    """Where its bytes begin in the file."""


@dataclass(frozen=True)
class GgufHeader:
    """The header of a .gguf file."""

    settings: dict[str, Any]
    """Strings and numbers; arrays, such as the vocabulary, are left out."""
    tensors: Sequence[GgufTensor]
    digest: bytes
    """Of the header's bytes, the vocabulary's among them; all are in front of the tensors."""


def read_header(file: Path) -> GgufHeader:
    """Read the header of a .gguf file. Raises SourceError for one that is none, or damaged."""
    size = opening.check(file, None)
    try:
        return _read(file, size, file.stat().st_mtime_ns)
    except SourceError:
        raise
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror}") from error
    except Exception as error:
        raise SourceError(f"{file} is damaged or truncated ({first_line(error)}): fetch it again") from error


@lru_cache(maxsize=4)
def _read(file: Path, size: int, _changed: int) -> GgufHeader:
    with file.open("rb") as stream:
        head = stream.read(4)
        if head != b"GGUF":
            raise SourceError(f"{file} is not a GGUF file: it begins with {head!r}; fetch it again")
        return _header(stream, size)


def _header(stream: BinaryIO, size: int) -> GgufHeader:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    version, count, settings_count = (_scalar(stream, kind) for kind in ("<I", "<Q", "<Q"))
    if version not in _VERSIONS:
        raise ValueError(f"its version is {version}")
    settings = {}
    for _ in range(settings_count):
        name = _string(stream)
        value = _value(stream, _scalar(stream, "<I"))
        if value is not None:
            settings[name] = value
    described = []
    for _ in range(count):
        name = _string(stream)
        shape = tuple(_scalar(stream, "<Q") for _ in range(_scalar(stream, "<I")))
        described.append((name, shape[::-1], GGMLQuantizationType(_scalar(stream, "<I")), _scalar(stream, "<Q")))
    end = stream.tell()
    alignment = int(settings.get("general.alignment", _ALIGNMENT))
    start = -(-end // alignment) * alignment
    tensors = []
    for name, shape, kind, offset in described:
        elements, in_bytes = GGML_QUANT_SIZES[kind]
        length = prod(shape) // elements * in_bytes
        if start + offset + length > size:
            raise ValueError(f"it ends before its tensor {name} does")
        tensors.append(GgufTensor(name, kind.name, shape, length, start + offset))
    stream.seek(0)
    return GgufHeader(settings, tensors, sha256(stream.read(end)).digest())


def _scalar(stream: BinaryIO, kind: str) -> Any:
    (value,) = struct.unpack(kind, _bytes(stream, struct.calcsize(kind)))
    return value


def _bytes(stream: BinaryIO, count: int) -> bytes:
    found = stream.read(count) if count <= _LONGEST else b""
    if len(found) < count:
        raise ValueError("its header is cut off")
    return found


def _string(stream: BinaryIO) -> str:
    return _bytes(stream, _scalar(stream, "<Q")).decode("utf-8", "replace")


def _value(stream: BinaryIO, kind: int) -> Any:
    """The value of a setting in a .gguf header; None for an array, which is passed over."""
    if kind == _STRING:
        return _string(stream)
    if kind != _ARRAY:
        return _scalar(stream, _SCALARS[kind])
    inner, count = _scalar(stream, "<I"), _scalar(stream, "<Q")
    if inner in _SCALARS:
        stream.seek(struct.calcsize(_SCALARS[inner]) * count, 1)
    elif inner == _STRING:
        for _ in range(count):
            stream.seek(int.from_bytes(_bytes(stream, 8), "little"), 1)
    else:
        for _ in range(count):
            _value(stream, inner)
    return None
