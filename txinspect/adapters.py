"""PEFT adapters: a folder of small weights that are put on the base model that it names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from txinspect.errors import SourceError, first_line
from txinspect.loading import quiet
from txinspect.source import ADAPTER_CONFIG, Source

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def inject(model: PreTrainedModel, source: Source) -> None:
    """Give a skeleton the modules of a source's adapter. Raises SourceError where it was not made for the model."""
    import torch

    with _fitting(source), torch.device("meta"):
        from peft import PeftConfig, inject_adapter_in_model

        inject_adapter_in_model(PeftConfig.from_pretrained(str(source.adapter)), model)


def attach(model: PreTrainedModel, source: Source) -> None:
    """Put a source's adapter on the model, whose modules keep their paths.

    Raises SourceError where it was not made for the model.
    """
    with _fitting(source):
        found = model.load_adapter(str(source.adapter), ignore_mismatched_sizes=True)
        if found.mismatched_keys:
            name, stored, wanted = sorted(found.mismatched_keys)[0]
            raise ValueError(f"{name} is {list(stored)} in the adapter and would be {list(wanted)} on the model")
        if found.unexpected_keys:
            raise ValueError(f"it has a tensor {min(found.unexpected_keys)}, for which the model has no place")


@contextmanager
def _fitting(source: Source) -> Iterator[None]:
    """Turn what goes wrong into a sentence."""
    try:
        with quiet():
            yield
    except Exception as error:
        raise SourceError(
            f"the adapter {source.name!r} does not fit its base model: {first_line(error)}; "
            f"check base_model_name_or_path in its {ADAPTER_CONFIG}"
        ) from error
