"""What parameters take, as stored and as quantized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

BLOCK_4BIT = 64
"""Weights that share one scale in bitsandbytes' 4-bit types (Dettmers et al. 2023, QLoRA, section 3)."""


@dataclass(frozen=True)
class Size:
    """Elements and bytes of one parameter, as it is stored."""

    numel: int
    bytes: int
    dtype: str


NOTHING: Mapping[str, Size] = {}


def count_parameters(model: PreTrainedModel) -> int:
    """The size of a model in unique parameters: tied ones count once."""
    return sum(tensor.numel() for tensor in model.parameters())


def quantizable(model: PreTrainedModel) -> list[str]:
    """The linear layers that bitsandbytes quantizes, by path: all but the head and what is tied to the embeddings."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D
    from transformers.quantizers.base import HfQuantizer
    from transformers.quantizers.quantizers_utils import should_convert_module

    kept = HfQuantizer.get_modules_to_not_convert(model, None, list(model._keep_in_fp32_modules or ()))
    return [
        path
        for path, module in model.named_modules()
        if (type(module) is nn.Linear or isinstance(module, Conv1D)) and should_convert_module(path, kept)
    ]


def parameter_sizes(model: nn.Module, stored: Mapping[str, Size]) -> dict[int, Size]:
    """The size of every parameter, by its identity: as it is stored, under whichever of its names, if that is known."""
    found, otherwise = dict[int, Size](), dict[int, Size]()
    for path, module in model.named_modules():
        for name, tensor in module.named_parameters(recurse=False):
            full = f"{path}.{name}" if path else name
            if full in stored:
                found.setdefault(id(tensor), stored[full])
            otherwise.setdefault(id(tensor), size(module, tensor))
    return otherwise | found


def sums(module: nn.Module, sizes: Mapping[int, Size]) -> tuple[int, int]:
    """Sums of the sizes of unique parameters in and below a module: how many elements, and their bytes."""
    own = {id(tensor): sizes[id(tensor)] for tensor in module.parameters()}
    return sum(each.numel for each in own.values()), sum(each.bytes for each in own.values())


def size(module: nn.Module, tensor: Tensor) -> Size:
    """The size of a parameter as stored; of a quantized weight's skeleton, what it will take with its scales."""
    count = tensor.numel()
    kind = type(tensor).__name__
    if kind == "Int8Params":
        return Size(count, bytes_8bit(tensor), "int8")
    if kind == "Params4bit":
        return Size(count, bytes_4bit(tensor), str(getattr(tensor, "quant_type", "4bit")))
    return Size(count, tensor.nbytes, str(tensor.dtype).removeprefix("torch."))


def bytes_8bit(weight: Tensor) -> int:
    """What a weight takes in 8 bits: a byte each and a float32 scale per row (Dettmers et al. 2022, LLM.int8)."""
    return weight.numel() + 4 * weight.shape[0]


def bytes_4bit(weight: Tensor) -> int:
    """What a weight takes in 4 bits: half a byte each and a float32 scale per block."""
    return (weight.numel() + 1) // 2 + 4 * -(-weight.numel() // BLOCK_4BIT)
