"""Tensors that were saved, by txinspect or by another program."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from txinspect import opening
from txinspect.errors import InspectError, first_line
from txinspect.sources import torch_files
from txinspect.wording import short_bytes, some_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

LARGE, MOST_PACKED = 100_000_000, 200
"""Bytes of arrays that may be packed to less than one in so many, all of a file together."""


def load(path: Path, pairs: Sequence[str] = ()) -> dict[str, Tensor]:
    """The saved tensors of a .safetensors or .npz file by the names of our stages; `pairs` are theirs=ours.

    Raises InspectError for a file that cannot be read, and for a name that it does not have.
    """
    if path.suffix not in (".safetensors", ".npz"):
        raise InspectError(f"{path} is neither a .safetensors nor an .npz file: give one that --save wrote")
    if not opening.is_there(path):
        raise InspectError(f"there is no file {path}: give one that --save wrote")
    opening.check(path, None, advice="give one that --save wrote")
    try:
        found = _safetensors(path) if path.suffix == ".safetensors" else _npz(path)
    except InspectError:
        raise
    except Exception as error:
        raise InspectError(f"{path} cannot be read as {path.suffix} ({first_line(error)}): give another") from error
    if not found:
        raise InspectError(f"{path} holds no tensors: give one that --save wrote")
    tensors = {name: _comparable(path, name, tensor) for name, tensor in found.items()}
    for pair in pairs:
        theirs, _, ours = pair.partition("=")
        if theirs not in tensors:
            raise InspectError(f"{path} holds no {theirs!r}: it has {some_of(list(tensors), 5)}")
        tensors[ours] = tensors.pop(theirs)
    return tensors


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _npz(path: Path) -> dict[str, Tensor]:
    import numpy as np
    import torch

    with zipfile.ZipFile(path) as archive:
        packed = [each for each in archive.infolist() if each.file_size > MOST_PACKED * each.compress_size]
        large = sum(each.file_size for each in packed)
        if large > LARGE:
            raise InspectError(
                f"{path} would unpack {short_bytes(sum(each.compress_size for each in packed))} of "
                f"{some_of([each.filename for each in packed], 2)} to {short_bytes(large)}: those are no tensors of a "
                f"model; give another"
            )
    with np.load(path, allow_pickle=False) as arrays:
        names = [name for name in arrays.files if name != "__metadata__"]
        # torch has the machine's own order of bytes alone.
        found = {name: arrays[name] for name in names}
        for name, array in found.items():
            if not isinstance(array, np.ndarray):  # a member that is none is given as its bytes
                raise InspectError(f"{path} holds {name!r}, which is no array: give a file that --save wrote")
        return {name: torch.from_numpy(_native(array)) for name, array in found.items()}


def _native(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _comparable(path: Path, name: str, tensor: Tensor) -> Tensor:
    """A saved tensor in a type that torch computes with. Raises InspectError for complex numbers."""
    if tensor.is_complex():
        raise InspectError(f"{path} holds complex numbers in {name!r}, which are not compared: save their parts apart")
    if str(tensor.dtype).startswith("torch.float8"):
        return tensor.float()
    return tensor.byte() if str(tensor.dtype) == "torch.bool" else tensor


def lens(path: Path) -> Mapping[str, Tensor]:
    """The saved tensors of a lens: of a .safetensors file, or of a .pt file by the unpickler that builds tensors alone.

    Raises InspectError for a file that cannot be read.
    """
    import torch

    if not opening.is_there(path):
        raise InspectError(f"there is no file {path}: give a lens as .safetensors or .pt")
    opening.check(path, None, advice="give a lens as .safetensors or .pt")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        torch_files.read(path)  # which has limits
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except InspectError:
        raise
    except Exception as error:
        raise InspectError(
            f"{path} cannot be read as a lens ({type(error).__name__}): give .safetensors, or a .pt of tensors alone"
        ) from error
    if not isinstance(content, Mapping):
        raise InspectError(f"{path} holds no names with tensors: give a lens as .safetensors or .pt")
    return {str(name): tensor for name, tensor in content.items() if isinstance(tensor, torch.Tensor)}
