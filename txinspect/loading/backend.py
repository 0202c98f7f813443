"""The attention backend that a model runs on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from txinspect.errors import InspectError
from txinspect.guards.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def other_backend(model: PreTrainedModel) -> str | None:
    """The other attention backend of sdpa and eager; None for a model on neither."""
    return {"sdpa": "eager", "eager": "sdpa"}.get(str(model.config._attn_implementation))


@contextmanager
def on_backend(model: PreTrainedModel, name: str) -> Iterator[None]:
    """While open, a model runs on another attention backend. Raises InspectError for one that it does not have."""
    before = model.config._attn_implementation
    try:
        with quiet():
            model.set_attn_implementation(name)
    except (ValueError, ImportError, KeyError) as error:
        raise InspectError(
            f"the attention backend {name!r} is not to be had for this model: give sdpa, eager or one that it has"
        ) from error
    try:
        yield
    finally:
        with quiet():
            model.set_attn_implementation(before)
