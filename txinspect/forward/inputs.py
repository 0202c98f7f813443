"""Tokens → what a model is called with, and what its call gives."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

from txinspect.forward.values import first_tensor
from txinspect.records import InputRecord
from txinspect.stage_names import DECODER, ENCODER

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def model_inputs(model: PreTrainedModel, text: InputRecord) -> dict[str, Tensor]:
    """The inputs that a model is called with for a text; (batch, seq) each, on the CPU."""
    import torch

    from txinspect.anatomy import locating

    # A model that reads several rows of ids is given the text's in each.
    ids = torch.tensor(text.input_ids).repeat(locating.rows_of_ids(model), 1)
    inputs = {"input_ids": ids, "attention_mask": torch.tensor(text.attention_mask)}
    if text.segments is not None:
        inputs["token_type_ids"] = torch.tensor(text.segments)
    if text.decoder is not None:
        inputs["decoder_input_ids"] = torch.tensor(text.decoder.input_ids)
    return inputs


def lengths_of(inputs: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """The (batch, seq) of a call's inputs, by the prefix of the stack that reads them."""
    batch, seq = inputs["attention_mask"].shape
    target = inputs["decoder_input_ids"].shape[1] if "decoder_input_ids" in inputs else seq
    return {"": (batch, seq), ENCODER: (batch, seq), DECODER: (batch, target)}


def call(model: PreTrainedModel, inputs: Mapping[str, Tensor], **options: Any) -> Any:
    """Call the model on these inputs, of which it is given those that its forward names; its output."""
    fields = signature(model.forward).parameters.values()
    named = {each.name for each in fields if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
    if "input_ids" not in named and "inputs" not in named:  # code of its own may hand on whatever it is given
        return model(**inputs, **options, use_cache=False)
    given = {name: tensor for name, tensor in inputs.items() if name in named}
    if "input_ids" not in named and "input_ids" in inputs:
        given["inputs"] = inputs["input_ids"]
    if "use_cache" in named or "past_key_values" in named:
        options["use_cache"] = False
    return model(**given, **options)


def logits_of(output: Any) -> Tensor:
    """What a call of a model gives: its logits, those of a span's start and end side by side; else its first tensor."""
    import torch

    if getattr(output, "logits", None) is not None:
        logits: Tensor = output.logits
        return logits
    if getattr(output, "start_logits", None) is not None:
        return torch.stack([output.start_logits, output.end_logits], dim=-1)
    found = first_tensor(output)
    assert found is not None, "every model puts out a tensor"
    return found
