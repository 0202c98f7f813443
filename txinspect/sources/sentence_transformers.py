"""modules.json of a sentence-transformers model → how it pools."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from txinspect import opening
from txinspect.errors import SourceError, spelled
from txinspect.sentence_vectors import Activation, Dense, LayerNorm, Normalize, Pooling, Recipe, Step
from txinspect.sources import checkpoint, headers, modules_json, sentence_settings
from txinspect.sources.source import Source
from txinspect.sources.tensors import TensorReader
from txinspect.wording import shown

_FLAGS: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Flags of a pooling's config.json, in the order of what stands side by side; newer ones name the ways in
`pooling_mode`, in an order of their own."""

_TENSORS = {Dense: "linear", LayerNorm: "norm"}
"""What the weight and the bias of a step begin with."""


if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = tuple[NDArray[np.float64], NDArray[np.float64] | None]


def recipe(source: Source) -> Recipe:
    """How a sentence-transformers model pools. Raises SourceError for one that does not say or is not followed here."""
    asked = spelled("pooled", True)
    folder = source.sentence_folder()
    if folder is None or not opening.is_there(folder / modules_json.FILE):
        raise SourceError(
            f"{source.name!r} does not say how it pools: it has no modules.json, as sentence-transformers writes it; "
            f"omit {asked}"
        )
    place = modules_json.encoder(folder, source.name)
    if place and source.modules is None:  # else the model was loaded from there
        raise SourceError(
            f"modules.json of {source.name!r} says that its encoder is in {place}, but a config.json is beside that, "
            f"of another model: move it away, or omit {asked}"
        )
    found = modules_json.read(folder, source.name)
    _check_kinds(source, [modules_json.kind(module) for module in found])
    ways: tuple[Pooling, ...] = ()
    with_prompt, steps = True, list[Step]()
    for module in found:
        kind, own = modules_json.kind(module), folder / modules_json.place(module, source.name)
        if kind == "Pooling":
            ways, with_prompt = _ways(source, own / "config.json")
        elif kind in _STEPS:
            steps.append(_STEPS[kind](source, own))
    settings = sentence_settings.settings(source.name, folder, folder / place)
    return Recipe(
        settings.reading, ways, tuple(steps), with_prompt, settings.first, settings.notes, settings.similarity
    )


def _check_kinds(source: Source, kinds: list[str]) -> None:
    """Raise SourceError for sentence-transformers modules other than an encoder, a pooling, and known ones after."""
    asked = spelled("pooled", True)
    otherwise = f"which {asked} does not run: omit it, and take the last hidden states"
    unknown = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Dropout", *_STEPS)]
    if unknown:
        raise SourceError(f"{source.name!r} has a module {unknown[0]} after its encoder, {otherwise}")
    if "Pooling" not in kinds:
        raise SourceError(f"modules.json of {source.name!r} names no pooling: omit {asked}")
    at = kinds.index("Pooling")
    for place, misplaced in (
        ("before", [kind for kind in kinds[:at] if kind != "Transformer"]),
        ("after", [kind for kind in kinds[at + 1 :] if kind in ("Transformer", "Pooling")]),
    ):
        if misplaced:
            raise SourceError(f"{source.name!r} has a module {misplaced[0]} {place} its pooling, {otherwise}")


def _checked(source: Source, folder: Path) -> dict[str, Any]:
    """The config.json of a sentence-transformers module after the pooling; empty for none.

    Raises SourceError for a module that reads or makes another thing than the sentence's vector.
    """
    if not opening.is_there(folder / "config.json"):
        return {}
    what = f"config.json in {folder.name} of {source.name!r}"
    config = opening.read_object(folder / "config.json", opening.SMALL, what)
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, "sentence_embedding"):
            raise SourceError(
                f"{what} says {key} is {shown(config[key])}, which is not followed here, only sentence_embedding is: "
                f"omit {spelled('pooled', True)}, and take the last hidden states"
            )
    return config


def _dense(source: Source, folder: Path) -> Dense:
    """The dense layer after the pooling. Raises SourceError for one whose files do not say what it computes."""
    what = f"{folder.name} of {source.name!r}"
    opening.read_object(folder / "config.json", opening.SMALL, f"config.json in {what}")
    config = _checked(source, folder)
    if config.get("use_residual"):
        raise SourceError(
            f"{what} says use_residual is {shown(config['use_residual'])}, which is not followed here: omit "
            f"{spelled('pooled', True)}, and take the last hidden states"
        )
    full_name = str(config.get("activation_function", "torch.nn.Tanh"))  # Tanh is what there is without one
    named = full_name.rpartition(".")[2] if full_name.startswith("torch.") else full_name
    activation = next((each for each in get_args(Activation) if each == named), None)
    if activation is None:
        raise SourceError(
            f"{what} has the activation {shown(named)}, which is none of {', '.join(get_args(Activation))}"
        )
    file, shape = _weight(what, folder, "linear.weight", 2)
    return Dense(file, shape[0], shape[1], activation)


def _layer_norm(source: Source, folder: Path) -> LayerNorm:
    """The layer norm after the pooling. Raises SourceError for one without its numbers."""
    file, shape = _weight(f"{folder.name} of {source.name!r}", folder, "norm.weight", 1)
    return LayerNorm(file, shape[0])


def _weight(what: str, folder: Path, name: str, axes: int) -> tuple[Path, tuple[int, ...]]:
    """The file of a weight after the pooling, and its shape. Raises SourceError for none of so many axes."""
    files = [folder / file for file in ("model.safetensors", "pytorch_model.bin")]
    file = next((each for each in files if opening.is_there(each)), None)
    if file is None:
        raise SourceError(f"{what} has no weights: neither model.safetensors nor pytorch_model.bin is in it")
    checkpoint.check_file(file)
    found = {each.name: each for each in headers.stored([file])}
    weight, bias = found.get(name), found.get(name.replace("weight", "bias"))
    if weight is None or len(weight.shape) != axes:
        kind = "matrix" if axes == 2 else "vector"
        raise SourceError(f"{file.name} in {what} holds no {kind} {name}: fetch it again")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise SourceError(
            f"{file.name} in {what} holds a bias of {list(bias.shape)} beside a weight of {list(weight.shape)}: fetch "
            f"it again"
        )
    return file, tuple(weight.shape)


def _normalize(source: Source, folder: Path) -> Normalize:
    _checked(source, folder)
    return Normalize()


_STEPS: dict[str, Callable[[Source, Path], Step]] = {
    "Normalize": _normalize,
    "Dense": _dense,
    "LayerNorm": _layer_norm,
}
"""What may follow the pooling; a Dropout may, too: it is of training alone."""


def stored_numbers(step: Dense | LayerNorm) -> Numbers:
    """The stored weight, (out, in), of a layer after the pooling, or a layer norm's, and its bias, in float64."""
    found = {each.name: each for each in headers.stored([step.file])}
    prefix = _TENSORS[type(step)]

    def read(name: str) -> Any:
        tensor = found.get(f"{prefix}.{name}")
        return None if tensor is None else reader.reading(tensor)(0, prod(tensor.shape)).copy().reshape(tensor.shape)

    with TensorReader() as reader:
        return read("weight"), read("bias")


def _ways(source: Source, path: Path) -> tuple[tuple[Pooling, ...], bool]:
    """The ways in which a sentence-transformers model pools, and whether it pools its prompt's tokens, too."""
    what = f"{path.parent.name}/config.json of {source.name!r}"
    config = opening.read_object(path, opening.SMALL, what)
    with_prompt = config.get("include_prompt", True)
    if not isinstance(with_prompt, bool):
        raise SourceError(
            f"{what} says include_prompt is {shown(with_prompt)}, but it is true or false: fetch or write it again"
        )
    flags = {key: value for key, value in config.items() if key.startswith("pooling_mode_")}
    wrong = next((key for key, value in flags.items() if key not in _FLAGS or not isinstance(value, bool | None)), None)
    if wrong is not None:
        kind = "it is true or false" if wrong in _FLAGS else f"which is none of {', '.join(_FLAGS)}"
        raise SourceError(f"{what} says {wrong} is {shown(flags[wrong])}: {kind}; fetch or write it again")
    named = config.get("pooling_mode")
    ways = named if isinstance(named, list) else [named]
    if named is None:  # the mean where no flag is set
        ways = [way for flag, way in _FLAGS.items() if config.get(flag)] or ["mean"]
    if len(ways) > len(get_args(Pooling)):
        raise SourceError(f"{what} pools in {len(ways):,} ways, of which there are {len(get_args(Pooling))}")
    unknown = [way for way in ways if way not in get_args(Pooling)]
    if unknown or not ways:
        pooled_by = shown(unknown[0]) if unknown else "nothing"
        raise SourceError(f"{what} pools by {pooled_by}, which is none of {', '.join(get_args(Pooling))}")
    return tuple(ways), with_prompt
