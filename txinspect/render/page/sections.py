"""A report → the sections of a page: what the terminal draws, too, and what only a page has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from txinspect.commands.tree import TreeView
from txinspect.records import Report
from txinspect.render.content import (
    ablate,
    attribute,
    diagram,
    diff,
    embed,
    heads,
    lesson,
    logits,
    models,
    params,
    patch,
    plan,
    stages,
    steer,
    tokenize,
    tree,
    why,
)
from txinspect.render.page import lens, tensors, tokens
from txinspect.render.tables import Line, Table, in_decimals


@dataclass(frozen=True)
class Section:
    """A part of a page under a title: tables, sentences, and parts that the template knows by their `kind`."""

    id: str
    title: str
    parts: Sequence[Any] = field(default_factory=list)


def of_text(reports: Sequence[Report]) -> list[Section]:
    """The section of a page about the texts that were read."""
    return [Section("text", "Text", [part]) for part in tokens.parts(reports)]


def of_tensors(reports: Sequence[Report]) -> list[Section]:
    """The section of a page about recorded tensors, each once."""
    return [Section("tensors", "Tensors", [part]) for part in tensors.parts(reports)]


def of(report: Report) -> list[Section]:
    """The section of a page about what a command found."""
    if report.command not in _PARTS:
        return []
    title, parts = _PARTS[report.command]
    shown = [in_decimals(part) if isinstance(part, Table) else part for part in parts(report) if part is not None]
    return [Section(report.command, title, shown)]


Parts = Iterator[Table | Line | Any]


@dataclass(frozen=True)
class More:
    """Parts of a page that are shown when they are asked for."""

    kind: ClassVar = "more"
    title: str
    parts: Sequence[Table]


def _logits(report: Any) -> Parts:
    yield from logits.findings(report)
    found = list(logits.tables(report, None, everything=True))
    listed = sum(bool(each.top) for each in report.predictions)  # they come first, and are on the tokens, too
    if listed > 1:
        yield More("After each of the other tokens", [in_decimals(table) for table, _ in found[: listed - 1]])
    for table, said in found[max(0, listed - 1) :]:
        yield table
        yield said


def _heads(report: Any) -> Parts:
    if report.heads:
        yield heads.finding(report)
        yield heads.strongest(report)
        yield heads.sinks(report)
        yield heads.every(report)


def _diff(report: Any) -> Parts:
    yield from diff.against(report)
    yield diff.stages(report, everything=True)
    yield diff.tolerance(report)
    yield diff.predictions(report)
    yield diff.changed(report)
    yield from diff.only(report)


def _params(report: Any) -> Parts:
    yield params.table(report)
    yield from params.totals(report)


@dataclass(frozen=True)
class Drawing:
    """Lines of a page whose letters stand under each other."""

    kind: ClassVar = "drawing"
    lines: Sequence[Line]


WIDTH = 100
"""Columns of a drawing on a page."""


def _diagram(report: Any) -> Parts:
    yield Drawing(diagram.lines(report, WIDTH))
    yield from diagram.notes(report)


def _attribute(report: Any) -> Parts:
    yield attribute.finding(report)
    yield attribute.where(report)
    yield attribute.table(report, None)
    yield attribute.remainder(report)
    yield from (each for each in (attribute.neurons(report), attribute.experts(report)) if each is not None)
    yield from attribute.by_token(report, None)


def _ablate(report: Any) -> Parts:
    yield ablate.finding(report)
    yield ablate.baseline(report)
    yield ablate.table(report, None)
    yield from ablate.together(report)


def _stages(report: Any) -> Parts:
    yield stages.present(report)
    yield stages.notes(report)
    yield stages.absent(report)
    yield stages.total(report)


def _tree(report: Any) -> Parts:
    yield tree.table(report, TreeView(), wide=True)
    yield from tree.totals(report)


def _plan(report: Any) -> Parts:
    yield plan.files(report)
    yield plan.sums(report)


def _embed(report: Any) -> Parts:
    if report.similar:
        yield embed.similar(report)


def _models(report: Any) -> Parts:
    yield models.models(report, folders=True)


def _tokenize(report: Any) -> Parts:
    yield tokenize.table(report.input)
    yield tokenize.summary(report.input)


_PARTS: dict[str, tuple[str, Callable[[Any], Parts]]] = {
    "logits": ("What comes next", _logits),
    "lens": ("What each layer would predict", lens.parts),
    "heads": ("Kinds of heads", _heads),
    "diff": ("Where the two part", _diff),
    "params": ("Parameters", _params),
    "embed": ("Similar texts", _embed),
    "ablate": ("What is lost without each part", _ablate),
    "patch": ("Where the difference is", patch.parts),
    "attribute": ("Which parts wrote the logit", _attribute),
    "why": ("Why", why.parts),
    "steer": ("What a vector does", steer.parts),
    "diagram": ("What a pass adds", _diagram),
    "stages": ("Stages", _stages),
    "tree": ("Modules", _tree),
    "plan": ("What it would take", _plan),
    "models": ("Models", _models),
    "tokenize": ("Tokens", _tokenize),
    "lesson": ("From text to prediction", lesson.parts),
}
