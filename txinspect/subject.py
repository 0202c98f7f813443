"""The model that a query is about: where it is, and its modules without weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from txinspect.queries import ModelChoice
from txinspect.source import Source

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from txinspect.architecture import Architecture
    from txinspect.records import QuantizationRecord

Notify = Callable[[str], None]
"""Told, in a few words, what is going on: loading, running."""


@dataclass(frozen=True)
class Subject:
    """The model a query is about: where it is, and its modules without weights."""

    source: Source
    config: PretrainedConfig
    skeleton: PreTrainedModel
    """The modules as the config has them."""
    shown: PreTrainedModel
    """The modules as they are once loaded: quantized, with an adapter on them; else the skeleton itself."""
    architecture: Architecture
    """Of what is shown."""
    quantization: QuantizationRecord | None


def load_subject(source: Source, choice: ModelChoice, notify: Notify, length: int = 1) -> Subject:
    """The model without weights, in the form that it takes for a text of that many tokens."""
    notify("importing torch and transformers")
    from txinspect import adapters, architecture, loading, quantizing

    config = loading.load_config(source, choice)
    skeleton = loading.skeleton(source, choice, config)
    architecture.settle(skeleton, length)
    shown, quantization = skeleton, None
    if choice.quantization or quantizing.stored_method(config) or source.adapter:
        shown = loading.skeleton(source, choice, config)
        architecture.settle(shown, length)
        quantization = quantizing.quantize(shown, choice, source, config)
        if source.adapter is not None:
            adapters.inject(shown, source)
    return Subject(source, config, skeleton, shown, architecture.locate(shown), quantization)
