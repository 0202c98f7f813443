"""Any stages of one forward pass."""

from __future__ import annotations

from txinspect.answers.observing import observe
from txinspect.commands.run import RunQuery
from txinspect.forward.wants import Plan, named
from txinspect.models.subject import Subject
from txinspect.queries import Notify
from txinspect.records import InputRecord, TensorsReport


def answer(query: RunQuery, notify: Notify) -> TensorsReport:
    """The report of `run`."""
    return TensorsReport(**observe(query, notify, plan).fields("run"))


def plan(subject: Subject, query: RunQuery, text: InputRecord) -> Plan:
    """What `run` records: the stages asked for."""
    return named(subject, query.stages)
