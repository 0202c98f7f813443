"""The tables of recorded tensors, and what some options add below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.records import CheckRecord, SentenceRecord, TensorRecord, TensorsReport
from txinspect.render.content import tensors as content
from txinspect.render.spelling import visible
from txinspect.render.terminal.frame import Frame, fitted_table
from txinspect.render.terminal.reading import input_lines
from txinspect.stage_names import StageName

NARROW = 80
"""Columns below which no digit gives way: the table is folded all the same."""


def draw(report: TensorsReport, console: Console) -> RenderableType:
    """The text, a table of its tensors, a table per tensor that has a row for each token, corners, checks."""
    parts: list[RenderableType] = [*input_lines(report.input), Text(), table(report.tensors, console.width)]
    for tensor in report.tensors:
        if tensor.rows:
            parts += [Text(), _rows(tensor, report.input.read_by(StageName.of(tensor.name).stack), console.width)]
    return Group(*parts, *extras(report, console.width))


def extras(report: TensorsReport, width: int) -> Iterator[RenderableType]:
    """What options add below the tables of recorded tensors: their corners, and what was checked."""
    for tensor in report.tensors:
        if tensor.values is not None:
            yield from (Text(), Text(visible(tensor.name), "bold"), _corner(tensor, width))
    yield from checked(report.checks)


def checked(checks: Sequence[CheckRecord] | None) -> Iterator[RenderableType]:
    """The drawn table of what was checked of recorded tensors, if anything was."""
    if checks is not None:
        yield from (Text(), Frame(content.checks(checks)))


def table(tensors: Sequence[TensorRecord], width: int, title: str = "stage") -> Frame:
    """The drawn table of recorded tensors, a line each, with what fits into the terminal."""
    giving_way = [name for name in content.GIVING_WAY if name != "digits" or width >= NARROW]
    return fitted_table(lambda left_out: content.table(tensors, title, left_out), width, giving_way)


def _rows(tensor: TensorRecord, sentence: SentenceRecord, width: int) -> Frame:
    """The drawn table of tokens' vectors, a line each, with what fits into the terminal."""
    return fitted_table(lambda left_out: content.token_rows(tensor, sentence, left_out), width, content.ROWS_GIVING_WAY)


def _corner(tensor: TensorRecord, width: int) -> Text:
    """The corner of a recorded tensor's values: the first and last few numbers along each axis."""
    import numpy as np

    # A complex number is a pair here, as in the JSON.
    shown = np.array2string(np.array(tensor.values), threshold=64, edgeitems=3, max_line_width=width - 1, precision=4)
    return Text(shown)
