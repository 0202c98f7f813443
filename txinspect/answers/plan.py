"""What answering another query would read."""

from __future__ import annotations

from txinspect import answers
from txinspect.answers.observing import prepare
from txinspect.answers.reporting import encode, head, loading_notes, surplus_notes
from txinspect.commands.plan import PlanQuery, PlanReport
from txinspect.models import cost, describing
from txinspect.queries import Notify
from txinspect.sources import checkpoint


def answer(query: PlanQuery, notify: Notify) -> PlanReport:
    """The report of `plan`, and of --dry-run."""
    room = answers.room(query.of)
    prepared = prepare(query.of, notify, room.plan, getattr(room, "text", encode))
    subject = prepared.subject
    listing = checkpoint.offered(subject.source)
    notes = [*prepared.plan.notes, *loading_notes(subject), *surplus_notes(subject, listing.all_names())]
    return PlanReport(
        **head("plan", notes),
        model=describing.model_record(subject, subject.as_loaded),
        input=prepared.text,
        asked=list(dict.fromkeys(want.supply.name for want in prepared.plan.wants)),
        loading=cost.plan(subject, query.of.model, prepared.uses, listing),
        quantization=subject.quantization,
    )
