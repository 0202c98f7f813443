"""The token embeddings of a text, or one vector for all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from txinspect.commands.command import Command
from txinspect.queries import Option, TensorQuery
from txinspect.records import TensorsReport


@dataclass(frozen=True, kw_only=True)
class EmbedQuery(TensorQuery[TensorsReport]):
    """Show the token embeddings of a text, or the one vector that a sentence encoder makes of it."""

    pooled: Annotated[
        bool,
        Option("--pooled", "Of a sentence-transformers model: the sentence's vector, pooled as its modules.json says."),
    ] = False


COMMAND = Command(
    "embed",
    EmbedQuery,
    TensorsReport,
    group="Run",
    examples=(
        "txinspect embed",
        "txinspect embed 'Hello world' -m facebook/opt-1.3b --save embeddings.npz",
        "txinspect embed 'That is a happy person' -m sentence-transformers/all-MiniLM-L6-v2 --pooled",
    ),
)
