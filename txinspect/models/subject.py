"""The model that a query is about: where it is, and its modules without weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from txinspect.anatomy import locating
from txinspect.errors import SourceError
from txinspect.models import adapters, skeleton, ties
from txinspect.models.config import load_config
from txinspect.models.quantization import bitsandbytes, replacing, stored
from txinspect.queries import ModelChoice, Notify
from txinspect.sources.source import Source

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel

    from txinspect.anatomy.architecture import Architecture
    from txinspect.records import QuantizationRecord


@dataclass(frozen=True)
class Subject:
    """The model a query is about: where it is, and its modules without weights."""

    source: Source
    config: PretrainedConfig
    as_configured: PreTrainedModel
    """The modules as the config has them."""
    as_loaded: PreTrainedModel
    """The modules as they are once loaded: quantized, with an adapter on them; else those as configured."""
    architecture: Architecture
    """Of the modules as loaded."""
    quantization: QuantizationRecord | None
    quantizing_as: BitsAndBytesConfig | None
    """How transformers is to quantize while loading; None if it is not."""
    whole_because: str | None
    """Why all of the model is loaded, whatever a pass uses; None if it is not."""
    missing: str | None
    """What is to be installed before it runs, in a sentence; None if nothing is."""


def load_subject(
    source: Source, choice: ModelChoice, notify: Notify, length: int = 1, *, only_looked_at: bool = False
) -> Subject:
    """The model without weights, in the form that it takes for a text of that many tokens.

    One that is `only_looked_at` needs no package that runs what it is stored as: its modules are those of the config.

    Raises InspectError for a model that cannot be built, or not as the choice asks.
    """
    notify("importing torch and transformers")
    config = load_config(source, choice)
    missing = stored.check_stored(source, config, choice)
    if missing and not only_looked_at:
        raise SourceError(missing)
    subject = _built(source, choice, config, length, missing)
    if ties.are_stored_apart(source, subject.as_configured):
        for each in (config, config.get_text_config(decoder=True)):
            each.tie_word_embeddings = False
        subject = _built(source, choice, config, length, missing)
    return subject


def _built(source: Source, choice: ModelChoice, config: PretrainedConfig, length: int, missing: str | None) -> Subject:
    """The model of a config; as configured where a package for what it is stored as is `missing`."""
    as_configured = skeleton.build(source, choice, config)
    if source.adapter is not None:
        adapters.resize(as_configured, source)
    locating.settle(as_configured, length)
    as_loaded, quantization, quantizing_as = as_configured, None, None
    method = stored.stored_method(config)
    if not missing and (choice.quantization or method or source.adapter):
        as_loaded = skeleton.build(source, choice, config, tied=False)
        locating.settle(as_loaded, length)
        quantizing_as = bitsandbytes.config_for(choice, as_loaded)
        quantization = replacing.quantize(as_loaded, choice, source, config, quantizing_as)
        as_loaded.tie_weights()
        if source.adapter is not None:
            adapters.resize(as_loaded, source)
            adapters.inject(as_loaded, source)
    whole_because = None
    if method not in stored.ALONE:
        whole_because = f"the package that runs {method} works on the whole model"
    elif source.adapter is not None:
        whole_because = adapters.shared(source)
    return Subject(
        source=source,
        config=config,
        as_configured=as_configured,
        as_loaded=as_loaded,
        architecture=locating.locate(as_loaded),
        quantization=quantization,
        quantizing_as=quantizing_as,
        whole_because=whole_because,
        missing=missing,
    )


def context(subject: Subject) -> int | None:
    """How many tokens a model was made for: the rows of its position table, else what its config says."""
    stated = getattr(subject.as_configured.config.get_text_config(), "max_position_embeddings", None)
    return subject.architecture.max_positions or (stated if isinstance(stated, int) and stated > 0 else None)
