"""Exact tensors → a .safetensors or .npz file, with their names and axes."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from txinspect import opening
from txinspect.errors import InspectError, spelled
from txinspect.records import InputRecord
from txinspect.sources.bundled_models import hub_cache
from txinspect.sources.source import Source
from txinspect.version import __version__
from txinspect.writing import written_whole

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class KeptTensor:
    """A tensor that is to be saved, and what its numbers are."""

    tensor: Tensor
    axes: list[str] | None = None
    coordinates: dict[str, list[int]] | None = None
    """The positions kept of an axis that was cut."""
    stack: str = ""
    """The stack that it is of, as its stage's name begins."""


@dataclass(frozen=True)
class Destination:
    """Where tensors are to be written, as it was looked at before the work."""

    path: Path
    real: Path
    """What links lead to."""
    overwrite: bool
    found: tuple[int, int, int] | None
    """The file that stands there, by device, number and time; None if there is none."""

    @property
    def replaces(self) -> bool:
        """Whether a file stands where tensors are to be saved."""
        return self.found is not None

    def look_again(self) -> None:
        """Raise InspectError where something new stands at the place to save to, which nobody said may be replaced."""
        now = _identity(self.real)
        if self.real.is_symlink() or self.path.resolve() != self.real:
            raise InspectError(f"{self.path} became a link while the model ran: nothing was saved; remove the link")
        if now is not None and now != self.found and not (self.overwrite or is_ours(self.real)):
            raise InspectError(
                f"{self.path} came to be while the model ran, and was not written by txinspect: nothing was saved; add "
                f"{spelled('overwrite', True)} to replace it"
            )


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def save(
    path: Path,
    kept: Mapping[str, KeptTensor],
    model: str,
    text: InputRecord,
    destination: Destination | None = None,
    told: Mapping[str, str] | None = None,
) -> list[str]:
    """Save tensors under their names, whole or not at all; returns what to know about the file, as sentences.

    Model and text are told under their names, the text's tokens as JSON under `tokens` (and `decoder_tokens` where a
    decoder reads a text of its own), the names of the axes, and the positions kept of an axis that was cut, as JSON
    under `axes` and `coordinates`, and what else is `told`: in the metadata of a .safetensors file, in the array
    `__metadata__` of an .npz file. NumPy has no bfloat16: an .npz file holds float32 in its place, which keeps every
    value.

    Raises InspectError if the file cannot be written; an existing one is then left as it was.
    """
    metadata = {
        "txinspect": __version__,
        "model": model,
        "text": text.text,
        "tokens": json.dumps(text.words),
        **({"decoder_tokens": json.dumps(text.decoder.words)} if text.decoder else {}),
        "axes": json.dumps({name: each.axes for name, each in kept.items()}),
        "coordinates": json.dumps({name: each.coordinates for name, each in kept.items() if each.coordinates}),
        **(told or {}),
    }
    try:
        # A link stays, and what it leads to is written.
        seen = destination or Destination(path, path.resolve(), True, None)
        with written_whole(seen.real, seen.look_again) as partial:
            write = _write_safetensors if path.suffix == ".safetensors" else _write_npz
            return write(partial, {name: each.tensor for name, each in kept.items()}, metadata)
    except OSError as error:
        raise InspectError(f"{path} could not be written: {error.strerror or error}; nothing was saved") from error


def check_destination(path: Path, sources: Iterable[Source], *, overwrite: bool) -> Destination:
    """Where tensors will be saved. Raises InspectError, before any work is done, for a file that cannot be, or is not
    to be.

    One that belongs to a model, to its adapter or to the Hub's cache is never written, by whatever path or link; one
    that txinspect did not write only where the person says so.
    """
    _check_writable(path)
    real = path.resolve()  # what links lead to
    if path.exists():
        opening.check(path, None, advice="give the name of one to write")
    for source in sources:
        if source.owns(real) and not (path.exists() and is_ours(path)):
            raise InspectError(f"{path} is a file of the model {source.name!r}, or would be: save it elsewhere")
    if real.is_relative_to(hub_cache().resolve()):
        raise InspectError(
            f"{path} lies in the Hub's local cache, where only what the Hub has may be: save it elsewhere"
        )
    if path.exists() and not overwrite and not is_ours(path):
        raise InspectError(
            f"{path} is there and was not written by txinspect: add {spelled('overwrite', True)} to replace it"
        )
    return Destination(path, real, overwrite, _identity(real))


def is_ours(path: Path) -> bool:
    """Whether txinspect saved a file of tensors, which its metadata tells."""
    try:
        if path.suffix == ".npz":
            return "txinspect" in json.loads(_npz_metadata(path))
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if length <= path.stat().st_size else {}
        return "txinspect" in (header.get("__metadata__") or {})
    except Exception:  # whatever else it is, it is not ours
        return False


def _npz_metadata(path: Path) -> str:
    import numpy as np

    with np.load(path, allow_pickle=False) as file:
        return str(file["__metadata__"])


def _check_writable(path: Path) -> None:
    """Raise InspectError for a file that tensors plainly cannot be saved to."""
    try:
        if path.is_dir():
            raise InspectError(f"{path} is a directory: give the name of a file in it")
        folder = (path.resolve() if path.is_symlink() else path).parent
        if not folder.is_dir():
            raise InspectError(
                f"{path} cannot be written: there is no directory {folder if path.is_symlink() else path.parent}"
            )
        if not os.access(folder, os.W_OK):
            raise InspectError(f"{path} cannot be written: no permission to write into {path.parent}")
    except OSError as error:
        raise InspectError(f"{path} cannot be written: {error.strerror}") from error
    except RuntimeError as error:
        raise InspectError(f"{path} cannot be written: it is a link that leads back to itself") from error


def _write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> list[str]:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        raise OSError(None, str(error)) from error
    return []


def _write_npz(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> list[str]:
    import numpy as np
    import torch

    widened = [name for name, tensor in tensors.items() if tensor.dtype == torch.bfloat16]
    arrays = {name: (tensor.float() if name in widened else tensor).numpy() for name, tensor in tensors.items()}
    # np.savez takes names as keywords, of which some are its own.
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in {"__metadata__": np.array(json.dumps(metadata)), **arrays}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
    if not widened:
        return []
    return [f"NumPy has no bfloat16: {len(widened)} tensors were saved as float32, which keeps every value."]
