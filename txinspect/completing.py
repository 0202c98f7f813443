"""What the shell completes: models and stage names, without torch."""

from __future__ import annotations

import typer

from txinspect import stages as stage_names
from txinspect.errors import InspectError
from txinspect.queries import DEFAULT_MODEL, ModelChoice

MOST_LAYERS = 200
"""Layers to complete: more than any model has, few enough to answer at once."""

_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


def models(incomplete: str) -> list[str]:
    """Bundled models, and the Hub's in the local cache."""
    from txinspect.source import bundled_models, cached_models

    return [name for name in bundled_models() + cached_models() if name.startswith(incomplete)]


def stages(ctx: typer.Context, incomplete: str) -> list[str]:
    """Stage names of the model that the command line names so far, from its config.json alone."""
    from txinspect.source import read_config, resolve

    name = ctx.params.get("model") or DEFAULT_MODEL
    try:
        config = read_config(resolve(ModelChoice(name=name, offline=True)))
    except InspectError:
        config = {}
    layers = next((config[key] for key in _LAYER_COUNTS if isinstance(config.get(key), int)), 1)
    names = stage_names.stage_names(min(layers, MOST_LAYERS))
    return [name for name in names if name.startswith(incomplete)]
