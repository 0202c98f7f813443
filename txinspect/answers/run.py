"""Any stages of one forward pass."""

from __future__ import annotations

from txinspect.answers.observing import observe
from txinspect.answers.question import Question
from txinspect.answers.session import Session
from txinspect.commands.run import RunQuery
from txinspect.forward.wants import Plan, plan_of_names
from txinspect.loading.subject import Subject
from txinspect.records import InputRecord, TensorsReport


def answer(query: RunQuery, session: Session) -> TensorsReport:
    """The report of `run`."""
    return observe(Stages(query), session).report(TensorsReport, "run")


def questions(query: RunQuery) -> list[Stages]:
    """What `run` asks."""
    return [Stages(query)]


class Stages(Question[RunQuery]):
    """The stages asked for."""

    @property
    def names(self) -> tuple[str, ...]:
        """The stages and modules that `run` asks for by name."""
        return self.query.stages

    def plan(self, subject: Subject, text: InputRecord) -> Plan:
        """What `run` records of the stages asked for."""
        return plan_of_names(subject, self.query.stages)
