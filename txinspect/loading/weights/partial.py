"""Subject → model with the weights of the modules that a pass uses: cast, quantized and placed by transformers."""

from __future__ import annotations

import ctypes
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from txinspect.guards import gguf_reader
from txinspect.guards.patching import patched
from txinspect.guards.quiet import as_source_error, quiet
from txinspect.loading import adapters
from txinspect.loading.device import device_for
from txinspect.loading.weights import fit
from txinspect.model_choice import ModelChoice
from txinspect.sources import checkpoint, headers
from txinspect.sources.source import Source
from txinspect.sources.torch_files import refused

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from txinspect.loading.subject import Subject

_M_MMAP_THRESHOLD = -3
"""Its number in glibc's malloc.h."""


@dataclass(frozen=True)
class Loaded:
    """A model with weights, and what was read for it."""

    model: PreTrainedModel
    files: list[Path]
    """The weight files that were opened."""
    read: frozenset[str]
    """The tensors that were taken from the checkpoint, by their names there."""
    names: Sequence[str]
    """All tensors of the checkpoint, in files that are here or not."""


def load(subject: Subject, choice: ModelChoice, uses: Mapping[str, bool]) -> Loaded:
    """Load the model with the weights of modules in use, in eval mode; `uses` tells by dotted path which these are.

    On the CPU at the stored dtype the weights are mapped into memory: a page is read when it is first used.
    Raises SourceError for weights that are missing, damaged or do not fit the config.
    """
    source = subject.source
    model_class = type(subject.as_configured)
    # An adapter is put on modules of every kind: the unused ones lose their weights after it.
    factory: Any = _partial(model_class, uses, drop=source.adapter is None)
    with ExitStack() as stack:
        found = source.weights(lambda names: fit.needed_tensors(subject, names, uses))
        options = _options(subject, choice, found)
        folder = stack.enter_context(_view(found))
        stack.enter_context(quiet())
        stack.enter_context(
            as_source_error(f"the weights of {source.name!r} could not be loaded", lambda: refused(found.files[0]))
        )
        names = found.all_names()
        fit.check_whole(subject, names, asked=choice.task is not None)
        fit.check_shapes(subject, headers.stored(found.files))  # before memory is taken for what does not fit
        if choice.quantization:
            _give_back_freed_blocks()
        read = stack.enter_context(_noted())
        if source.is_one_file:
            read |= fit.needed_tensors(subject, names, uses)
            stack.enter_context(gguf_reader.remembered(found.files[0], frozenset(read)))
        loaded = factory.from_pretrained(folder, **options)
    model: PreTrainedModel = loaded[0]
    model.__class__ = model_class
    _check_fit(source, loaded[1])
    if source.adapter is not None:
        adapters.attach(model, source.adapter)
        _drop(model, uses)
    model.eval()
    return Loaded(model, found.files, frozenset(read), names)


def part_of(loaded: Loaded, subject: Subject, uses: Mapping[str, bool]) -> Loaded:
    """A loaded model as it is for a pass that uses some of its modules: the tensors that this one needs."""
    return replace(loaded, read=loaded.read & fit.needed_tensors(subject, loaded.names, uses))


def _options(subject: Subject, choice: ModelChoice, found: checkpoint.WeightFiles) -> dict[str, Any]:
    """What from_pretrained is told to load the weights of the modules in use."""
    import torch

    gguf = subject.source.place.in_one_file
    return {
        "config": _config_of(type(subject.as_configured), subject.config),
        "dtype": choice.dtype if choice.dtype == "auto" else getattr(torch, choice.dtype),
        "device_map": choice.device_map or {"": device_for(choice)},
        "quantization_config": subject.quantizing_as,
        "trust_remote_code": choice.trust_remote_code,
        "gguf_file": gguf,
        "use_safetensors": None if gguf else found.files[0].suffix == ".safetensors",
        "local_files_only": True,
        "ignore_mismatched_sizes": True,
        "output_loading_info": True,
        **subject.task.settings,
    }


@contextmanager
def _view(found: checkpoint.WeightFiles) -> Iterator[Path]:
    """The folder to load weights from: a checkpoint's, or one whose index names only the shards that were fetched."""
    if found.index is None:
        yield found.folder
        return
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.write_index(found, Path(folder))
        yield Path(folder)


def _give_back_freed_blocks() -> None:
    """While loading weights and after, glibc returns each large block to the system when it is freed.

    It keeps blocks of up to 32 MB for later once it has seen some freed (mallopt(3), M_MMAP_THRESHOLD). Quantizing
    passes through tens of megabytes for each small matrix that stays, and what stays between them keeps them all: up to
    twice the model.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 20)


@contextmanager
def _noted() -> Iterator[set[str]]:
    """While open, the names of the tensors that transformers takes from a checkpoint to load are noted."""
    from transformers.core_model_loading import WeightTransform

    names: set[str] = set()
    original: Callable[..., None] = WeightTransform.add_tensor

    def add_tensor(self: Any, target_key: str, source_key: str, *arguments: Any, **options: Any) -> None:
        names.add(source_key)
        original(self, target_key, source_key, *arguments, **options)

    with patched(WeightTransform, "add_tensor", add_tensor):
        yield names


def _partial(model_class: type[PreTrainedModel], uses: Mapping[str, bool], *, drop: bool) -> type[PreTrainedModel]:
    """A model class that loads no weights for modules that are not used.

    transformers reads what the built model's state_dict() has room for; what it converts, quantizes or casts on the way
    stays its own business. It calls `_load_pretrained_model` on the model when it is built, and quantized where it will
    be, but has no weights yet, and `_finalize_model_loading` when it has them (modeling_utils.py).
    """

    class Partial(model_class):  # type: ignore[valid-type, misc]
        @staticmethod
        def _load_pretrained_model(model: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
            for tensors, name in _unused_tensors(model, uses).values():
                # Only transformers' own initialisers ask for this; on the meta device any other costs nothing.
                tensors[name]._is_hf_initialized = True
            return model_class._load_pretrained_model(model, *args, **kwargs)

        @staticmethod
        def _finalize_model_loading(model: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
            unused = _unused_tensors(model, uses)
            tied = {
                target: origin
                for target, origin in model.all_tied_weights_keys.items()
                if target not in unused and origin not in unused
            }
            # Of two that are one, both are in use or none is; what was not read cannot be compared.
            with patched(model, "all_tied_weights_keys", tied):
                found = model_class._finalize_model_loading(model, *args, **kwargs)
            if drop:
                _drop(model, uses)
            return found

        def adjust_generation_fn(self, *_: Any, **__: Any) -> None:
            """Nothing is generated by a model loaded in part: no generation_config.json is looked for."""

        def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
            unused = _unused_tensors(self, uses)
            everything = super().state_dict(*args, **kwargs)
            return {name: tensor for name, tensor in everything.items() if name not in unused}

    Partial.__name__, Partial.__qualname__ = model_class.__name__, model_class.__qualname__
    Partial.__module__ = model_class.__module__
    return Partial


def _drop(model: PreTrainedModel, uses: Mapping[str, bool]) -> None:
    """Drop the weights that were not loaded, so that nothing can compute with them."""
    for tensors, name in _unused_tensors(model, uses).values():
        tensors[name] = None


def _unused_tensors(model: PreTrainedModel, uses: Mapping[str, bool]) -> dict[str, tuple[dict[str, Any], str]]:
    """The weights of unused modules that a checkpoint holds, by full name: each dictionary, and the name in it."""
    found: dict[str, tuple[dict[str, Any], str]] = {}
    for path, module in model.named_modules():
        if not uses.get(path, True):  # a module that nobody foresaw is loaded
            stored = module._buffers.keys() - module._non_persistent_buffers_set
            places = [(module._parameters, name) for name in module._parameters]
            places += [(module._buffers, name) for name in module._buffers if name in stored]
            found |= {f"{path}.{name}": (tensors, name) for tensors, name in places if tensors[name] is not None}
    return found


def _config_of(model_class: type[PreTrainedModel], config: PretrainedConfig) -> PretrainedConfig:
    """The config that a loaded model class is built from; `config` may be a larger model's that it is a part of."""
    own_class = model_class.config_class
    if own_class is None or isinstance(config, own_class):
        return config
    part = deepcopy(config.get_text_config(decoder=True))
    if stored := getattr(config, "quantization_config", None):
        part.quantization_config = stored
    return part


def _check_fit(source: Source, found: dict[str, Any]) -> None:
    """Raise SourceError unless the loaded checkpoint held every tensor of the model, in its shape."""
    fit.complain_of_shapes(source, found["mismatched_keys"])
    fit.complain_of_missing(source, found["missing_keys"])
