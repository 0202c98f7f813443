"""The stages of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from txinspect.commands.command import Command
from txinspect.model_choice import PLACEMENT
from txinspect.queries import ModelQuery
from txinspect.records import ModelReport, QuantizationRecord, Record, doc


@dataclass(frozen=True, kw_only=True)
class StagesQuery(ModelQuery["StagesReport"]):
    """List the stages of a model's forward pass, which module supplies each, and why others are absent."""

    idle = PLACEMENT


class StageRecord(Record, frozen=True, kw_only=True, rename={"class_": "class"}):
    """A stage: what it is, what supplies it, or why the model has none."""

    name: Annotated[str, doc("Stage name.")]
    axes: Annotated[list[str] | None, doc("The name of each axis.")]
    module: Annotated[str | None, doc("Dotted path of the module that supplies it.")]
    class_: Annotated[str | None, doc("That module's class.")]
    available: Annotated[bool, doc("Whether the model has it.")]
    reason: Annotated[str | None, doc("Why the model does not have it.")]
    note: Annotated[str | None, doc("What to know about it in this model, such as a projection that acts next.")]


class StagesReport(ModelReport, frozen=True, kw_only=True):
    """Report of `stages`."""

    command: Annotated[Literal["stages"], doc("The command that made the report.")]
    stages: Annotated[list[StageRecord], doc("Every stage of every layer.")]
    quantization: Annotated[QuantizationRecord | None, doc("What would be quantized; null if nothing would be.")]


COMMAND = Command(
    "stages",
    StagesQuery,
    StagesReport,
    examples=("txinspect stages", "txinspect stages facebook/opt-350m --json | jq -r '.stages[].name'"),
)
