"""The positions of a text: embeddings that are added, or what the model has in their place."""

from __future__ import annotations

from txinspect.answers.observing import observe
from txinspect.commands.pos import PosQuery
from txinspect.forward.wants import Plan, in_stacks
from txinspect.models.subject import Subject
from txinspect.queries import Notify
from txinspect.records import InputRecord, TensorsReport


def answer(query: PosQuery, notify: Notify) -> TensorsReport:
    """The report of `pos`."""
    return TensorsReport(**observe(query, notify, plan, token_rows=True).fields("pos"))


def plan(subject: Subject, query: PosQuery, text: InputRecord) -> Plan:
    """What `pos` records."""
    return in_stacks(subject, "position_embeddings")
