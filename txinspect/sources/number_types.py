"""The types of numbers that weight files hold, and what each is called where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class NumberType:
    """A type of numbers."""

    name: str
    """As torch calls it, and ml_dtypes."""
    bytes: int
    """Of a number."""
    header: str | None = None
    """As safetensors calls it, and GGUF; None for what is read from neither."""
    storage: str | None = None
    """As the storages of torch's pickles call it; None for what these keep as plain bytes."""
    numpy: str | None = None
    """As NumPy calls it; None for what it does not have."""
    in_ml_dtypes: bool = False
    """Whether ml_dtypes adds it to NumPy."""
    is_whole: bool = False
    """Whether it holds codes or masks rather than weights."""


_TYPES = (
    NumberType("float64", 8, "F64", "Double", "<f8"),
    NumberType("float32", 4, "F32", "Float", "<f4"),
    NumberType("float16", 2, "F16", "Half", "<f2"),
    NumberType("bfloat16", 2, "BF16", "BFloat16", in_ml_dtypes=True),
    NumberType("float8_e4m3fn", 1, "F8_E4M3", in_ml_dtypes=True),
    NumberType("float8_e5m2", 1, "F8_E5M2", in_ml_dtypes=True),
    NumberType("float8_e8m0fnu", 1, "F8_E8M0", in_ml_dtypes=True),
    NumberType("float8_e4m3fnuz", 1, in_ml_dtypes=True),
    NumberType("float8_e5m2fnuz", 1, in_ml_dtypes=True),
    NumberType("int64", 8, "I64", "Long", "<i8", is_whole=True),
    NumberType("int32", 4, "I32", "Int", "<i4", is_whole=True),
    NumberType("int16", 2, "I16", "Short", "<i2", is_whole=True),
    NumberType("int8", 1, "I8", "Char", "i1", is_whole=True),
    NumberType("uint64", 8, "U64", None, "<u8", is_whole=True),
    NumberType("uint32", 4, "U32", None, "<u4", is_whole=True),
    NumberType("uint16", 2, "U16", None, "<u2", is_whole=True),
    NumberType("uint8", 1, "U8", "Byte", "u1", is_whole=True),
    NumberType("bool", 1, "BOOL", "Bool", "?", is_whole=True),
    NumberType("complex128", 16, storage="ComplexDouble"),
    NumberType("complex64", 8, storage="ComplexFloat"),
)

BY_NAME: Mapping[str, NumberType] = MappingProxyType({each.name: each for each in _TYPES})
"""Each by torch's name."""

BY_STORAGE: Mapping[str, NumberType] = MappingProxyType({each.storage: each for each in _TYPES if each.storage})
"""Each by the name of its storages."""

_BY_HEADER = {each.header: each for each in _TYPES if each.header}


def torch_name(header: str) -> str | None:
    """The type of numbers in torch's words for one of safetensors or GGUF; None for a type of theirs alone."""
    found = _BY_HEADER.get(header)
    return found.name if found else None
