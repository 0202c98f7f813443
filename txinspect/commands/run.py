"""Any stages of one forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from txinspect.commands.command import Command
from txinspect.commands.stages import StagesQuery
from txinspect.errors import UsageError, spelled
from txinspect.option import Option
from txinspect.queries import EditedQuery
from txinspect.records import TensorsReport
from txinspect.stage_names import StageName

STAGE = Option(
    "-s/--stage",
    "A stage, a module path, or a glob of either (* within a name, ** across dots); may be repeated. All are listed "
    "if none is given.",
    "STAGE",
    completes="stages",
)


@dataclass(frozen=True, kw_only=True)
class RunQuery(EditedQuery[TensorsReport]):
    """Run the model and show any stages of the pass, by name, glob or module path."""

    stages: Annotated[tuple[str, ...], STAGE] = ()

    @property
    def layers_asked(self) -> tuple[int, ...]:
        """See EditedQuery."""
        asked = map(StageName.of, self.stages)
        return tuple(each.layer for each in asked if not each.stack and each.layer is not None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.stages:
            raise UsageError(
                "no stage was asked for",
                f"name one, such as {spelled('stages', ('logits',))} ('txinspect stages' lists them)",
            )


COMMAND = Command(
    "run",
    RunQuery,
    TensorsReport,
    examples=(
        "txinspect run --stage 'layers.*.output' --stage logits",
        "txinspect run 'Hello world' --stage '**.q_proj' --json | jq '.tensors[] | [.name, .stats.l2]'",
    ),
    unless=("stages", StagesQuery),
)
