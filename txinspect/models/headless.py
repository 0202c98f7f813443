"""A checkpoint without a head: one that was saved from the bare model, whatever class its config.json names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from txinspect.models.places import places
from txinspect.models.quantization.stored import stored_method
from txinspect.sources import checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from txinspect.sources.source import Source


def is_headless(source: Source, model: PreTrainedModel) -> bool:
    """Whether a checkpoint that is here has the tensors of a model without its head, and none of its head's."""
    base = model.base_model_prefix
    if (
        stored_method(model.config) is not None
        or source.gguf_file
        or source.adapter is not None
        or not base
        or not hasattr(model, base)
    ):
        return False
    names = checkpoint.names_here(source)
    tied = model.all_tied_weights_keys
    head = {name for name in model.state_dict() if not name.startswith(f"{base}.") and name not in tied}
    held = {tensor for place in places(model, names).values() for tensor in place.tensors}
    return bool(head) and bool(held) and not head & held
