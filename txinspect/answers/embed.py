"""The token embeddings of a text."""

from __future__ import annotations

from txinspect.answers.observing import observe
from txinspect.commands.embed import EmbedQuery
from txinspect.forward.wants import Plan, in_stacks
from txinspect.models.subject import Subject
from txinspect.queries import Notify
from txinspect.records import InputRecord, TensorsReport


def answer(query: EmbedQuery, notify: Notify) -> TensorsReport:
    """The report of `embed`."""
    return TensorsReport(**observe(query, notify, plan, token_rows=True).fields("embed"))


def plan(subject: Subject, query: EmbedQuery, text: InputRecord) -> Plan:
    """What `embed` records."""
    return in_stacks(subject, "token_embeddings")
