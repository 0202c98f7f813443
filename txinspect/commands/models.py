"""The models that need no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from txinspect.commands.command import Command
from txinspect.queries import Query
from txinspect.records import Record, Report, doc


@dataclass(frozen=True, kw_only=True)
class ModelsQuery(Query["ModelsReport"]):
    """List the models that need no network: those that come with txinspect, and those in the Hub's local cache."""


class AvailableModelRecord(Record, frozen=True, kw_only=True):
    """A model that is here. What its files do not say, or are too damaged to say, is null."""

    name: Annotated[str, doc("What to give for it: a bundled name or a Hub id.")]
    origin: Annotated[
        Literal["bundled", "cache"], doc("Whether it comes with txinspect or is in the Hub's local cache.")
    ]
    model_type: Annotated[str | None, doc("`model_type` of config.json.")]
    layers: Annotated[int | None, doc("Layers, from config.json.")]
    bytes: Annotated[int | None, doc("Bytes of its weight files that are here; null if its folder cannot be read.")]
    path: Annotated[str, doc("Its folder; of a cached model the snapshot of the branch main, else the newest.")]


class ModelsReport(Report, frozen=True, kw_only=True):
    """Report of `models`."""

    command: Annotated[Literal["models"], doc("The command that made the report.")]
    models: Annotated[list[AvailableModelRecord], doc("Bundled models, then cached ones, each by name.")]


COMMAND = Command(
    "models",
    ModelsQuery,
    ModelsReport,
    examples=("txinspect models", "txinspect models --json | jq -r '.models[].name'"),
)
