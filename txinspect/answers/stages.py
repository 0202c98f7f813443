"""The stages that a model has, and why it lacks the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from txinspect.answers.reporting import head, loading_notes
from txinspect.answers.session import Session
from txinspect.commands.stages import StageRecord, StagesQuery, StagesReport
from txinspect.loading import describing
from txinspect.stages import BY_PART

if TYPE_CHECKING:
    from txinspect.anatomy.architecture import Supply


def answer(query: StagesQuery, session: Session) -> StagesReport:
    """The report of `stages`."""
    subject = session.model(query.model).subject(only_looked_at=True)
    return StagesReport(
        **head("stages", loading_notes(subject)),
        model=describing.model_record(subject, subject.as_loaded),
        stages=[_record(supply) for supply in listed(subject.architecture.supplies())],
        quantization=subject.quantization,
    )


def _record(supply: Supply) -> StageRecord:
    return StageRecord(
        name=supply.name,
        axes=list(supply.axes) if supply.axes else None,
        module=supply.module,
        class_=supply.class_name,
        available=supply.available,
        reason=supply.reason,
        note=supply.note,
    )


def listed(supplies: Sequence[Supply]) -> list[Supply]:
    """The stages that `stages` lists: without those of other kinds of model, such as routers without experts."""

    parts = [supply.within for supply in supplies]
    present = {part for part, supply in zip(parts, supplies, strict=True) if supply.available}
    optional = {part for part, stage in BY_PART.items() if stage.optional}
    return [s for part, s in zip(parts, supplies, strict=True) if part in present or part not in optional]
