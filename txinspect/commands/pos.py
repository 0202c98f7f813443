"""The positions of a text."""

from __future__ import annotations

from dataclasses import dataclass

from txinspect.commands.command import Command
from txinspect.queries import TensorQuery
from txinspect.records import TensorsReport


@dataclass(frozen=True, kw_only=True)
class PosQuery(TensorQuery[TensorsReport]):
    """Show the position embeddings of a text, or what the model has in their place."""


COMMAND = Command(
    "pos",
    PosQuery,
    TensorsReport,
    group="Run",
    examples=("txinspect pos", "txinspect pos 'Hello world' --json --values | jq '.tensors[0].values[0][0][:4]'"),
)
