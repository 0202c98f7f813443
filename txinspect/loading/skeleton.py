"""Config → the model's modules without weights."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from txinspect.guards.blame import blamed, zero_size
from txinspect.guards.mending import mended
from txinspect.guards.quiet import as_source_error, quiet
from txinspect.loading.config import dtype_name
from txinspect.loading.task import Task
from txinspect.model_choice import ModelChoice
from txinspect.sources.source import Source

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def build(
    source: Source,
    choice: ModelChoice,
    config: PretrainedConfig,
    task: Task,
    tie: Callable[[PreTrainedModel], None] | None = None,
) -> PreTrainedModel:
    """Build a model's modules for a task without weights, on the meta device: shapes and types, no memory.

    Without a `tie`, every module has tensors of its own, as while transformers decides what it quantizes.
    """
    import torch
    from transformers import initialization

    dtype = getattr(torch, dtype_name(source, choice, config))

    def made(config: PretrainedConfig) -> PreTrainedModel:
        config = deepcopy(config)  # building writes into it
        with (
            torch.device("meta"),
            initialization.meta_device_safe_creation_ops(),
            initialization.no_tie_weights(),
        ):
            model: PreTrainedModel
            if part := _part(config, task):
                model = part.model_class._from_config(part.config, dtype=dtype)
            else:
                model = task.factory().from_config(
                    config, dtype=dtype, trust_remote_code=choice.trust_remote_code, **task.settings
                )
        return model

    def blame() -> str | None:
        raw = source.config
        return blamed(mended(raw), lambda raw: made(type(config).from_dict(raw))) or zero_size(raw)

    what = f"no model can be built from config.json of {source.name!r}"
    with quiet(), as_source_error(what, blame=blame):
        model = made(config)
        if tie is not None:
            tie(model)
    model.eval()
    return model


@dataclass(frozen=True)
class _Part:
    """A language model that is one part of a larger one."""

    model_class: Any
    config: PretrainedConfig


def _part(config: PretrainedConfig, task: Task) -> _Part | None:
    """The part to build of a larger model: the language model, where transformers registers the whole's config for it.

    MusicGen's class is registered with the whole config, whose fields it does not have (modeling_musicgen.py).
    """
    if task.name != "causal-lm" or not config.model_type.startswith("musicgen") or not hasattr(config, "decoder"):
        return None
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    return _Part(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], config.decoder)
