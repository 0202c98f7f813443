"""What the shell completes: models, stage names and choices, without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import typer

MOST_LAYERS = 200
"""Layers to complete: more than any model has, few enough to answer at once."""


def models(incomplete: str) -> list[str]:
    """Completes a model's name: bundled models, and the Hub's in the local cache."""
    from txinspect.sources.bundled_models import bundled_models, cached_models

    return [name for name in bundled_models() + cached_models() if name.startswith(incomplete)]


def stages(ctx: typer.Context, incomplete: str) -> list[str]:
    """Completes stage names of the model that the command line names so far, from its config.json alone."""
    from txinspect.errors import InspectError
    from txinspect.model_choice import DEFAULT_MODEL, ModelChoice
    from txinspect.sources.config import number
    from txinspect.sources.resolving import resolve
    from txinspect.stage_names import names_of_two, stage_names

    name = ctx.params.get("model") or DEFAULT_MODEL
    try:
        config = resolve(ModelChoice(name=name, offline=True)).config
    except InspectError:
        config = {}
    layers = min(number(config, "num_hidden_layers") or 1, MOST_LAYERS)
    if config.get("is_encoder_decoder") is True:
        names = names_of_two(min(number(config, "num_encoder_layers") or layers, MOST_LAYERS), layers)
    else:
        names = stage_names(layers)
    return [name for name in names if name.startswith(incomplete)]


def choices(names: Sequence[str]) -> Callable[[str], list[str]]:
    """Completes the values that an option can have."""

    def matching(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return matching
