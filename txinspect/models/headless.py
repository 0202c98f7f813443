"""A checkpoint without a head or a pooler: one saved from another class than the one that its config.json names."""

from __future__ import annotations

from inspect import signature
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
    if not base or not hasattr(model, base):
        return False
    tied, held = model.all_tied_weights_keys, _held(source, model)
    head = {name for name in model.state_dict() if not name.startswith(f"{base}.") and name not in tied}
    return bool(head) and bool(held) and not head & held


def is_poolerless(source: Source, model: PreTrainedModel) -> bool:
    """Whether a checkpoint that is here lacks the pooler of a bare encoder, which can be built without one."""
    if not hasattr(model, "pooler") or "add_pooling_layer" not in signature(type(model).__init__).parameters:
        return False
    held = _held(source, model)
    return bool(held) and not any(name.startswith("pooler.") for name in held)


def _held(source: Source, model: PreTrainedModel) -> set[str]:
    """The tensors of a model that a checkpoint has, as far as that can be told from what is here."""
    if stored_method(model.config) is not None or source.gguf_file or source.adapter is not None:
        return set()
    found = places(model, checkpoint.names_here(source)).values()
    return {tensor for place in found for tensor in place.tensors}
