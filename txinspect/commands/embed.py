"""The token embeddings of a text, or one vector for all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from txinspect.commands.command import Command
from txinspect.errors import UsageError, spelled
from txinspect.option import Option
from txinspect.queries import TensorQuery
from txinspect.records import TensorsReport


@dataclass(frozen=True, kw_only=True)
class EmbedQuery(TensorQuery[TensorsReport]):
    """Show the token embeddings of a text, or the one vector that a sentence encoder makes of it."""

    pooled: Annotated[
        bool,
        Option(
            "--pooled", "Of a sentence-transformers model: the sentence's vector, read and pooled as its files say."
        ),
    ] = False

    @property
    def fits(self) -> bool:
        """Whether the text of `embed` has to fit into the positions: what is pooled is cut where it is too long."""
        return not self.pooled

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooled and self.src_lang is not None:
            raise UsageError(
                f"{spelled('pooled', True)} and {spelled('src_lang')} cannot be combined: a sentence encoder "
                f"reads a text in the language that its tokenizer's files say; omit one of the two"
            )


COMMAND = Command(
    "embed",
    EmbedQuery,
    TensorsReport,
    examples=(
        "txinspect embed",
        "txinspect embed 'Hello world' -m facebook/opt-1.3b --save embeddings.npz",
        "txinspect embed 'That is a happy person' -m sentence-transformers/all-MiniLM-L6-v2 --pooled",
    ),
)
