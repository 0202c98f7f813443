"""Tensors in weight files → their numbers, a piece at a time: no file is mapped, no tensor is ever whole.

A piece is read into a buffer that the thread uses again for the next one, so that memory stays flat however large a
model is. Mapped pages would count as memory of the process until the kernel wants them back.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from txinspect.errors import SourceError
from txinspect.sources.headers import StoredTensor, is_mappable
from txinspect.sources.number_types import BY_NAME

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_HASHED = 1 << 19
"""Bytes that are hashed at a time: a multiple of every type's size."""


def is_readable(tensor: StoredTensor) -> bool:
    """Whether a stored tensor's numbers can be read by its type: not where several of them share a byte."""
    return _is_in_numpy(tensor.dtype) or _block(tensor.dtype) is not None


def is_coded(tensor: StoredTensor) -> bool:
    """Whether a stored tensor's numbers are codes for others, or a mask."""
    found = BY_NAME.get(tensor.dtype)
    return found is not None and found.is_whole


def _is_in_numpy(name: str) -> bool:
    """Whether NumPy has a stored tensor's type, or ml_dtypes adds it."""
    found = BY_NAME.get(name)
    return found is not None and (found.numpy is not None or found.in_ml_dtypes)


def _dtype(name: str) -> np.dtype[Any] | None:
    """The type of a stored tensor as NumPy has it; None for blocks."""
    import numpy as np

    if not _is_in_numpy(name):
        return None
    if (plain := BY_NAME[name].numpy) is not None:
        return np.dtype(plain)
    import ml_dtypes

    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return found


@cache
def _block(name: str) -> tuple[int, int] | None:
    """Elements and bytes of a block of one of GGUF's tensor types; None for others, and for one gguf cannot read."""
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    kind = GGMLQuantizationType.__members__.get(name)
    if kind is None:
        return None
    elements, in_bytes = GGML_QUANT_SIZES[kind]
    try:
        dequantize(np.zeros((1, in_bytes), np.uint8), kind)
    except NotImplementedError:
        return None
    return elements, in_bytes


class TensorReader:
    """Reads pieces of tensors, from any number of threads; close it when done."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._lock = threading.Lock()
        self._streams: list[Any] = []
        self._pickled: dict[Path, dict[str, Any]] = {}
        self._copied: set[tuple[Path, str]] = set()

    def __enter__(self) -> TensorReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for stream in self._streams:
            stream.close()
        self._pickled.clear()

    def reading(self, tensor: StoredTensor) -> Callable[[int, int], NDArray[np.float64]]:
        """What reads the numbers of a stored tensor from one to another in float64, of blocks what they stand for.

        Both ends of a piece of a row of blocks are on the borders of blocks. The array is valid until the thread reads
        again. Raises SourceError for a file that ends too early.
        """
        dtype, block = _dtype(tensor.dtype), _block(tensor.dtype)

        def read(start: int, stop: int) -> NDArray[np.float64]:
            import numpy as np

            elements, in_bytes = block if dtype is None and block else (1, dtype.itemsize if dtype else 1)
            raw = self._bytes(tensor, start // elements * in_bytes, stop // elements * in_bytes)
            if tensor.dtype == "float64":
                return raw.view("<f8")
            numbers = self._buffer("numbers", (stop - start) * 8).view(np.float64)
            np.copyto(numbers, _dequantized(raw, tensor.dtype) if dtype is None else raw.view(dtype), casting="unsafe")
            return numbers

        return read

    def digest(self, tensor: StoredTensor) -> bytes:
        """A digest of a stored tensor's bytes, read a piece at a time, that tells them from all others."""
        from hashlib import sha256

        told = sha256()
        for start in range(0, tensor.bytes, _HASHED):
            told.update(self._bytes(tensor, start, min(start + _HASHED, tensor.bytes)).data)
        return told.digest()

    def is_equal(self, one: StoredTensor, other: StoredTensor) -> bool:
        """Whether two stored tensors have the same bytes, in the same shape and type."""
        if (one.dtype, one.shape, one.bytes) != (other.dtype, other.shape, other.bytes):
            return False
        return all(
            bytes(self._bytes(one, start, stop)) == bytes(self._bytes(other, start, stop))
            for start in range(0, one.bytes, _HASHED)
            for stop in [min(start + _HASHED, one.bytes)]
        )

    def _buffer(self, name: str, size: int) -> NDArray[np.uint8]:
        """A reading thread's own buffer for a piece of a tensor."""
        import numpy as np

        held = getattr(self._local, name, None)
        if held is None or held.nbytes < size:
            held = np.empty(size, np.uint8)
            setattr(self._local, name, held)
        return held[:size]

    def _bytes(self, tensor: StoredTensor, start: int, stop: int) -> NDArray[np.uint8]:
        if tensor.offset is None:
            return self._of_pickle(tensor, start, stop)
        raw = self._buffer("raw", stop - start)
        view, got = raw.data, 0
        try:
            stream = self._stream(tensor.file)
            stream.seek(tensor.offset + start)
            while got < len(view):
                more = stream.readinto(view[got:])
                if not more:
                    raise SourceError(
                        f"{tensor.file} is damaged or truncated (it ends before its tensor {tensor.name} does): "
                        f"fetch it again"
                    )
                got += more
        except OSError as error:
            raise SourceError(f"{tensor.file} cannot be read: {error.strerror}") from error
        return raw

    def _stream(self, file: Path) -> Any:
        """The weight file, opened for the reading thread; one at a time."""
        opened, stream = getattr(self._local, "stream", (None, None))
        if opened != file:
            fresh = file.open("rb", buffering=0)
            with self._lock:
                if stream is not None:
                    stream.close()
                    self._streams.remove(stream)
                self._streams.append(fresh)
            self._local.stream = (file, stream := fresh)
        return stream

    def _of_pickle(self, tensor: StoredTensor, start: int, stop: int) -> NDArray[np.uint8]:
        """Read bytes of a tensor in a pytorch_model.bin, which torch maps; its pages are given back once copied."""
        import numpy as np
        import torch

        with self._lock:
            if tensor.file not in self._pickled:
                mapped = is_mappable(tensor.file) or None
                self._pickled[tensor.file] = torch.load(tensor.file, map_location="cpu", mmap=mapped, weights_only=True)
            found: torch.Tensor = self._pickled[tensor.file][tensor.name]
            if not found.is_contiguous():
                self._pickled[tensor.file][tensor.name] = found = found.contiguous()
                self._copied.add((tensor.file, tensor.name))
        size = found.element_size()
        piece = found.detach().view(-1)[start // size : stop // size].view(torch.uint8).numpy()
        raw = self._buffer("raw", stop - start)
        np.copyto(raw, piece)
        if is_mappable(tensor.file) and (tensor.file, tensor.name) not in self._copied:
            _give_back(piece)
        return raw


def _dequantized(raw: NDArray[np.uint8], name: str) -> NDArray[np.float32]:
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    found: NDArray[np.float32] = dequantize(raw.reshape(1, -1), GGMLQuantizationType[name])
    return found.reshape(-1)


def _give_back(mapped: NDArray[np.uint8]) -> None:
    """Tell the kernel that pages of a mapped weight file are not needed, where there is a way to.

    They are unchanged: whoever looks at them again gets them from the file again. Memory of no file would be lost.
    """
    import ctypes
    import mmap

    if not sys.platform.startswith("linux"):
        return
    page = mmap.PAGESIZE
    start = mapped.ctypes.data // page * page
    length = -(-(mapped.ctypes.data + mapped.nbytes - start) // page) * page
    if length:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_DONTNEED)
