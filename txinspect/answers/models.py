"""The models that need no network, from their config.json and the sizes of their files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from txinspect.answers.reporting import head
from txinspect.answers.session import Session
from txinspect.commands.models import AvailableModelRecord, ModelsQuery, ModelsReport
from txinspect.errors import SourceError
from txinspect.sources.bundled_models import bundled_folder, bundled_models, cached_folder, cached_models
from txinspect.sources.config import number
from txinspect.sources.names import WEIGHT_FILES
from txinspect.sources.places import Folder
from txinspect.sources.source import Source


def answer(query: ModelsQuery, session: Session) -> ModelsReport:
    """The report of `models`; imports no torch. A damaged model is listed with what is known of it."""
    bundled = [_record(name, "bundled", bundled_folder(name)) for name in bundled_models()]
    cached = [_record(name, "cache", cached_folder(name)) for name in cached_models()]
    return ModelsReport(**head("models"), models=bundled + cached)


def _record(name: str, origin: Literal["bundled", "cache"], folder: Path) -> AvailableModelRecord:
    config = _config(name, folder)
    kind = config.get("model_type")
    return AvailableModelRecord(
        name=name,
        origin=origin,
        model_type=kind if isinstance(kind, str) else None,
        layers=number(config, "num_hidden_layers"),
        bytes=_weight_bytes(folder),
        path=str(folder),
    )


def _config(name: str, folder: Path) -> dict[str, Any]:
    """config.json of an available model's folder; empty if it has none, or none that can be read."""
    try:
        return Source(name, Folder(folder)).config
    except SourceError:
        return {}


def _weight_bytes(folder: Path) -> int | None:
    """The size of an available model's weight files; None if there are none or they cannot be read.

    In the Hub's cache they are links: a file that several names point to counts once, a link to nothing not at all.
    """
    try:
        return sum(path.stat().st_size for path in set(_weight_files(folder)))
    except OSError:
        return None


def _weight_files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if any(path.match(pattern) for pattern in WEIGHT_FILES) and path.is_file():
            yield path.resolve()
