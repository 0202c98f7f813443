"""Models in one .gguf file: which of its tensors a model needs, read through transformers' own loader."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from txinspect.guards.gguf_reader import remembered

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def architectures() -> list[str]:
    """The architectures of .gguf files that transformers converts."""
    from gguf import MODEL_ARCH_NAMES
    from transformers.integrations.gguf import utils
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    newer = {name for name in MODEL_ARCH_NAMES.values() if utils.is_gguf_arch_supported(name)}
    # Transformers takes its table's other sections for architectures, too.
    return sorted({*GGUF_SUPPORTED_ARCHITECTURES, *newer} - {"general", "tokenizer", "tokenizer_config"})


def tensors_of(path: Path, model: PreTrainedModel) -> dict[str, str]:
    """The model's tensor that each tensor of a .gguf file becomes, or becomes a part of; by their names.

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
