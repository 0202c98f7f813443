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

Notify = Callable[[str], None]
"""Told, in a few words, what is going on: loading, running."""


@dataclass(frozen=True)
class Subject:
    """The model a query is about: where it is, and its modules without weights."""

    source: Source
    config: PretrainedConfig
    skeleton: PreTrainedModel
    architecture: Architecture


def load_subject(source: Source, choice: ModelChoice, notify: Notify, length: int = 1) -> Subject:
    """The model without weights, in the form that it takes for a text of that many tokens."""
    notify("importing torch and transformers")
    from txinspect import architecture, loading

    config = loading.load_config(source, choice)
    skeleton = loading.skeleton(source, choice, config)
    if choice.quantization:
        loading.quantize_skeleton(skeleton, choice)
    architecture.settle(skeleton, length)
    return Subject(source, config, skeleton, architecture.locate(skeleton))
