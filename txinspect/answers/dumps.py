"""Tensors that were saved, by txinspect or by another program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from txinspect.errors import InspectError
from txinspect.wording import some_of

if TYPE_CHECKING:
    from torch import Tensor


def load(path: Path, pairs: Sequence[str] = ()) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .npz file by the names of our stages; `pairs` are theirs=ours.

    Raises InspectError for a file that cannot be read, and for a name that it does not have.
    """
    if path.suffix not in (".safetensors", ".npz"):
        raise InspectError(f"{path} is neither a .safetensors nor an .npz file: give one that --save wrote")
    try:
        tensors = _safetensors(path) if path.suffix == ".safetensors" else _npz(path)
    except FileNotFoundError:
        raise InspectError(f"there is no file {path}: give one that --save wrote") from None
    except Exception as error:
        raise InspectError(f"{path} cannot be read as {path.suffix}: {error}") from error
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

    with np.load(path, allow_pickle=False) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files if name != "__metadata__"}
