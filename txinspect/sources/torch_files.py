"""What a pytorch_model.bin says of its tensors, without torch, and never its code.

Such a file is pickles that name functions of torch; here these names stand for functions that note shapes. Whatever
else is named is refused, and a tensor that does not fit its storage is, before torch builds anything of it. The layouts
are those of torch/serialization.py: a zip archive, and before torch 1.6 pickles one after the other.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from txinspect import opening
from txinspect.errors import SourceError, first_line
from txinspect.sources.number_types import BY_NAME, BY_STORAGE
from txinspect.wording import shown

ZIP = b"PK\x03\x04"

_MAGIC = 0x1950A86A20F9469CFC6C
"""What a file from before torch 1.6 begins with."""

_PROTOCOL = 1001

_EXPANDED = 1_000
"""Times its storage that a tensor may be, where the same numbers stand for many."""

_LARGEST_PICKLE = 64 << 20
"""Bytes of what names the tensors, some hundred each; their numbers stand elsewhere."""

_MOST_READ = 4_000_000
"""Times that something is read of a pickle: some forty for each tensor."""

_HIGHEST_RANK = 64
"""Axes that torch gives a tensor at most."""

_MARKS = (
    "per_tensor_affine",
    "per_channel_affine",
    "per_channel_affine_float_qparams",
    "strided",
    "sparse_coo",
    "sparse_csr",
    "sparse_csc",
    "sparse_bsr",
    "sparse_bsc",
)
"""Ways of keeping numbers that torch has names for."""

_ODD = {
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_sparse_csr_tensor": "a sparse tensor",
    "_rebuild_qtensor": "a tensor of torch's own quantization",
    "_rebuild_meta_tensor_no_storage": "a tensor without numbers",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_wrapper_subclass": "a tensor of a class of its own",
}
"""Functions of torch._utils that make what is no plain tensor."""


@dataclass(frozen=True)
class TorchTensor:
    """A tensor in a file."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int
    offset: int | None
    """Where its bytes begin in the file; None where they do not lie one after another."""


@dataclass(frozen=True)
class _Storage:
    """Numbers that tensors are views of."""

    key: str
    dtype: str | None
    """None where each tensor tells its own."""
    numel: int


@dataclass(frozen=True)
class _View:
    """A tensor: part of a storage."""

    storage: _Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Odd:
    """Something else that torch can hold."""

    what: str


@dataclass(frozen=True)
class _Named:
    """A type of torch that a pickle names."""

    name: str


Member = Callable[[_Storage], tuple[int, int]]
"""Where the bytes of a storage begin in the file, and how many there are. Raises KeyError if they are not there."""


def read(file: Path, alone: str | None = None) -> dict[str, TorchTensor]:
    """The tensors of a pytorch_model.bin by their names; `alone` is that of one that the file holds by itself.

    Raises SourceError for a damaged file, or other contents.
    """
    size = opening.check(file, None)
    try:
        with file.open("rb") as stream:
            head = stream.read(4)
            stream.seek(0)
            found, member = _read_zip(stream) if head == ZIP else _read_pickles(stream, size)
            named = {alone: found} if alone is not None and _is_tensor(found) else found
            return _tensors(file, named, member)
    except SourceError:
        raise
    except pickle.UnpicklingError as error:
        if str(error).startswith(_REFUSED):
            raise SourceError(pickled(file)) from error
        raise SourceError(f"{file} is damaged or truncated ({first_line(error)}): fetch it again") from error
    except (MemoryError, RecursionError) as error:
        raise SourceError(f"{file} is damaged: {type(error).__name__} while it was read; fetch it again") from error
    except Exception as error:  # whatever a pickle of noise leads to
        raise SourceError(f"{file} is damaged or truncated ({first_line(error)}): fetch it again") from error


def pickled(file: Path) -> str:
    """The sentence about a pickle that is refused, since it may hold code."""
    return (
        f"{file} holds objects other than weights, which may be code, so it is not opened; "
        f"convert it to safetensors if you trust it"
    )


def _read_zip(stream: BinaryIO) -> tuple[Any, Member]:
    with zipfile.ZipFile(stream) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError(f"it has {len(pickles)} members data.pkl")
        prefix = pickles[0].removesuffix("data.pkl")
        if prefix + "constants.pkl" in members:
            raise ValueError("it is a program in TorchScript, not a checkpoint")
        packed = [info for info in members.values() if info.compress_type != zipfile.ZIP_STORED]
        if packed or members[pickles[0]].file_size > _LARGEST_PICKLE:
            raise ValueError("its members are packed, or larger than any of torch's")
        order = archive.read(prefix + "byteorder") if prefix + "byteorder" in members else b"little"
        if order != b"little":
            raise ValueError(f"its byte order is {shown(order.decode('ascii', 'replace'))}, and only little is read")
        with archive.open(pickles[0]) as content:
            found = _Unpickler(content).load()

    def member(storage: _Storage) -> tuple[int, int]:
        info = members[f"{prefix}data/{storage.key}"]
        stream.seek(info.header_offset + 26)
        lengths = stream.read(4)  # of the name and of the extra field in the member's own header
        skip = int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        return info.header_offset + 30 + skip, info.file_size

    return found, member


class _Limited:
    """A stream of which no more is read than what names tensors may be."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.left, self.times = stream, _LARGEST_PICKLE, _MOST_READ

    def read(self, size: int) -> bytes:
        """Read some bytes of a pickle. Raises ValueError beyond the limit."""
        return self._counted(self.stream.read(min(size, self.left + 1)))

    def readline(self) -> bytes:
        """Read a line of a pickle. Raises ValueError beyond the limit."""
        return self._counted(self.stream.readline(self.left + 1))

    def _counted(self, content: bytes) -> bytes:
        self.left -= len(content)
        self.times -= 1
        if self.times < 0:
            raise ValueError("what names its tensors has more steps than any checkpoint needs")
        if self.left < 0:
            raise ValueError(f"what names its tensors takes more than {_LARGEST_PICKLE:,} bytes")
        return content


def _read_pickles(stream: BinaryIO, size: int) -> tuple[Any, Member]:
    if _Unpickler(stream).load() != _MAGIC or _Unpickler(stream).load() != _PROTOCOL:
        raise ValueError("it does not begin as torch's files do")
    system = _Unpickler(stream).load()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("its byte order is not little")
    unpickler = _Unpickler(stream)
    found, keys = unpickler.load(), _Unpickler(stream).load()
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        numel = int.from_bytes(stream.read(8), "little", signed=True)
        begin = stream.tell()
        storage = unpickler.storages[str(key)]
        length = numel * BY_NAME[storage.dtype or "uint8"].bytes
        if numel < 0 or begin + length > size:
            raise ValueError(f"it ends before its storage {key} does")
        places[str(key)] = begin, length
        stream.seek(begin + length)
    return found, lambda storage: places[storage.key]


_REFUSED = "refused: "


_Plain: Any = pickle._Unpickler


class _Unpickler(_Plain):  # type: ignore[misc]
    """Notes tensors. Python's own: the one in C takes a place in its memory for every index that a pickle names."""

    def __init__(self, stream: Any) -> None:
        super().__init__(_Limited(stream), encoding="utf-8", errors="replace")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What a name of a pickle stands for. Raises UnpicklingError for one that is none of a checkpoint's."""
        if (module, name) == ("collections", "OrderedDict"):
            return _ordered
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return _Named(name)
        if module == "torch" and (name in BY_NAME or name in _MARKS or name in ("Size", "device", "Tensor")):
            return {"Size": tuple, "device": lambda *_: None}.get(name, _Named(name))
        if module == "torch._utils" and name in _ODD:
            return lambda *_: _Odd(_ODD[name])
        found = _FUNCTIONS.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"{_REFUSED}{module}.{name}")
        return found

    def load_setitem(self) -> None:
        """Unpickle one entry of a dictionary."""
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Unpickle several entries of a dictionary."""
        _check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        """Unpickle a dictionary of several entries."""
        _check_keys(self.stack[::2])
        super().load_dict()

    def load_no_set(self) -> None:
        """Refuse a pickle's set, which no checkpoint needs. Raises ValueError."""
        raise ValueError("it holds a set")

    def load_build(self) -> None:
        """Unpickle the attributes of an object, such as an OrderedDict's metadata: they are passed over."""
        self.stack.pop()

    dispatch: ClassVar[dict[int, Any]] = {
        **_Plain.dispatch,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.ADDITEMS[0]: load_no_set,
        pickle.FROZENSET[0]: load_no_set,
    }

    def persistent_load(self, named: Any) -> _Storage:
        """Unpickle a storage: ('storage', its type, its key, where it was, its numbers)."""
        _, kind, key, _, numel, *parts = named
        if not isinstance(key, str | int) or not isinstance(kind, _Named) or not isinstance(numel, int):
            raise ValueError("a storage of it is named by no text")
        if any(part is not None for part in parts):
            raise ValueError("a storage of it is a part of another one")
        name = kind.name.removesuffix("Storage")
        if name not in BY_STORAGE and name not in ("Untyped", "Typed"):
            return _Storage(str(key), f"{name}Storage", int(numel))
        dtype = BY_STORAGE[name].name if name in BY_STORAGE else None
        self.storages[str(key)] = _Storage(str(key), dtype, int(numel))
        return self.storages[str(key)]


def _check_keys(keys: Sequence[Any]) -> None:
    """Raise ValueError for a pickle's keys that are no plain values: of tuples in tuples a hash takes for ever."""
    odd = next((key for key in keys if not isinstance(key, str | int | float | bytes | type(None))), None)
    if odd is not None:
        raise ValueError(f"something in it stands under a {type(odd).__name__} in the place of a name")


def _ordered(pairs: Any = ()) -> OrderedDict[Any, Any]:
    pairs = list(pairs)
    _check_keys([key for key, _ in pairs])
    return OrderedDict(pairs)


def _view(storage: _Storage, offset: Any, shape: Any, strides: Any, *_: Any) -> _View | _Odd:
    if storage.dtype is not None and storage.dtype.endswith("Storage"):
        return _Odd(f"numbers of a {storage.dtype}")
    return _View(storage, storage.dtype or "uint8", offset, _axes(shape), _axes(strides))


def _view_of_type(
    storage: _Storage, offset: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, dtype: _Named, *_: Any
) -> _View:
    return _View(storage, dtype.name, offset, _axes(shape), _axes(strides))


def _axes(given: Any) -> tuple[Any, ...]:
    """A pickled tensor's shape or strides. Raises ValueError for more axes than a tensor has."""
    if len(given) > _HIGHEST_RANK:
        raise ValueError(f"a tensor of it has {len(given):,} axes, and torch's have at most {_HIGHEST_RANK}")
    return tuple(given)


def _of_subclass(function: Any, _kind: Any, arguments: Any, _state: Any) -> Any:
    return function(*arguments)


_FUNCTIONS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _view,
    ("torch._utils", "_rebuild_tensor_v3"): _view_of_type,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
    ("torch._tensor", "_rebuild_from_type_v2"): _of_subclass,
    ("torch.serialization", "_get_layout"): lambda *_: None,
    ("_codecs", "encode"): lambda text, *_: str(text).encode("latin-1", "replace"),
    ("builtins", "set"): lambda *_: None,
    ("builtins", "bytearray"): lambda *_: None,
    ("collections", "Counter"): dict,
}
"""What else the names in a checkpoint's pickles stand for."""


def _tensors(file: Path, found: Any, member: Member) -> dict[str, TorchTensor]:
    if not isinstance(found, dict):
        kind = "tensor" if isinstance(found, _View) else type(found).__name__
        raise SourceError(f"{file} holds a {kind}, not named tensors: fetch it again")
    inside = [name for name, each in found.items() if isinstance(each, dict) and _holds_tensors(each)]
    if inside and not _holds_tensors(found):
        raise SourceError(
            f"{file} holds its tensors inside of {shown(inside[0])}, beside other things: save that alone"
        )
    return {str(name): _tensor(file, str(name), each, member) for name, each in found.items() if _is_tensor(each)}


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (_View, _Odd))


def _holds_tensors(found: Mapping[Any, Any]) -> bool:
    return any(map(_is_tensor, found.values()))


def _tensor(file: Path, name: str, view: Any, member: Member) -> TorchTensor:
    """A tensor of a pickle, looked at. Raises SourceError for one that is none, or does not fit its storage."""

    def wrong(what: str) -> SourceError:
        return SourceError(f"{file} is damaged: its tensor {shown(name)} {what}; fetch it again")

    if isinstance(view, _Odd):
        raise SourceError(
            f"{file} holds {view.what}, {shown(name)}, which is no plain tensor: save the model's weights by "
            f"save_pretrained"
        )
    numbers = (view.offset, view.storage.numel, *view.shape, *view.strides)
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in numbers):
        raise wrong("has sizes that are no whole numbers")
    if min(numbers) < 0 or len(view.shape) != len(view.strides) or view.dtype not in BY_NAME:
        raise wrong(f"is {shown(list(view.shape))} with strides {shown(list(view.strides))} from {view.offset} on")
    try:
        begin, length = member(view.storage)
    except KeyError:
        raise wrong(f"is in a storage {shown(view.storage.key)} that is not there") from None
    size = BY_NAME[view.dtype].bytes
    count = prod(view.shape)
    if count * size > _EXPANDED * max(length, 1 << 20):
        raise wrong(f"is {shown(list(view.shape))} of a storage of {length:,} bytes")
    last = view.offset + sum((each - 1) * stride for each, stride in zip(view.shape, view.strides, strict=True))
    if view.storage.numel * BY_NAME[view.storage.dtype or "uint8"].bytes > length:
        raise wrong(f"is in a storage of {view.storage.numel:,} numbers, of which the file has {length:,} bytes")
    if count and (last + 1) * size > length:
        raise wrong(f"ends {(last + 1) * size - length:,} bytes beyond its storage")
    offset = begin + view.offset * size if _is_plain(view.shape, view.strides) else None
    return TorchTensor(view.dtype, view.shape, count * size, offset)


def _is_plain(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether a pickled tensor's numbers lie one after another; the stride of an axis of one step does not count."""
    return all(
        stride == prod(shape[index + 1 :])
        for index, (each, stride) in enumerate(zip(shape, strides, strict=True))
        if each > 1
    )


def refused(file: Path) -> str:
    """The sentence about a pytorch_model.bin that torch does not open as weights alone."""
    try:
        read(file)
    except SourceError as error:
        return str(error)
    return (
        f"{file} holds tensors alone, but in a protocol of pickle that torch does not open as weights: save it again "
        f"by torch.save without pickle_protocol, or as safetensors"
    )
