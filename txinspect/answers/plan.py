"""What answering another query would read."""

from __future__ import annotations

from txinspect import answers
from txinspect.answers.observing import prepare
from txinspect.answers.reporting import head, loading_notes
from txinspect.commands.plan import PlanQuery, PlanReport
from txinspect.models import cost, describing
from txinspect.queries import Notify


def answer(query: PlanQuery, notify: Notify) -> PlanReport:
    """The report of `plan`, and of --dry-run."""
    prepared = prepare(query.of, notify, answers.room(query.of).plan)
    subject = prepared.subject
    return PlanReport(
        **head("plan", [*prepared.plan.notes, *loading_notes(subject)]),
        model=describing.model_record(subject, subject.as_loaded),
        input=prepared.text,
        asked=list(dict.fromkeys(want.supply.name for want in prepared.plan.wants)),
        loading=cost.plan(subject, query.of.model, prepared.uses),
        quantization=subject.quantization,
    )
