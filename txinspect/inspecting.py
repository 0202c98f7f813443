"""A query is answered with its report. This is the public Python API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from txinspect import answers
from txinspect.answers.packing import Packing
from txinspect.answers.session import Session
from txinspect.commands.packed import PackedAttention
from txinspect.errors import InspectError, first_line
from txinspect.queries import Notify, Progress, Query, ReportType

_held: ContextVar[Session | None] = ContextVar("held", default=None)
"""The session that questions are answered in, where a process holds one for them."""


@contextmanager
def holding(session: Session) -> Iterator[None]:
    """Answer questions in a session that may have models at hand."""
    before = _held.set(session)
    try:
        yield
    finally:
        _held.reset(before)


@contextmanager
def staying() -> Iterator[None]:
    """While open, what questions need of a model is loaded once and kept, in a session that is held or in a new one."""
    session = _held.get() or Session()
    before, session.keeps_weights = session.keeps_weights, True
    try:
        with holding(session):
            yield
    finally:
        session.keeps_weights = before


def _session(notify: Notify, progress: Progress | None) -> Session:
    """The session that is held, told whom to tell how far it is, or one of the question's own."""
    session = _held.get()
    if session is None:
        return Session(notify, progress)
    session.notify, session.progress = notify, progress
    return session


def inspect(query: Query[ReportType], notify: Notify = lambda _: None, progress: Progress | None = None) -> ReportType:
    """Inspect a model by a query: answer it with its report.

    `notify` is told what is going on, such as 'loading opt-mini', and `progress` how far it is. Raises InspectError,
    with one sentence, for what cannot be done, and TypeError for what is not a query.
    """
    return answered(query, _session(notify, progress))


def inspect_for_page(
    query: Query[ReportType], notify: Notify = lambda _: None, progress: Progress | None = None
) -> tuple[ReportType, list[PackedAttention]]:
    """Inspect a model by a query, and pack the attention of its passes, as a page shows it. See inspect."""
    session = _session(notify, progress)
    session.packing = Packing()
    report = answered(query, session)
    return report, session.packing.attentions


def answered(query: Query[ReportType], session: Session) -> ReportType:
    """What inspecting a model by a query gives, in a session that may have the model at hand. See inspect."""
    try:
        report: ReportType = answers.module_of(query).answer(query, session)
    except Exception:
        raise
    except BaseException as error:  # what pyo3 makes of a panic in Rust is no Exception
        if type(error).__name__ != "PanicException":
            raise
        raise InspectError(
            f"a library panicked over a file of the model, or over the text ({first_line(error)}): fetch the file again"
        ) from error
    return report
