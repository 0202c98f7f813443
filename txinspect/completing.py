"""What the shell completes: models and stage names, without torch."""

from __future__ import annotations

import typer

from txinspect import stages as stage_names
from txinspect.errors import InspectError
from txinspect.queries import DEFAULT_MODEL, ModelChoice


def models(incomplete: str) -> list[str]:
    """Bundled models, and the Hub's in the local cache."""
    from txinspect.source import bundled_models, cached_models

    return [name for name in bundled_models() + cached_models() if name.startswith(incomplete)]


def stages(ctx: typer.Context, incomplete: str) -> list[str]:
    """Stage names of the model that the command line names so far, from its config.json alone."""
    from txinspect.source import read_config, resolve

    name = ctx.params.get("model") or DEFAULT_MODEL
    try:
        layers = read_config(resolve(ModelChoice(name=name, offline=True))).get("num_hidden_layers")
    except InspectError:
        layers = None
    names = stage_names.stage_names(layers if isinstance(layers, int) else 1)
    return [name for name in names if name.startswith(incomplete)]
