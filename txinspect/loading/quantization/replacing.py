"""Quantized modules in a model without weights, as loading makes them."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from txinspect.guards.quiet import as_source_error, quiet
from txinspect.loading.quantization.bitsandbytes import check
from txinspect.loading.quantization.matrices import matrices
from txinspect.loading.quantization.record import record
from txinspect.loading.quantization.stored import stored_config, stored_method
from txinspect.model_choice import ModelChoice
from txinspect.records import QuantizationRecord
from txinspect.sources.source import Source

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel


def quantize(
    model: PreTrainedModel,
    choice: ModelChoice,
    source: Source,
    config: PretrainedConfig,
    asked: BitsAndBytesConfig | None,
) -> QuantizationRecord | None:
    """Replace a skeleton's modules by the quantized ones that loading makes of them, and record which; None for none.

    The skeleton is not yet tied: transformers chooses before it ties. Raises InspectError if a quantization that is
    asked for cannot be had, or a stored one cannot be read.
    """
    from transformers.modeling_utils import local_torch_dtype
    from transformers.quantizers.auto import AutoHfQuantizer

    method = choice.quantization or stored_method(config)
    if method is None:
        return None
    before = matrices(model)
    wanted = asked or deepcopy(stored_config(config))
    failed = f"{source.name!r} is stored quantized with {method}, which cannot be read here"
    with quiet(), as_source_error(failed), local_torch_dtype(model.dtype):
        quantizer = AutoHfQuantizer.from_config(wanted, pre_quantized=choice.quantization is None)
        # Some packages read it there, where from_pretrained puts it before it builds the model.
        model.config.quantization_config = quantizer.quantization_config
        quantizer.validate_environment(device_map={"": "cpu"})
        quantizer.preprocess_model(model=model, dtype=model.dtype, device_map={"": "cpu"}, checkpoint_files=None)
    found = record(model, before, method, dequantized=bool(getattr(quantizer.quantization_config, "dequantize", False)))
    if choice.quantization:
        check(found, model, choice)
    return found
