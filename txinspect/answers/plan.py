"""What answering another query would read."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from msgspec import structs

from txinspect import answers
from txinspect.answers.observing import prepare
from txinspect.answers.reading import encode
from txinspect.answers.reporting import head, loading_notes, surplus_notes
from txinspect.commands.plan import PlanQuery, PlanReport
from txinspect.forward.wants import Plan
from txinspect.models import cost, describing
from txinspect.models.subject import Subject
from txinspect.queries import Notify, PassQuery
from txinspect.records import InputRecord
from txinspect.sources import checkpoint


def answer(query: PlanQuery, notify: Notify) -> PlanReport:
    """The report of `plan`, and of --dry-run."""
    room = answers.room(query.of)
    sides = room.sides(query.of) if hasattr(room, "sides") else [query.of]
    *others, this = [_report(query.of, room, each, notify) for each in reversed(sides)]
    notes = list(dict.fromkeys(note for each in (this, *others) for note in each.notes))
    return structs.replace(this, notes=notes, against=others[0] if others else None)


def _report(of: PassQuery[Any], room: ModuleType, side: PassQuery[Any], notify: Notify) -> PlanReport:
    """What one side of a query would read: of all but a diff, the query itself."""

    def make_plan(subject: Subject, _: Any, text: InputRecord) -> Plan:
        plan: Plan = room.plan(subject, of, text)
        return plan

    prepared = prepare(side, notify, make_plan, getattr(room, "text", encode))
    subject = prepared.subject
    listing = checkpoint.offered(subject.source)
    notes = [*prepared.plan.notes, *loading_notes(subject), *surplus_notes(subject, listing.all_names())]
    return PlanReport(
        **head("plan", notes),
        model=describing.model_record(subject, subject.as_loaded),
        input=structs.replace(prepared.text, decoder=None) if prepared.generates else prepared.text,
        asked=list(dict.fromkeys(want.supply.name for want in prepared.plan.wants)),
        loading=cost.plan(subject, side.model, prepared.uses, listing),
        quantization=subject.quantization,
        against=None,
    )
