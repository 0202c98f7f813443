"""The grid of `lens` on a page: the likeliest token of each layer and token, on its probability."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from txinspect.commands.lens import LensReport, LensRowRecord
from txinspect.render.content import lens as content
from txinspect.render.page.peeks import Peek, shade, top
from txinspect.render.spelling import number, token_text, visible, word
from txinspect.render.tables import Line


@dataclass(frozen=True)
class LensRow:
    """A layer of the grid on a page."""

    layer: str
    cells: Sequence[Peek]
    is_first: bool


@dataclass(frozen=True)
class LensPart:
    """The grid of `lens` on a page."""

    kind: ClassVar = "lens"
    finding: Line
    where: str
    columns: Sequence[str]
    rows: Sequence[LensRow]


def parts(report: LensReport) -> Iterator[Any]:
    """The parts of a page about what each layer would predict."""
    tokens = report.input.main.tokens
    columns = [f"{each.position} {token_text(tokens[each.position])}" for each in report.positions]
    rows = [
        LensRow(content.layer_name(row.layer), _cells(report, row, columns), index == 0)
        for index, row in enumerate(report.rows)
    ]
    yield LensPart(content.finding(report), content.where(report), columns, rows)
    yield content.last(report)


def _cells(report: LensReport, row: LensRowRecord, columns: Sequence[str]) -> list[Peek]:
    """A layer's cells in the grid on a page."""
    layer = "what enters the layers" if row.layer < 0 else f"layer {row.layer}"
    return [
        Peek(
            text=visible(word(each.top[0])),
            shade=shade(each.top[0].prob),
            what=f"{layer}, {content.where(report)} {column}; KL {number(each.kl)}",
            top=top(each.top),
        )
        for each, column in zip(row.cells, columns, strict=True)
    ]
