"""The token embeddings of a text."""

from __future__ import annotations

from dataclasses import dataclass

from txinspect.commands.command import Command
from txinspect.queries import TensorQuery
from txinspect.records import TensorsReport


@dataclass(frozen=True, kw_only=True)
class EmbedQuery(TensorQuery[TensorsReport]):
    """Show the token embeddings of a text."""


COMMAND = Command(
    "embed",
    EmbedQuery,
    TensorsReport,
    group="Run",
    examples=("txinspect embed", "txinspect embed 'Hello world' -m facebook/opt-1.3b --save embeddings.npz"),
)
