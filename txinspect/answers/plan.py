"""What answering another query would read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import structs

from txinspect import answers
from txinspect.answers.preparing import prepare
from txinspect.answers.question import Question
from txinspect.answers.reporting import head, loading_notes, surplus_notes
from txinspect.answers.session import Session
from txinspect.commands.plan import PlanQuery, PlanReport
from txinspect.loading import cost, describing


def answer(query: PlanQuery, session: Session) -> PlanReport:
    """The report of `plan`, and of --dry-run."""
    asked: Sequence[Question[Any]] = answers.module_of(query.of).questions(query.of)
    *others, this = [_report(each, session) for each in reversed(asked)]
    notes = list(dict.fromkeys(note for each in (this, *others) for note in each.notes))
    return structs.replace(this, notes=notes, against=others[0] if others else None)


def _report(question: Question[Any], session: Session) -> PlanReport:
    """What one question of a query would read, as a report of `plan`: of all but a diff there is one."""
    prepared = prepare(question, session)
    subject = prepared.subject
    listing = subject.source.offered()
    notes = [*prepared.plan.notes, *loading_notes(subject), *surplus_notes(subject, listing.all_names())]
    return PlanReport(
        **head("plan", notes),
        model=describing.model_record(subject, subject.as_loaded),
        input=structs.replace(prepared.text, decoder=None) if prepared.generates else prepared.text,
        asked=list(dict.fromkeys(want.supply.name for want in prepared.plan.wants)),
        loading=cost.expected(subject, question.query.model, prepared.uses, listing),
        quantization=subject.quantization,
        against=None,
    )
