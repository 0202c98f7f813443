"""The tables of recorded tensors, and what some options add below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.command import Detailed
from txinspect.records import CheckRecord, SentenceRecord, TensorRecord, TensorsReport
from txinspect.render.content import tensors as content
from txinspect.render.spelling import visible
from txinspect.render.tables import Line
from txinspect.render.terminal.frame import Frame, drawn, fitted_table
from txinspect.render.terminal.reading import input_lines
from txinspect.stage_names import StageName

NARROW = 80
"""Columns below which no digit gives way: the table is folded all the same."""


ROWS, FIRST = 10, 6
"""Tokens of one tensor that have a row each on the first screen, and how many of more; of several tensors none have."""


def draw(report: TensorsReport, console: Console, view: Detailed = Detailed()) -> RenderableType:
    """The text, a table of its tensors, a table per tensor that has a row for each token, corners, checks."""
    parts: list[RenderableType] = [*input_lines(report.input), Text(), table(report.tensors, console.width)]
    with_rows, most = [tensor for tensor in report.tensors if tensor.rows], _most(report, view)
    for tensor in with_rows:
        sentence = report.input.read_by(StageName.of(tensor.name).stack)
        if most != 0:
            parts += [Text(), _rows(tensor, sentence, console.width, most)]
        if most is not None and most < len(tensor.rows or ()):
            parts.append(drawn(content.norms(tensor, sentence)))
    return Group(*parts, *extras(report, console.width))


def then(report: TensorsReport, view: Detailed | None) -> Line | None:
    """What is drawn last under the tables of recorded tensors: what was left out."""
    longest = max((len(tensor.rows or ()) for tensor in report.tensors), default=0)
    most = _most(report, view or Detailed())
    return None if most is None or longest <= most else content.more_rows(longest)


def _most(report: TensorsReport, view: Detailed) -> int | None:
    """How many tokens of a recorded tensor have a row in the drawing; None for all."""
    counts = [len(tensor.rows) for tensor in report.tensors if tensor.rows]
    if view.table:
        return None
    return 0 if len(counts) > 1 else ROWS if max(counts, default=0) <= ROWS else FIRST


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


def _rows(tensor: TensorRecord, sentence: SentenceRecord, width: int, most: int | None) -> Frame:
    """The drawn table of tokens' vectors, a line each of the first ones, with what fits into the terminal."""
    return fitted_table(
        lambda left_out: content.token_rows(tensor, sentence, most, left_out), width, content.ROWS_GIVING_WAY
    )


def _corner(tensor: TensorRecord, width: int) -> Text:
    """The corner of a recorded tensor's values: the first and last few numbers along each axis."""
    import numpy as np

    # A complex number is a pair here, as in the JSON.
    shown = np.array2string(np.array(tensor.values), threshold=64, edgeitems=3, max_line_width=width - 1, precision=4)
    return Text(shown)
