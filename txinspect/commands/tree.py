"""The module tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from txinspect.commands.command import Command
from txinspect.errors import UsageError, spelled
from txinspect.model_choice import PLACEMENT
from txinspect.option import Option
from txinspect.queries import ModelQuery
from txinspect.records import ModelReport, QuantizationRecord, Record, doc


@dataclass(frozen=True, kw_only=True)
class TreeQuery(ModelQuery["TreeReport"]):
    """Show the module tree: classes, shapes, parameters, bytes; from the config alone, without weights."""

    idle = PLACEMENT


@dataclass(frozen=True, kw_only=True)
class TreeView:
    """How much of the tree is drawn."""

    depth: Annotated[int | None, Option("--depth", "Levels of the tree to show.", "N")] = None
    expand: Annotated[bool, Option("--expand", "Show every layer instead of folding equal ones.")] = False
    params: Annotated[bool, Option("--params", "Show every parameter with its shape.")] = False

    def __post_init__(self) -> None:
        if self.depth is not None and self.depth < 0:
            raise UsageError(f"{spelled('depth')} {self.depth} is not a number of levels", "give 0 or more")


class ParameterRecord(Record, frozen=True, kw_only=True):
    """A parameter of a module."""

    name: Annotated[str, doc("Its name in the module, such as weight.")]
    shape: Annotated[list[int], doc("The size of each axis; for a quantized weight, of the matrix it stands for.")]
    dtype: Annotated[str, doc("Its type as stored.")]
    numel: Annotated[int, doc("Number of elements.")]
    bytes: Annotated[int, doc("Bytes as stored.")]
    tied_to: Annotated[str | None, doc("The full name of an earlier parameter that it is the same as; else null.")]


class ModuleRecord(Record, frozen=True, kw_only=True, rename={"class_": "class"}):
    """A module of the tree. Sums include everything below it, tied parameters once."""

    name: Annotated[str, doc("Dotted path; empty for the model itself.")]
    class_: Annotated[str, doc("The module's class.")]
    depth: Annotated[int, doc("0 for the model itself.")]
    parameters: Annotated[list[ParameterRecord], doc("The module's own parameters, not its children's.")]
    numel: Annotated[int, doc("Unique parameters in and below it.")]
    bytes: Annotated[int, doc("Their bytes as stored.")]


class TotalsRecord(Record, frozen=True, kw_only=True):
    """What the whole model holds."""

    numel: Annotated[int, doc("Unique parameters.")]
    bytes: Annotated[int, doc("Bytes as stored.")]
    bytes_8bit: Annotated[int, doc("Bytes with --8bit: int8 weights of the linear layers and a float32 per row.")]
    bytes_4bit: Annotated[int, doc("Bytes with --4bit: half a byte per weight and a float32 per block of 64.")]
    linear_modules: Annotated[int, doc("Linear layers that --8bit and --4bit quantize.")]


class TreeReport(ModelReport, frozen=True, kw_only=True):
    """Report of `tree`."""

    command: Annotated[Literal["tree"], doc("The command that made the report.")]
    modules: Annotated[list[ModuleRecord], doc("Every module, depth first, never folded.")]
    quantization: Annotated[QuantizationRecord | None, doc("What is quantized; null if nothing is.")]
    totals: TotalsRecord


COMMAND = Command(
    "tree",
    TreeQuery,
    TreeReport,
    examples=("txinspect tree", "txinspect tree facebook/opt-1.3b --depth 3", "txinspect tree --params --expand"),
    view=TreeView,
)
