"""modules.json of a sentence-transformers model → how it pools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

from txinspect import opening
from txinspect.errors import SourceError, spelled
from txinspect.queries import shown
from txinspect.recipe import Pooling, Recipe
from txinspect.sources.source import Source

FILES = ("modules.json", "*_*/config.json")

_FLAGS: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Flags of a pooling's config.json; newer ones name the way in `pooling_mode`."""


def recipe(source: Source) -> Recipe:
    """How a model pools. Raises SourceError for one that does not say, or does more than pool and normalize."""
    asked = spelled("pooled", True)
    folder = None if source.gguf_file else source.folder(FILES)
    if folder is None or not opening.is_there(folder / "modules.json"):
        raise SourceError(
            f"{source.name!r} does not say how it pools: it has no modules.json, as sentence-transformers writes it; "
            f"omit {asked}"
        )
    ways: tuple[Pooling, ...] = ()
    normalized = False
    for module in _modules(source, folder):
        kind = str(module.get("type")).rpartition(".")[2]
        if kind == "Pooling":
            ways = _ways(source, folder / str(module.get("path")) / "config.json")
        elif kind == "Normalize":
            normalized = True
        elif kind != "Transformer":
            raise SourceError(
                f"{source.name!r} has a module {kind} behind its encoder, which {asked} does not run: omit it, and "
                f"take the last hidden states"
            )
    if not ways:
        raise SourceError(f"modules.json of {source.name!r} names no pooling: omit {asked}")
    return Recipe(ways, normalized)


def _modules(source: Source, folder: Path) -> list[dict[str, Any]]:
    what = f"modules.json of {source.name!r}"
    try:
        found = json.loads(opening.read_text(folder / "modules.json", opening.SMALL, what))
    except ValueError as error:
        raise SourceError(f"{what} is not JSON ({error}): fetch or write it again") from error
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise SourceError(f"{what} is no list of modules: fetch or write it again")
    return found


def _ways(source: Source, path: Path) -> tuple[Pooling, ...]:
    what = f"{path.parent.name}/config.json of {source.name!r}"
    config = opening.read_object(path, opening.SMALL, what)
    named = config.get("pooling_mode")
    if named is not None:
        ways = named if isinstance(named, list) else [named]
        unknown = [way for way in ways if way not in get_args(Pooling)]
        if unknown:
            raise SourceError(f"{what} pools by {shown(unknown[0])}, which is none of {', '.join(get_args(Pooling))}")
        return tuple(ways)
    return tuple(way for flag, way in _FLAGS.items() if config.get(flag) is True)
