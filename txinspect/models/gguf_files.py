"""Models in one .gguf file: which of its tensors a model needs, read through transformers' own loader."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from txinspect.patching import patched

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def architectures() -> list[str]:
    """The GGUF architectures that transformers converts."""
    from gguf import MODEL_ARCH_NAMES
    from transformers.integrations.gguf import utils
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    newer = {name for name in MODEL_ARCH_NAMES.values() if utils.is_gguf_arch_supported(name)}
    # Transformers takes its table's other sections for architectures, too.
    return sorted({*GGUF_SUPPORTED_ARCHITECTURES, *newer} - {"general", "tokenizer", "tokenizer_config"})


def tensors_of(path: Path, model: PreTrainedModel) -> dict[str, str]:
    """The model's tensor that each of a file's becomes, or becomes a part of; by their names.

    Source: transformers' modeling_gguf_pytorch_utils.py, and integrations/gguf for newer architectures.
    """
    from transformers import modeling_gguf_pytorch_utils as legacy
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
    from transformers.integrations.gguf.reader import GgufHeader
    from transformers.integrations.gguf.utils import get_gguf_conversion_mapping, is_gguf_arch_supported

    header = GgufHeader.from_file(str(path))
    names = [each.name for each in header.tensors]
    if is_gguf_arch_supported(header.architecture):
        mapping = get_gguf_conversion_mapping(header.architecture, model.config)
        renamings = [each for each in mapping if isinstance(each, WeightRenaming)]
        converters = [each for each in mapping if isinstance(each, WeightConverter)]
        return {name: rename_source_key(name, renamings, converters)[0] for name in names}
    kind = legacy.TENSOR_PROCESSORS.get(header.architecture, legacy.TensorProcessor)
    with remembered():
        processor = kind(config=model.config.to_dict())  # type: ignore[no-untyped-call]
        found: dict[str, str] = legacy.get_gguf_hf_weights_map(model, processor)
    return {name: found[name] for name in names if name in found}


@contextmanager
def remembered(path: Path | None = None, wanted: Collection[str] | None = None) -> Iterator[None]:
    """While open, the package gguf reads a file once, and of `path` shows only the tensors that are wanted.

    Its reader takes seconds over a vocabulary and its table of names as long over a model's modules; transformers asks
    for both again and again.
    """
    import gguf

    reader, names = gguf.GGUFReader, gguf.get_tensor_name_map

    def read(file: Any, *_: Any) -> Any:
        whole = _reader(reader, str(file), Path(file).stat().st_mtime_ns)
        if wanted is None or Path(file) != path:
            return whole
        return SimpleNamespace(fields=whole.fields, tensors=[each for each in whole.tensors if each.name in wanted])

    with patched(gguf, "GGUFReader", read), patched(gguf, "get_tensor_name_map", _name_map(names)):
        yield


@lru_cache(maxsize=1)  # a reader maps its file: one is enough for a process that lives on
def _reader(kind: Any, path: str, _changed: int) -> Any:
    return kind(path)


@cache
def _name_map(names: Any) -> Any:
    return cache(names)
