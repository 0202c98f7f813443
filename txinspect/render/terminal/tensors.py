"""The tables of recorded tensors, grouped by the module that supplies them, and of each token's vector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from txinspect.records import CheckRecord, InputRecord, TensorRecord, TensorsReport
from txinspect.render.terminal import loading
from txinspect.render.terminal.frame import frame
from txinspect.render.terminal.glyphs import bar, number, plain, ranges, sparkline, visible
from txinspect.render.terminal.heading import input_line

WIDE = 138
"""Columns of a terminal from which a tensor takes one line; below it takes two."""

STAGE_WIDTH = 26
"""Columns for a stage's name, such as layers.0.attention.weights; a longer one stands on the line above."""


def draw(report: TensorsReport, console: Console) -> RenderableType:
    """The tensors, and what was read for them."""
    return Group(tables(report, console.width), loading.line(report.loading))


def tables(report: TensorsReport, width: int) -> RenderableType:
    """The text, a table of its tensors, and a table per tensor that has a row for each token."""
    parts: list[RenderableType] = [
        input_line(report.input),
        Text(),
        _header(width),
        Text("─" * (width - 1), style="dim"),
    ]
    for _, group in groupby(report.tensors, key=lambda tensor: (tensor.module, _stands_above(tensor) and tensor.name)):
        tensors = list(group)
        parts += [_supplier(tensors[0]), _table(tensors, width)]
    parts += [part for tensor in report.tensors if tensor.rows for part in (Text(), _rows(tensor, report.input))]
    if report.checks is not None:
        parts += [Text(), _checks(report.checks)]
    if report.saved:
        parts.append(Text(f"saved to {visible(report.saved)}", style="green"))
    return Group(*parts)


def _header(width: int) -> Table:
    grid = _grid(width)
    names = ["stage", "shape", "axes", "dtype", "mean ± std", "min … max", "distribution"]
    grid.add_row(*_arranged([Text(name, style="bold cyan") for name in names], width))
    return grid


def _supplier(tensor: TensorRecord) -> Text:
    """The line above a group: the module and its class; the name too where it is too long for its column."""
    if tensor.module is None:
        return plain(tensor.class_, "dim")
    own_name = _stands_above(tensor) and tensor.name != tensor.module
    line = plain(f"{tensor.name}  " if own_name else "", "bold")
    line.append_text(plain(tensor.module, "bold" if tensor.name == tensor.module else "dim"))
    return line.append_text(plain(f" ({tensor.class_})", "dim"))


def _stands_above(tensor: TensorRecord) -> bool:
    return tensor.name == tensor.module or len(tensor.name) > STAGE_WIDTH


def _table(tensors: Sequence[TensorRecord], width: int) -> Table:
    grid = _grid(width)
    for tensor in tensors:
        grid.add_row(*_arranged(list(_cells(tensor, bins=16 if width >= WIDE else 8)), width))
    return grid


def _grid(width: int) -> Table:
    """Columns of the same width in every group, so that the groups line up."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    widths = (STAGE_WIDTH, 17, 26, 8, 19, 19, 16) if width >= WIDE else (STAGE_WIDTH, 24, 19, 8)
    for columns in widths:
        grid.add_column(width=columns, overflow="fold")
    return grid


def _arranged(cells: list[Text], width: int) -> list[Text]:
    """A column per cell; in a narrow terminal axes go under the shape, the range under mean and deviation."""
    if width >= WIDE:
        return cells
    stage, shape, axes, dtype, mean, span, distribution = cells
    last = distribution if str(distribution) != "distribution" else Text("values", style=distribution.style)
    return [_under(stage, Text("")), _under(shape, axes), _under(mean, span), _under(last, dtype)]


def _under(first: Text, second: Text) -> Text:
    return first + Text("\n") + second if second else first


def _cells(tensor: TensorRecord, bins: int) -> Iterator[Text]:
    stats = tensor.stats
    yield Text("" if _stands_above(tensor) else visible(tensor.name), style="bold")
    yield Text(f"[{', '.join(map(str, tensor.shape))}]")
    axes = " ".join(tensor.axes or ())
    kept = "".join(f" ({axis} {ranges(positions)})" for axis, positions in (tensor.coordinates or {}).items())
    yield Text(axes + kept, style="dim")
    yield Text(tensor.dtype, style="dim")
    yield Text(f"{number(stats.mean)} ± {number(stats.std)}")
    yield Text(f"{number(stats.min)} … {number(stats.max)}")
    yield _distribution(tensor, bins)


def _distribution(tensor: TensorRecord, bins: int) -> Text:
    """A sparkline from the smallest to the largest value; what is not finite is named in red."""
    counts = tensor.histogram.counts if tensor.histogram else []
    each = max(1, len(counts) // bins)
    line = Text(sparkline([sum(counts[i : i + each]) for i in range(0, len(counts), each)]), style="cyan")
    stats = tensor.stats
    for count, what in ((stats.nan, "NaN"), (stats.posinf, "+inf"), (stats.neginf, "-inf")):
        if count:
            line.append(f"\n{count:,} {what}", style="bold red")
    return line


def _checks(checks: Sequence[CheckRecord]) -> Table:
    table = frame("checks")
    for name in ("check", "holds", "what was compared"):
        table.add_column(name, overflow="fold")
    shown = {True: Text("yes", "green"), False: Text("no", "bold red"), None: Text("–", "dim")}
    for check in checks:
        table.add_row(check.name, shown[check.passed], plain(check.detail))
    return table


def _rows(tensor: TensorRecord, input: InputRecord) -> Table:
    table = frame(f"{tensor.name}, token by token")
    table.add_column("index", justify="right")
    table.add_column("token", overflow="fold")
    for name in ("norm", "mean", "std"):
        table.add_column(name, justify="right")
    table.add_column("norm", no_wrap=True)
    rows = tensor.rows or []
    top = max((row.l2 or 0.0 for row in rows), default=0.0)
    for row in rows:
        # Some models put positions of their own before or after the text's, which are not tokens.
        is_token = len(rows) == len(input.tokens)
        table.add_row(
            str(row.index),
            plain(input.tokens[row.index].token) if is_token else Text("–", style="dim"),
            number(row.l2),
            number(row.mean),
            number(row.std),
            Text(bar(row.l2 or 0.0, top, 16), style="cyan"),
        )
    return table
