"""Vectors in files: what `--save` and `steer make` wrote, control vectors in GGUF, and tensors that torch saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from txinspect import opening
from txinspect.answers import dumps
from txinspect.errors import InspectError, first_line
from txinspect.sources import gguf_header, torch_files

if TYPE_CHECKING:
    from torch import Tensor

ALONE = "vector"
"""What a tensor is called that a .pt file holds by itself."""

_GGUF_NUMBERS = {"F32": "<f4", "F16": "<f2"}
"""Types of the numbers of a control vector, as numpy calls them; llama.cpp takes F32 alone."""

_ADVICE = "give .safetensors, .npz, .gguf or .pt"


def load(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by their names: those of a .gguf are direction.K, as llama.cpp and repeng name them.

    A .pt file may hold one tensor, which is called `vector`, or whose rows are called 0, 1, …: (layers, hidden).
    Raises InspectError for a file that cannot be read.
    """
    if path.suffix not in (".gguf", ".pt"):
        return dumps.load(path)
    if not opening.is_there(path):
        raise InspectError(f"there is no file {path}: {_ADVICE}")
    return _gguf(path) if path.suffix == ".gguf" else _torch(path)


def _gguf(path: Path) -> dict[str, Tensor]:
    """The directions of a control vector. Raises InspectError for a GGUF of something else."""
    import numpy as np
    import torch

    header = gguf_header.read_header(path)
    kind = header.settings.get("general.architecture")
    if kind != "controlvector":
        raise InspectError(f"{path} is a GGUF of {kind!r}, and no control vector", "give one with directions")
    found: dict[str, Tensor] = {}
    with path.open("rb") as stream:
        for each in header.tensors:
            if each.kind not in _GGUF_NUMBERS or len(each.shape) != 1:
                raise InspectError(
                    f"{path} holds {each.name!r} as {each.kind} of {list(each.shape)}", "give vectors as F32 or F16"
                )
            stream.seek(each.offset)
            numbers = np.frombuffer(stream.read(each.bytes), _GGUF_NUMBERS[each.kind])
            found[each.name] = torch.from_numpy(numbers.astype(np.float32))
    if not found:
        raise InspectError(f"{path} holds no directions", "give another")
    return found


def _torch(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pt file, once the reader that builds nothing has found it to hold tensors alone."""
    import torch

    torch_files.read(path, alone=ALONE)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InspectError(
            f"{path} cannot be read as tensors ({type(error).__name__}: {first_line(error)})", _ADVICE
        ) from error
    if not isinstance(content, torch.Tensor):
        return {str(name): each.detach() for name, each in content.items() if isinstance(each, torch.Tensor)}
    if content.ndim == 1:
        return {ALONE: content.detach()}
    if content.ndim != 2:
        raise InspectError(f"{path} holds a tensor of {list(content.shape)}", "give (hidden,) or (layers, hidden)")
    return {str(row): each for row, each in enumerate(content.detach())}
