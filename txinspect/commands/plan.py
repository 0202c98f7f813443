"""What answering a query would read, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from txinspect.commands.command import Command
from txinspect.commands.run import STAGE, RunQuery
from txinspect.errors import UsageError
from txinspect.model_choice import ModelChoice
from txinspect.queries import ModelQuery, PassQuery, Query, Unsound
from txinspect.records import InputRecord, LoadingRecord, ModelReport, QuantizationRecord, doc
from txinspect.wording import shown


@dataclass(frozen=True, kw_only=True)
class PlanQuery(ModelQuery["PlanReport"]):
    """What answering another query would read, before anything is loaded."""

    of: PassQuery[Any]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.of, Query):
            raise UsageError(
                f"of {shown(self.of)} is not a query", "give one that runs the model, such as EmbedQuery()"
            )
        if not isinstance(self.of, PassQuery):
            raise UsageError(f"{type(self.of).__name__} loads no weights", "plan a query that runs the model")
        if self.model not in (ModelChoice(), self.of.model):
            raise UsageError("a plan is of the model of its query", "give the model to that query alone")


@dataclass(frozen=True, kw_only=True)
class PassToPlan(RunQuery):
    """Say what running a model up to some stages would read: files, bytes of disk, download, memory; load nothing."""

    stages: Annotated[tuple[str, ...], STAGE] = ("logits",)
    values: bool = False
    save: Path | None = None
    overwrite: bool = False
    check: bool = False
    fail_on: tuple[Unsound, ...] = ()


class PlanReport(ModelReport, frozen=True, kw_only=True):
    """Report of `plan`, and of any command with --dry-run."""

    command: Annotated[Literal["plan"], doc("The command that made the report.")]
    input: InputRecord
    asked: Annotated[list[str], doc("The stages and modules that would be recorded.")]
    loading: Annotated[LoadingRecord, doc("What would be read for it.")]
    quantization: Annotated[QuantizationRecord | None, doc("What would be quantized; null if nothing would be.")]
    against: Annotated[
        PlanReport | None,
        doc("What the other side of a diff would read; null for other commands, and where it loads nothing more."),
    ]


COMMAND = Command(
    "plan",
    PlanQuery,
    PlanReport,
    examples=(
        "txinspect plan -m facebook/opt-1.3b",
        "txinspect plan -m facebook/opt-1.3b --stage layers.3.output --8bit",
        "txinspect plan --stage logits --json | jq .loading.memory_bytes",
    ),
    planned=PassToPlan,
)
