"""The tokens of a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from txinspect.commands.command import Command
from txinspect.model_choice import PLACEMENT, PRECISION
from txinspect.queries import TextQuery
from txinspect.records import InputRecord, ModelReport, doc


@dataclass(frozen=True, kw_only=True)
class TokenizeQuery(TextQuery["TokenizeReport"]):
    """Show how a text becomes tokens: ids, stored tokens, decoded text, character spans."""

    idle = (*PRECISION, *PLACEMENT, "task")


class TokenizeReport(ModelReport, frozen=True, kw_only=True):
    """Report of `tokenize`."""

    command: Annotated[Literal["tokenize"], doc("The command that made the report.")]
    input: InputRecord


COMMAND = Command(
    "tokenize",
    TokenizeQuery,
    TokenizeReport,
    examples=(
        "txinspect tokenize",
        "txinspect tokenize 'naïve 😀' --json | jq -c '.input.tokens[] | [.id, .text]'",
        "cat story.txt | txinspect tokenize - -m facebook/opt-1.3b",
    ),
)
