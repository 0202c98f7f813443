"""modules.json of a sentence-transformers model → how it pools."""

from __future__ import annotations

import json
import re
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from txinspect import opening
from txinspect.errors import SourceError, spelled
from txinspect.queries import shown
from txinspect.recipe import Activation, Dense, Normalize, Pooling, Recipe, Step
from txinspect.sources import headers
from txinspect.sources.source import Source
from txinspect.sources.tensors import TensorReader

FILES = ("modules.json", "*_*/config.json", "*_Dense/model.safetensors", "*_Dense/pytorch_model.bin")

_FLAGS: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Flags of a pooling's config.json; newer ones name the way in `pooling_mode`."""


if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = tuple[NDArray[np.float64], NDArray[np.float64] | None]


def recipe(source: Source) -> Recipe:
    """How a model pools. Raises SourceError for one that does not say, or does more than pool and normalize."""
    asked = spelled("pooled", True)
    folder = None if source.gguf_file else source.folder(FILES)
    if folder is None or not opening.is_there(folder / "modules.json"):
        raise SourceError(
            f"{source.name!r} does not say how it pools: it has no modules.json, as sentence-transformers writes it; "
            f"omit {asked}"
        )
    ways: tuple[Pooling, ...] = ()
    steps: list[Step] = []
    for module in _modules(source, folder):
        kind = str(module.get("type")).rpartition(".")[2]
        if kind == "Pooling":
            ways = _ways(source, _folder(source, folder, module) / "config.json")
        elif kind == "Normalize":
            steps.append(Normalize())
        elif kind == "Dense":
            steps.append(_dense(source, _folder(source, folder, module)))
        elif kind != "Transformer":
            raise SourceError(
                f"{source.name!r} has a module {kind} behind its encoder, which {asked} does not run: omit it, and "
                f"take the last hidden states"
            )
    if not ways:
        raise SourceError(f"modules.json of {source.name!r} names no pooling: omit {asked}")
    return Recipe(ways, tuple(steps))


def _folder(source: Source, folder: Path, module: dict[str, Any]) -> Path:
    """Where a module's files are. Raises SourceError for a place that is none of the model's own."""
    name = str(module.get("path"))
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise SourceError(f"modules.json of {source.name!r} names a folder outside of it, {shown(name)}: it is damaged")
    return folder / name


def _dense(source: Source, folder: Path) -> Dense:
    """A layer behind the pooling. Raises SourceError for one whose files do not say what it computes."""
    what = f"{folder.name} of {source.name!r}"
    config = opening.read_object(folder / "config.json", opening.SMALL, f"config.json in {what}")
    named = str(config.get("activation_function")).rpartition(".")[2]
    activation = next((each for each in get_args(Activation) if each == named), None)
    if activation is None:
        raise SourceError(
            f"{what} has the activation {shown(named)}, which is none of {', '.join(get_args(Activation))}"
        )
    files = [folder / name for name in ("model.safetensors", "pytorch_model.bin")]
    file = next((each for each in files if opening.is_there(each)), None)
    if file is None:
        raise SourceError(f"{what} has no weights: neither model.safetensors nor pytorch_model.bin is in it")
    found = {each.name: each for each in headers.stored([file])}
    weight = found.get("linear.weight")
    if weight is None or len(weight.shape) != 2:
        raise SourceError(f"{file.name} in {what} holds no matrix linear.weight: fetch it again")
    return Dense(file, weight.shape[0], weight.shape[1], activation)


def numbers(dense: Dense) -> Numbers:
    """The weight of a layer, (out, in), and its bias, (out,) or None, in float64."""
    found = {each.name: each for each in headers.stored([dense.file])}

    def read(name: str) -> Any:
        tensor = found.get(name)
        return None if tensor is None else reader.reading(tensor)(0, prod(tensor.shape)).copy().reshape(tensor.shape)

    with TensorReader() as reader:
        return read("linear.weight"), read("linear.bias")


def _modules(source: Source, folder: Path) -> list[dict[str, Any]]:
    what = f"modules.json of {source.name!r}"
    try:
        found = json.loads(opening.read_text(folder / "modules.json", opening.SMALL, what))
    except ValueError as error:
        raise SourceError(f"{what} is not JSON ({error}): fetch or write it again") from error
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise SourceError(f"{what} is no list of modules: fetch or write it again")
    return found


def _ways(source: Source, path: Path) -> tuple[Pooling, ...]:
    what = f"{path.parent.name}/config.json of {source.name!r}"
    config = opening.read_object(path, opening.SMALL, what)
    named = config.get("pooling_mode")
    if named is not None:
        ways = named if isinstance(named, list) else [named]
        unknown = [way for way in ways if way not in get_args(Pooling)]
        if unknown:
            raise SourceError(f"{what} pools by {shown(unknown[0])}, which is none of {', '.join(get_args(Pooling))}")
        return tuple(ways)
    return tuple(way for flag, way in _FLAGS.items() if config.get(flag) is True)
