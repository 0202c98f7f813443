"""The table of `params`: a line per tensor, or per place in a layer where there are too many of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.params import MeasuredTensorRecord, ParamsReport
from txinspect.render.terminal.frame import Frame
from txinspect.render.terminal.glyphs import number, plain, visible
from txinspect.render.terminal.tensors import checked
from txinspect.wording import counted, ranges, short_bytes, short_count, some_of

MOST = 60
"""Tensors that have a line each where none were asked for by name or order."""

PLAIN = ("shape", "dtype", "mean", "std", "min … max", "norm", "kurtosis", ">6σ", "zeros")
SPECTRAL = ("σ₁", "stable rank")
DIFFERENT = ("cosine", "rel. L2", "max |Δ|", "same sign")
"""The columns of a tensor beside its name."""

GIVING_WAY = (
    *("dtype", "mean", "zeros", "norm", "digits", "kurtosis", "min … max", ">6σ", "std", "shape"),
    *("stable rank", "max |Δ|", "σ₁", "same sign"),
)
"""What is left out, in this order, where the terminal is too narrow: columns, and digits of numbers."""

SORTED = {
    "l2": "norm",
    "outliers": ">6σ",
    "min": "min … max",
    "max": "min … max",
    "spectral": "σ₁",
    "stable_rank": "stable rank",
    "rel_l2": "rel. L2",
    "max_abs": "max |Δ|",
}
"""The columns that hold what tensors are sorted by, where they are called otherwise: these stay."""

Number = Callable[[MeasuredTensorRecord], float | None]

NUMBERS: dict[str, Number] = {
    "mean": lambda each: each.stats.mean,
    "std": lambda each: each.stats.std,
    "norm": lambda each: each.stats.l2,
    "kurtosis": lambda each: each.kurtosis,
    "σ₁": lambda each: each.spectral.norm if each.spectral else None,
    "stable rank": lambda each: each.spectral.stable_rank if each.spectral else None,
    "cosine": lambda each: each.diff.cosine if each.diff else None,
    "rel. L2": lambda each: each.diff.rel_l2 if each.diff else None,
    "max |Δ|": lambda each: each.diff.max_abs if each.diff else None,
    "same sign": lambda each: each.diff.sign_agreement if each.diff else None,
}
"""Columns of one number; of several tensors they show the range."""

COUNTS: dict[str, Callable[[MeasuredTensorRecord], int]] = {
    ">6σ": lambda each: each.outliers,
    "zeros": lambda each: each.stats.zeros,
}
"""Columns of a count; of several tensors they show the sum."""


@dataclass(frozen=True)
class _Line:
    """A tensor, or those at one place in several layers."""

    group: str
    """The path that stands above it; empty where there is none."""
    name: str
    tensors: Sequence[MeasuredTensorRecord]


def draw(report: ParamsReport, console: Console) -> RenderableType:
    """The tensors, what was measured in all, checks."""
    folded = len(report.tensors) > MOST and not report.params and report.sort is None
    common = _common([each.name for each in report.tensors])
    by_name = report.sort in (None, "name")
    lines = list(_folded(report.tensors, common) if folded else _one_each(report.tensors, common, by_name=by_name))
    parts: list[RenderableType] = [_table(report, lines, console.width), Text(), _totals(report)]
    if folded:
        parts.append(
            Text(f"{len(lines)} lines for {len(report.tensors)} tensors: --param '**' lists each", style="dim")
        )
    if report.checks is not None:
        parts += [Text(), checked(report.checks)]
    return Group(*parts)


def _common(names: Sequence[str]) -> str:
    """The dotted path that all names begin with, without a number at its end."""
    paths = [name.split(".")[:-1] for name in names]
    count = 0
    while paths and all(len(path) > count and path[: count + 1] == paths[0][: count + 1] for path in paths):
        count += 1
    return ".".join(paths[0][:count]) if paths else ""


def _one_each(tensors: Sequence[MeasuredTensorRecord], common: str, *, by_name: bool) -> Iterator[_Line]:
    """A line per tensor; under its layer where the order is that of names."""
    for each in tensors:
        yield _Line(*_split(each.name, common, by_layer=by_name), [each])


def _folded(tensors: Sequence[MeasuredTensorRecord], common: str) -> Iterator[_Line]:
    """Names that differ in numbers alone, of one shape and type, together; in the order in which they come first."""
    alike: dict[tuple[str, str, str], list[MeasuredTensorRecord]] = {}
    for each in tensors:
        alike.setdefault((_starred(each.name), str(each.shape), each.dtype), []).append(each)
    by_group: dict[str, list[_Line]] = {}
    for group in alike.values():
        path, name = _split(_numbered([each.name for each in group]), common)
        by_group.setdefault(path, []).append(_Line(path, name, group))
    for lines in by_group.values():
        yield from lines


_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
"""A part of a path that is a number."""


def _starred(name: str) -> str:
    return _NUMBER.sub("*", name)


def _numbered(names: Sequence[str]) -> str:
    """The names in one: layers.0–23.fc1.weight, or * where several parts differ."""
    parts = list(zip(*(_NUMBER.findall(name) for name in names), strict=True))
    differing = [index for index, part in enumerate(parts) if len(set(part)) > 1]
    shown = [part[0] if index not in differing else "*" for index, part in enumerate(parts)]
    if len(differing) == 1:
        shown[differing[0]] = ranges(sorted({int(each) for each in parts[differing[0]]}))
    numbers = iter(shown)
    return _NUMBER.sub(lambda _: next(numbers), names[0])


def _split(name: str, common: str, *, by_layer: bool = True) -> tuple[str, str]:
    """The path to a layer, or else what all names begin with; and the rest."""
    match = re.match(r"(.*?\.[\d*–, ]+)\.(.+)", name) if by_layer else None
    if match and len(match[1]) > len(common):
        return match[1], match[2]
    return common, name.removeprefix(f"{common}.") if common else name


def _table(report: ParamsReport, lines: Sequence[_Line], width: int) -> Frame:
    asked = [*(DIFFERENT if report.other else ()), *(SPECTRAL if any(each.spectral for each in report.tensors) else ())]
    if report.base is None and "same sign" in asked:
        asked.remove("same sign")
    left_out: set[str] = set()
    kept = SORTED.get(report.sort or "", report.sort)
    for given_up in ("", *(each for each in GIVING_WAY if each != kept)):
        left_out.add(given_up)
        columns = [name for name in (*PLAIN, *asked) if name not in left_out]
        drawn = _drawn(lines, columns, 3 if "digits" in left_out else 4)
        if drawn.natural_width <= width:
            break
    return drawn


def _drawn(lines: Sequence[_Line], columns: Sequence[str], digits: int) -> Frame:
    drawn = Frame()
    drawn.add_column("tensor")
    for name in columns:
        drawn.add_column(name, justify="left" if name in ("shape", "dtype") else "right", no_wrap=True)
    group = ""
    for line in lines:
        if line.group != group:
            group = line.group
            drawn.add_line(plain(group, "bold cyan"))
        label = Text("  " if group else "").append(visible(line.name), style="bold")
        if len(line.tensors) > 1:
            label.append(f" ×{len(line.tensors)}", style="magenta")
        drawn.add_row(label, *(_cell(line.tensors, column, digits) for column in columns))
        if flaws := _flaws(line.tensors):
            drawn.add_line(Text("    " if group else "  ").append(flaws, style="bold red"))
        if besides := _besides(line.tensors):
            drawn.add_line(Text("    " if group else "  ").append(besides, style="dim"))
    return drawn


def _cell(tensors: Sequence[MeasuredTensorRecord], column: str, digits: int) -> Text:
    first = tensors[0]
    if column == "shape":
        return Text(f"[{', '.join(map(str, first.shape))}]")
    if column == "dtype":
        return plain(first.dtype, "dim")
    if column in COUNTS:
        count = sum(map(COUNTS[column], tensors))
        return Text(short_count(count) if count else "·", style="" if count else "dim")
    if column == "min … max":
        lows, highs = ([getattr(each.stats, end) for each in tensors] for end in ("min", "max"))
        low, high = min(_known(lows), default=None), max(_known(highs), default=None)
        return Text(f"{number(low, digits)} … {number(high, digits)}")
    values = _known([NUMBERS[column](each) for each in tensors])
    if not values:
        return Text("–", style="dim")
    places = digits if len(tensors) == 1 else digits - 1
    least, most = number(min(values), places), number(max(values), places)
    return Text(least if least == most else f"{least} … {most}")


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _flaws(tensors: Sequence[MeasuredTensorRecord]) -> str:
    counts = (
        (sum(each.stats.nan for each in tensors), "NaN"),
        (sum(each.stats.posinf for each in tensors), "+inf"),
        (sum(each.stats.neginf for each in tensors), "-inf"),
        (sum(each.dead for each in tensors), "dead rows"),
    )
    said = ", ".join(f"{count:,} {what if count > 1 else what.removesuffix('s')}" for count, what in counts if count)
    if not said or len(tensors) == 1:
        return said
    having = [each.name for each in tensors if _unsound(each) or each.dead]
    numbers = [_NUMBER.findall(name) for name in having]
    if len(numbers[0]) == 1:
        return f"{said} in {ranges(sorted(int(each) for (each,) in numbers))}"
    return f"{said} in {len(having)} of {len(tensors)}"


def _unsound(tensor: MeasuredTensorRecord) -> int:
    """Numbers that are not finite."""
    return tensor.stats.nan + tensor.stats.posinf + tensor.stats.neginf


def _besides(tensors: Sequence[MeasuredTensorRecord]) -> str:
    """What else is worth a line: a row that is meant to be zero, what is the same as in another tensor or model."""
    said = [
        f"row {each.padding_row}, of the padding token, is zero" for each in tensors if each.padding_row is not None
    ]
    copies = [each.identical_to for each in tensors if each.identical_to and each.stats.std]
    if copies:
        what = visible(copies[0]) if len(tensors) == 1 else f"another: {len(copies)} of {len(tensors)}"
        said.append(f"identical to {what}")
    compared = [each.diff.equal for each in tensors if each.diff]
    if any(compared):
        said.append("equal in both" if all(compared) else f"equal in both: {sum(compared)} of {len(compared)}")
    return ", ".join(said)


def _totals(report: ParamsReport) -> Text:
    totals = report.totals
    kinds = some_of(sorted({each.dtype for each in report.tensors}), 6)
    files = "1 file" if totals.files == 1 else f"{totals.files} files"
    line = Text(
        f"{totals.tensors} tensor{'' if totals.tensors == 1 else 's'}, {totals.numel:,} values, "
        f"{short_bytes(totals.bytes)} in {files}, {kinds or 'no type'}\n"
    )
    counts = [
        f"{totals.zeros:,} zeros",
        f"{counted(totals.outliers, 'outlier')} beyond 6σ",
        counted(totals.dead_rows, "dead row"),
    ]
    counts += [f"{totals.nan:,} NaN, {totals.inf:,} infinite"] if totals.nan or totals.inf else []
    return line.append(" · ".join(counts))
