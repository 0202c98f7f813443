"""Tensors that a config ties and a checkpoint keeps apart: transformers loads what is stored, and so is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from txinspect.errors import SourceError
from txinspect.models.places import places
from txinspect.sources import checkpoint
from txinspect.sources.tensors import TensorReader

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from txinspect.sources.source import Source


def are_stored_apart(source: Source, model: PreTrainedModel) -> bool:
    """Whether a checkpoint that is here, and readable, holds both of two tensors that are tied, with other numbers."""
    tied = model.all_tied_weights_keys
    if not tied or source.gguf_file:
        return False
    try:
        stored = {each.name: each for each in checkpoint.stored_here(source)}
    except SourceError:  # whoever reads the weights says so
        return False
    found = places(model, list(stored))
    by_place = {place.tensors[0]: stored[name] for name, place in found.items() if not place.converted}
    pairs = [(by_place.get(target), by_place.get(origin)) for target, origin in tied.items()]
    with TensorReader() as reader:
        return any(one is not None and other is not None and not reader.is_equal(one, other) for one, other in pairs)
