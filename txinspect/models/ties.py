"""Tensors that a config ties and a checkpoint keeps apart: transformers loads what is stored, and so is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from txinspect.models import keys
from txinspect.sources import checkpoint
from txinspect.sources.tensors import TensorReader

if TYPE_CHECKING:
    from txinspect.models.subject import Subject


def are_stored_apart(subject: Subject) -> bool:
    """Whether a checkpoint that is here holds both of two tensors that are tied, with different numbers.

    Raises SourceError for weights that cannot be described.
    """
    tied = subject.as_configured.all_tied_weights_keys
    if not tied or subject.source.gguf_file:
        return False
    stored = {each.name: each for each in checkpoint.stored_here(subject.source)}
    places = keys.destinations(subject, list(stored))
    by_place = {place.tensors[0]: stored[name] for name, place in places.items() if not place.converted}
    pairs = [(by_place.get(target), by_place.get(origin)) for target, origin in tied.items()]
    with TensorReader() as reader:
        return any(one is not None and other is not None and not reader.is_equal(one, other) for one, other in pairs)
