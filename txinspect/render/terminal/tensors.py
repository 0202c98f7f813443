"""The tables of recorded tensors, grouped by the module that supplies them, and of each token's vector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.records import CheckRecord, SentenceRecord, TensorRecord, TensorsReport
from txinspect.render.terminal.frame import Frame, frame
from txinspect.render.terminal.glyphs import bar, number, plain, sparkline, token_text, visible
from txinspect.render.terminal.heading import input_lines
from txinspect.stages import layer_of, part_of, stack_of
from txinspect.wording import ranges

BINS = 16
"""Bars of a distribution; half as many where the terminal is narrow."""

BAR = 16
"""Columns for the bar of a token's norm."""

_ROW = ("norm", "mean", "std", "bar")
"""The columns of a token's vector, beside the token."""

COLUMNS = ("shape", "axes", "dtype", "mean ± std", "min … max", "values")
"""The columns of a tensor, beside its name."""

NUMBERS = ("mean ± std", "min … max")

GIVING_WAY = ("dtype", "axes", "half", "digits", "beside", "values")
"""What gives way, in this order, where the terminal is too narrow: columns, half of the bars, a digit of numbers, the
place of numbers, which then stand below."""

NARROW = 80
"""Columns below which no digit gives way: the table is folded all the same."""


@dataclass(frozen=True)
class _Group:
    """Tensors that one module supplies."""

    prefix: str
    """What their names begin with."""
    tensors: Sequence[TensorRecord]


def draw(report: TensorsReport, console: Console) -> RenderableType:
    """The text, a table of its tensors, a table per tensor that has a row for each token, corners, checks."""
    parts: list[RenderableType] = [*input_lines(report.input), Text(), table(report.tensors, console.width)]
    parts += [
        part
        for tensor in report.tensors
        if tensor.rows
        for part in (Text(), _rows(tensor, report.input.read_by(stack_of(tensor.name)), console.width))
    ]
    return Group(*parts, *extras(report, console.width))


def extras(report: TensorsReport, width: int) -> Iterator[RenderableType]:
    """What some options add below: the corners of the tensors, and what was checked."""
    for tensor in report.tensors:
        if tensor.values is not None:
            yield from (Text(), plain(tensor.name, "bold"), _corner(tensor, width))
    if report.checks is not None:
        yield from (Text(), checked(report.checks))


def table(tensors: Sequence[TensorRecord], width: int, title: str = "stage") -> RenderableType:
    """A line per tensor, under the module that supplies it; one supplier of all under a `title` of its own is left out.

    What does not fit gives way in the order of GIVING_WAY.
    """
    groups = _groups(tensors)
    left_out: set[str] = set()
    for name in ("", *GIVING_WAY):
        if name == "digits" and width < NARROW:
            continue
        left_out.add(name)
        drawn = _table(groups, left_out, title)
        if drawn.natural_width <= width:
            break
    return drawn


def _groups(tensors: Sequence[TensorRecord]) -> list[_Group]:
    """The tensors by their modules, in the order in which these come first."""
    by_module: dict[tuple[str | None, str | None, str], list[TensorRecord]] = {}
    for tensor in tensors:
        layer = "" if layer_of(tensor.name) is None else tensor.name.removesuffix(part_of(tensor.name))
        by_module.setdefault((tensor.module, tensor.class_, layer), []).append(tensor)
    return [_Group(_prefix([tensor.name for tensor in group]), group) for group in by_module.values()]


def _prefix(names: Sequence[str]) -> str:
    """The dotted path that names have in common, without the last part of each."""
    first, *others = [name.split(".")[:-1] for name in names]
    same = [part for i, part in enumerate(first) if all(each[: i + 1] == first[: i + 1] for each in others)]
    return ".".join(same)


def _table(groups: Sequence[_Group], left_out: set[str], title: str) -> Frame:
    drawn = Frame(rule=title == "stage")
    drawn.add_column(title)
    below = NUMBERS if "beside" in left_out else ()
    columns = [name for name in COLUMNS if name not in left_out and name not in below]
    for name in columns:
        drawn.add_column(name, no_wrap=True)
    if below:
        drawn.add_line(Text("  " + "   ".join(below), style="bold cyan"))
    for group in groups:
        if title == "stage":
            drawn.add_line(_supplier(group, with_axes="axes" not in left_out))
        for tensor in group.tensors:
            name = tensor.name.removeprefix(f"{group.prefix}.") if group.prefix else tensor.name
            cells = _cells(tensor, BINS // 2 if "half" in left_out else BINS, 3 if "digits" in left_out else 4)
            drawn.add_row(Text(visible(name), style="bold"), *(cells[column] for column in columns))
            if below:
                drawn.add_line(Text("  ") + Text("   ").join(cells[column] for column in below))
            if tensor.stats.nan or tensor.stats.posinf or tensor.stats.neginf:
                drawn.add_line(_not_finite(tensor))
    return drawn


def _supplier(group: _Group, *, with_axes: bool) -> Text:
    """The line above a group: what the names begin with, the module, its class; and what was kept of the axes."""
    first = group.tensors[0]
    own_name = group.prefix and first.name != first.module
    line = plain(f"{group.prefix}  " if own_name else "", "bold cyan")
    line.append_text(plain(f"{first.module} ({first.class_})" if first.module else first.class_, "dim"))
    if not with_axes:
        kept = dict.fromkeys(_kept(tensor) for tensor in group.tensors if tensor.coordinates)
        line.append_text(plain("".join(f"  {each}" for each in kept), "dim"))
    return line


def _kept(tensor: TensorRecord) -> str:
    """The positions kept of the axes that were cut."""
    return ", ".join(f"{axis} {ranges(positions)}" for axis, positions in (tensor.coordinates or {}).items())


def _cells(tensor: TensorRecord, bins: int, digits: int) -> dict[str, Text]:
    """What each column holds."""
    stats = tensor.stats
    counts = tensor.histogram.counts if tensor.histogram else []
    each = max(1, len(counts) // bins)
    kept = f" ({_kept(tensor)})" if tensor.coordinates else ""
    return {
        "shape": Text(f"[{', '.join(map(str, tensor.shape))}]"),
        "axes": Text(" ".join(tensor.axes or ()) + kept, style="dim"),
        "dtype": Text(tensor.dtype, style="dim"),
        "mean ± std": Text(f"{number(stats.mean, digits)} ± {number(stats.std, digits)}"),
        "min … max": Text(f"{number(stats.min, digits)} … {number(stats.max, digits)}"),
        "values": Text(sparkline([sum(counts[i : i + each]) for i in range(0, len(counts), each)]), style="cyan"),
    }


def _not_finite(tensor: TensorRecord) -> Text:
    stats = tensor.stats
    counts = ((stats.nan, "NaN"), (stats.posinf, "+inf"), (stats.neginf, "-inf"))
    return Text("  " + ", ".join(f"{count:,} {what}" for count, what in counts if count), style="bold red")


def _corner(tensor: TensorRecord, width: int) -> Text:
    """The first and last few numbers along each axis."""
    import numpy as np

    # A complex number is a pair here, as in the JSON.
    shown = np.array2string(np.array(tensor.values), threshold=64, edgeitems=3, max_line_width=width - 1, precision=4)
    return Text(shown)


def checked(checks: Sequence[CheckRecord]) -> Frame:
    """What was checked, a line each."""
    drawn = frame()
    for name in ("check", "holds", "what was compared"):
        drawn.add_column(name, no_wrap=name != "what was compared")
    shown = {True: Text("yes", "green"), False: Text("no", "bold red"), None: Text("–", "dim")}
    for check in checks:
        drawn.add_row(Text(check.name), shown[check.passed], plain(check.detail))
    return drawn


def _rows(tensor: TensorRecord, sentence: SentenceRecord, width: int) -> Frame:
    """A line per token; the bars begin where the norms do, so that their differences show.

    Columns are left out from the right where the terminal is too narrow for them.
    """
    rows = tensor.rows or []
    norms = [row.l2 for row in rows if row.l2 is not None]
    low, high = min(norms, default=0.0), max(norms, default=0.0)
    # Some models put positions of their own before or after the text's, which are not tokens.
    is_token = len(rows) == len(sentence.tokens)
    for count in range(len(_ROW), 0, -1):
        drawn = frame(f"{visible(tensor.name)}, token by token")
        drawn.add_column("index", justify="right", no_wrap=True)
        drawn.add_column("token")
        for name in _ROW[:count]:
            title = f"norm {number(low)} … {number(high)}" if name == "bar" else name
            drawn.add_column(title, justify="left" if name == "bar" else "right", no_wrap=True)
        for row in rows:
            token = Text(token_text(sentence.tokens[row.index])) if is_token else Text("–", style="dim")
            long = Text("" if row.l2 is None else bar(row.l2 - low, high - low, BAR), style="cyan")
            cells = (number(row.l2), number(row.mean), number(row.std), long)
            drawn.add_row(str(row.index), token, *cells[:count])
        if drawn.natural_width <= width:
            break
    return drawn
