"""The positions of a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from txinspect.commands.command import Command, Detailed
from txinspect.queries import TensorQuery
from txinspect.records import Record, TensorsReport, doc

Layout = Literal["interleaved", "halves", "fairseq"]

LAYOUTS: dict[Layout, str] = {
    "interleaved": "sines and cosines take turns, as in the paper: sin and cos of p / 10000^(2i/d)",
    "halves": "sines, then cosines, with the paper's exponent: p / 10000^(2i/d)",
    "fairseq": "sines, then cosines, with the exponent of fairseq: p / 10000^(i / (d/2 - 1))",
}
"""The layouts in use, in words; i counts the pairs, d is the width, p the position."""


@dataclass(frozen=True, kw_only=True)
class PosQuery(TensorQuery["PosReport"]):
    """Show the position embeddings of a text, or what the model has in their place."""


class SinusoidsRecord(Record, frozen=True, kw_only=True):
    """A table of positions that is made of sinusoids."""

    name: Annotated[str, doc("The tensor's name.")]
    layout: Annotated[Layout, doc("How sines and cosines stand in a row, and the exponent of their wavelengths.")]
    first_position: Annotated[int, doc("The position of the first token: fairseq's tables begin at 2.")]
    max_difference: Annotated[float, doc("The largest difference from the formula in float64.")]


class PosReport(TensorsReport, frozen=True, kw_only=True):
    """Report of `pos`."""

    command: Annotated[Literal["pos"], doc("The command that made the report.")]  # type: ignore[assignment]
    sinusoids: Annotated[list[SinusoidsRecord], doc("The tables that are sinusoids; empty where none is.")]


COMMAND = Command(
    "pos",
    PosQuery,
    PosReport,
    examples=(
        "txinspect pos",
        "txinspect pos -m transformer-mini",
        "txinspect pos 'Hello world' --json --values | jq '.tensors[0].values[0][0][:4]'",
    ),
    view=Detailed,
)
