"""Tensors put aside while a pass goes on: on disk, so that memory stays that of a layer."""

from __future__ import annotations

import mmap
import tempfile
import weakref
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from txinspect.errors import InspectError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Shelf(MutableMapping[str, "Tensor"]):
    """Tensors by name, in one temporary file that is gone with the shelf; each is read where it is looked at.

    Raises InspectError where there is no room for them.
    """

    def __init__(self) -> None:
        self._file: Any = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the shelf)
        weakref.finalize(self, self._file.close)
        self._places: dict[str, tuple[int, torch.dtype, torch.Size]] = {}

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        import torch

        self._file.seek(0, 2)
        begin = self._file.tell()
        begin += -begin % mmap.ALLOCATIONGRANULARITY  # where a map may begin
        try:
            self._file.seek(begin)
            self._file.write(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
            self._file.flush()
        except OSError as error:
            raise InspectError(
                f"tensors could not be put aside in {tempfile.gettempdir()}: {error.strerror}; make room there, or "
                f"name another folder by TMPDIR"
            ) from error
        self._places[name] = (begin, tensor.dtype, tensor.shape)

    def __getitem__(self, name: str) -> Tensor:
        import torch

        begin, dtype, shape = self._places[name]
        if not shape.numel():
            return torch.empty(shape, dtype=dtype)
        mapped = mmap.mmap(self._file.fileno(), shape.numel() * dtype.itemsize, access=mmap.ACCESS_COPY, offset=begin)
        return torch.frombuffer(mapped, dtype=dtype).view(shape)

    def __delitem__(self, name: str) -> None:
        del self._places[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def rename(self, names: dict[str, str]) -> None:
        """Give some tensors on the shelf other names, in their order."""
        self._places = {names.get(name, name): place for name, place in self._places.items()}
