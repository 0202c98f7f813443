"""A checkpoint without a head or a pooler: one saved from another class than the one that its config.json names."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING

from txinspect.loading.quantization.stored import stored_method
from txinspect.loading.weights.destinations import places
from txinspect.loading.weights.ties import lacking

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from txinspect.sources.source import Source


def is_headless(source: Source, model: PreTrainedModel) -> bool:
    """Whether a checkpoint here is headless: it has all tensors of a model without its head, and none of its head's.

    The body's pooler may be lacking, too, where the bare model can be built without one.
    """
    base, held = model.base_model_prefix, _held(source, model)
    if not base or not hasattr(model, base) or not held:
        return False
    body = {name for name in model.state_dict() if name.startswith(f"{base}.")}
    lacks = lacking(model, held)
    if _may_lack_pooler(getattr(model, base)):
        lacks = {name for name in lacks if not name.startswith(f"{base}.pooler.")}
    # What is tied to the body is no head of its own.
    return bool(lacks) and lacks == lacking(model, body)


def is_poolerless(source: Source, model: PreTrainedModel) -> bool:
    """Whether a checkpoint here lacks the pooler of a bare encoder, which can be built without one."""
    held = _held(source, model)
    return _may_lack_pooler(model) and bool(held) and not any(name.startswith("pooler.") for name in held)


def _may_lack_pooler(bare: nn.Module) -> bool:
    """Whether a checkpoint of a bare model may lack its pooler, since it can be built without one."""
    return hasattr(bare, "pooler") and "add_pooling_layer" in signature(type(bare).__init__).parameters


def _held(source: Source, model: PreTrainedModel) -> set[str]:
    """The tensors of a model that a checkpoint, perhaps headless, has as far as can be told from what is here."""
    if stored_method(model.config) is not None or not source.is_as_saved:
        return set()
    found = places(model, source.names_here()).values()
    return {tensor for place in found for tensor in place.tensors}
