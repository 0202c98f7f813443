"""The door: a query is answered with its report. This is the public Python API."""

from __future__ import annotations

from txinspect import answers
from txinspect.queries import Notify, Query, ReportType


def inspect(query: Query[ReportType], notify: Notify = lambda _: None) -> ReportType:
    """Answer a query with its report.

    `notify` is told what is going on, such as 'loading opt-mini'. Raises InspectError, with one sentence, for what
    cannot be done, and TypeError for what is not a query.
    """
    report: ReportType = answers.room(query).answer(query, notify)
    return report
