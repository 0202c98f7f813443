"""The model that a query is about: where it is, and its modules without weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from txinspect.queries import ModelChoice
from txinspect.source import Source

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel

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
    quantizing_as: BitsAndBytesConfig | None
    """How transformers is to quantize while loading; None where it is not."""


def load_subject(source: Source, choice: ModelChoice, notify: Notify, length: int = 1) -> Subject:
    """The model without weights, in the form that it takes for a text of that many tokens."""
    notify("importing torch and transformers")
    from txinspect import adapters, architecture, loading, quantizing

    config = loading.load_config(source, choice)
    quantizing.check_stored(source, config, choice)
    skeleton = loading.skeleton(source, choice, config)
    architecture.settle(skeleton, length)
    shown, quantization, quantizing_as = skeleton, None, None
    if choice.quantization or quantizing.stored_method(config) or source.adapter:
        shown = loading.skeleton(source, choice, config, tied=False)
        architecture.settle(shown, length)
        quantizing_as = quantizing.config_for(choice, shown)
        quantization = quantizing.quantize(shown, choice, source, config, quantizing_as)
        shown.tie_weights()
        if source.adapter is not None:
            adapters.inject(shown, source)
    return Subject(source, config, skeleton, shown, architecture.locate(shown), quantization, quantizing_as)
