"""One page about a model and a text: the questions of several commands, asked of one model at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from txinspect.answers import module_of
from txinspect.answers.reporting import head
from txinspect.answers.session import Session
from txinspect.commands.attn import AttnQuery
from txinspect.commands.diagram import DiagramQuery
from txinspect.commands.heads import HeadsQuery
from txinspect.commands.lens import LAST, LensQuery
from txinspect.commands.logits import LogitsQuery
from txinspect.commands.page import UNASKED, PageQuery, PageReport, Part
from txinspect.commands.params import ParamsQuery
from txinspect.commands.stages import StagesQuery
from txinspect.commands.tree import TreeQuery
from txinspect.errors import InspectError
from txinspect.queries import ModelQuery, Query, read_by
from txinspect.records import Report

LIKELY = 5
"""Likeliest tokens of each token, and of each cell of the lens."""

COLUMNS = 32
"""Tokens that the lens is read after at most, the last: each takes as long as the logits do, in each layer."""


def answer(query: PageQuery, session: Session) -> PageReport:
    """The report of `page`. What the model does not have is left out and said, but where it was asked for by name."""
    session.keeps_weights = True  # for all its questions
    found: dict[Part, list[Any]] = {}
    failed: dict[str, tuple[Part, InspectError]] = {}
    for part, asked in _asked(query, session, found):
        try:
            report = module_of(asked).answer(asked, session)
            found.setdefault(part, []).append(report)
        except InspectError as error:
            if part in query.parts and part not in found:
                raise
            failed.setdefault(str(error), (part, error))
    if not any(part in found for part in _OF_THE_TEXT) and any(part in _OF_THE_TEXT for part, _ in failed.values()):
        raise next(error for part, error in failed.values() if part in _OF_THE_TEXT)  # a page without its text is none
    notes = [f"{part} is left out: {sentence}." for sentence, (part, _) in failed.items()]
    reports: list[Report] = [report for part in found.values() for report in part]
    if not reports:
        raise InspectError(f"nothing could be asked of {query.model.name!r} for a page", " ".join(notes))
    alone: dict[str, Any] = {part: found[part][0] if part in found else None for part in _ALONE}
    inputs = (getattr(report, "input", None) for report in reports)
    return PageReport(
        **head("page", notes),
        model=next(report.model for report in reports if hasattr(report, "model")),
        input=next((each for each in inputs if each is not None), None),
        attn=found.get("attn", []),
        **alone,
    )


_OF_THE_TEXT: tuple[Part, ...] = ("logits", "attn", "heads", "lens")
"""Parts of a page that read its text."""

_ALONE: tuple[Part, ...] = ("logits", "heads", "lens", "diagram", "stages", "tree", "params")
"""Parts of a page that are one report each."""


_ABOUT_THE_MODEL: dict[Part, type[ModelQuery[Any]]] = {
    "diagram": DiagramQuery,
    "stages": StagesQuery,
    "tree": TreeQuery,
    "params": ParamsQuery,
}


def _asked(
    query: PageQuery, session: Session, found: Mapping[Part, Sequence[Any]]
) -> Iterator[tuple[Part, Query[Any]]]:
    """The questions that a page asks, and the part that each is for; later ones by what was `found` so far."""
    model: dict[str, Any] = {"model": query.model}
    read = {**read_by(query), **model}
    asked = query.parts or UNASKED
    if "logits" in asked:
        yield "logits", LogitsQuery(**read, position=None, top_k=LIKELY)
    if "attn" in asked:
        yield "attn", AttnQuery(**read, layer=None)
        if session.model(query.model).subject().has_decoder:
            yield "attn", AttnQuery(**read, layer=None, cross=True)
            yield "attn", AttnQuery(**read, layer=None, encoder=True)
    if "heads" in asked:
        yield "heads", HeadsQuery(**read)
    if "lens" in asked:
        yield "lens", LensQuery(**read, top_k=LIKELY, position=_read_after(found))
    for part, kind in _ABOUT_THE_MODEL.items():
        if part in asked:
            yield part, kind(**model, **_length(found) if kind is DiagramQuery else {})


def _length(found: Mapping[Part, Sequence[Any]]) -> dict[str, Any]:
    """How many tokens a page's diagram is drawn for: those of its text, by the reports so far."""
    known = next((report for part in found.values() for report in part if hasattr(report, "input")), None)
    return {} if known is None else {"seq": len(known.input.tokens)}


def _read_after(found: Mapping[Part, Sequence[Any]]) -> tuple[int, ...]:
    """The tokens that a page's lens is read after, by the reports so far; where masks are filled the usual."""
    known = next((report for part in found.values() for report in part), None)
    if known is None or known.model.task == "masked-lm":
        return LAST
    count = len(known.input.main.tokens)
    return tuple(range(max(0, count - COLUMNS), count))
