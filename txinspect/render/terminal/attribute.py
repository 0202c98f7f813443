"""Which parts wrote a logit: the finding, the largest parts, the sum beside the model's logit."""

from __future__ import annotations

from msgspec import structs
from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.attribute import ROWS, AttributeReport, Summed
from txinspect.render.content import attribute as content
from txinspect.render.tables import Line, Table
from txinspect.render.terminal import tensors
from txinspect.render.terminal.frame import Frame, drawn
from txinspect.render.terminal.reading import input_lines


def draw(report: AttributeReport, console: Console, view: Summed = Summed()) -> RenderableType:
    """The finding, where the logit is, the largest parts, what the sum leaves over, what was looked into."""
    most = None if view.table else view.top_k
    parts: list[RenderableType] = [*input_lines(report.input), drawn(content.finding(report))]
    parts += [drawn(content.where(report)), Frame(content.table(report, most)), drawn(content.remainder(report))]
    for table in (content.neurons(report), content.experts(report)):
        parts += [] if table is None else [Text(), Frame(table)]
    for each in content.by_token(report, None if view.table else content.TOKENS):
        parts.append(Frame(each) if isinstance(each, Table) else drawn(each))
    holds = all(check.passed for check in report.checks or ())
    return Group(*parts, *tensors.extras(structs.replace(report, checks=None) if holds else report, console.width))


def found(report: AttributeReport) -> list[Line]:
    """What `attribute` found, in a line."""
    return [content.finding(report)]


def then(report: AttributeReport, view: Summed | None) -> Line | None:
    """What is drawn last under the tables of `attribute`: what was left out."""
    most = ROWS if view is None else view.top_k
    return None if view is not None and view.table else content.more(report, most)
