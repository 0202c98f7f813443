"""The model that a query is about: where it is, and its modules without weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from txinspect.anatomy import locating
from txinspect.errors import SourceError
from txinspect.guards.quiet import quiet
from txinspect.loading import adapters, skeleton
from txinspect.loading import task as tasks
from txinspect.loading.config import load_config
from txinspect.loading.quantization import bitsandbytes, replacing, stored
from txinspect.loading.task import Task
from txinspect.loading.weights import headless, ties
from txinspect.queries import Notify
from txinspect.sources.source import Source
from txinspect.texts.opened import Opened

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel

    from txinspect.anatomy.architecture import Architecture
    from txinspect.loading.weights.destinations import Destination
    from txinspect.records import QuantizationRecord


@dataclass(frozen=True)
class Subject:
    """The model a query is about: where it is, and its modules without weights."""

    opened: Opened
    config: PretrainedConfig
    as_configured: PreTrainedModel
    """The modules as the config has them."""
    as_loaded: PreTrainedModel
    """The modules as they are once loaded: quantized, with an adapter on them; else those as configured."""
    architecture: Architecture
    """Of the modules as loaded."""
    task: Task
    quantization: QuantizationRecord | None
    quantizing_as: BitsAndBytesConfig | None
    """How transformers is to quantize while loading; None if it is not."""
    whole_because: str | None
    """Why all of the model is loaded, whatever a pass uses; None if it is not."""
    missing: str | None
    """What is to be installed before it runs, in a sentence; None if nothing is."""
    destinations: dict[tuple[str, ...], dict[str, Destination]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    """Where tensors of a checkpoint fit into it, by their names: found once. See loading/weights/fit."""

    @property
    def source(self) -> Source:
        """Where the files of the query's model are."""
        return self.opened.source

    @property
    def has_decoder(self) -> bool:
        """Whether the query's model has an encoder, and a decoder that reads a text of its own."""
        return len(self.architecture.stacks) > 1

    @property
    def start_id(self) -> int | None:
        """The id that the decoder of the query's model begins with, where its config names one."""
        return next(iter(self._ids("decoder_start_token_id") or self._ids("bos_token_id")), None)

    def _ids(self, field: str) -> list[int]:
        """The ids in a field of the config of the query's model, or of its decoder's own."""
        for config in (self.config, getattr(self.config, "decoder", None)):
            found = getattr(config, field, None)
            if found is not None:
                return list(found) if isinstance(found, (list, tuple)) else [found]
        return []


def load_subject(opened: Opened, notify: Notify, length: int = 1, *, only_looked_at: bool = False) -> Subject:
    """Load the query's model without weights, in the form that it takes for a text of that many tokens.

    Without its head where the checkpoint has none, and no task was asked for.

    One that is `only_looked_at` needs no package that runs what it is stored as: its modules are those of the config.

    Raises InspectError for a model that cannot be built, or not as the choice asks.
    """
    source, choice = opened.source, opened.choice
    notify("importing torch and transformers")
    config = load_config(source, choice)
    task = tasks.choose(source.name, source.config, config, choice.task)
    missing = stored.check_stored(source, config, choice)
    if missing and not only_looked_at:
        raise SourceError(missing)
    tying = ties.Ties(source)
    subject = _built(opened, config, task, length, missing, tying)
    if choice.task is None and headless.is_headless(source, subject.as_configured):
        task = tasks.without_head(task, config.model_type) or task
        subject = _built(opened, config, task, length, missing, tying)
    if task.name == "base" and headless.is_poolerless(source, subject.as_configured):
        task = replace(task, pools=False)
        subject = _built(opened, config, task, length, missing, tying)
    return subject


def _built(
    opened: Opened,
    config: PretrainedConfig,
    task: Task,
    length: int,
    missing: str | None,
    tying: ties.Ties,
) -> Subject:
    """The query's model, built of a config; as configured where a package for what it is stored as is `missing`."""
    source, choice = opened.source, opened.choice
    as_configured = skeleton.build(source, choice, config, task, tying.tie)
    tasks.check_reads_text(source.name, as_configured, task)
    if source.adapter is not None:
        adapters.resize(as_configured, source.adapter)
    locating.settle(as_configured, length)
    as_loaded, quantization, quantizing_as = as_configured, None, None
    method = stored.stored_method(config)
    if not missing and (choice.quantization or method or source.adapter):
        as_loaded = skeleton.build(source, choice, config, task)
        locating.settle(as_loaded, length)
        quantizing_as = bitsandbytes.config_for(choice, as_loaded)
        quantization = replacing.quantize(as_loaded, choice, source, config, quantizing_as)
        with quiet():
            tying.tie(as_loaded)
        if source.adapter is not None:
            adapters.resize(as_loaded, source.adapter)
            adapters.inject(as_loaded, source.adapter)
    whole_because = None
    if method not in stored.ALONE:
        whole_because = f"the package that runs {method} works on the whole model"
    elif source.adapter is not None:
        whole_because = adapters.why_shared(source.adapter)
    return Subject(
        opened=opened,
        config=config,
        as_configured=as_configured,
        as_loaded=as_loaded,
        architecture=locating.locate(as_loaded, task.output),
        task=task,
        quantization=quantization,
        quantizing_as=quantizing_as,
        whole_because=whole_because,
        missing=missing,
    )


def context(subject: Subject) -> int | None:
    """How many tokens a query's model was made for: the rows of its position table, else what its config says."""
    stated = getattr(subject.as_configured.config.get_text_config(), "max_position_embeddings", None)
    return subject.architecture.max_positions or (stated if isinstance(stated, int) and stated > 0 else None)
