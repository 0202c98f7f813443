"""Vectors that steer a model: made of texts, or tried on one."""

from __future__ import annotations

from txinspect.answers.observing import observe
from txinspect.answers.session import Session
from txinspect.answers.steering.making import Making
from txinspect.answers.steering.trying import Trying
from txinspect.commands.steer import SteerQuery, SteerReport


def answer(query: SteerQuery, session: Session) -> SteerReport:
    """The report of `steer`."""
    asked = _asked(query)
    observed = observe(asked, session)
    made = isinstance(asked, Making)
    return observed.report(
        SteerReport,
        "steer",
        action=query.action,
        pairs=len(asked.pairs) if isinstance(asked, Making) else None,
        method=query.method if made else None,
        over=query.over if made else None,
        vector=query.vector,
        vectors=asked.records(),
        tries=asked.tries if isinstance(asked, Trying) else [],
    )


def questions(query: SteerQuery) -> list[Making | Trying]:
    """What `steer` asks."""
    return [_asked(query)]


def _asked(query: SteerQuery) -> Making | Trying:
    return Making(query) if query.action == "make" else Trying(query)
