"""What stands in the table of `params`: a line per tensor, or per place in a layer where there are too many of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass

from txinspect.commands.params import MeasuredTensorRecord, ParamsReport
from txinspect.render.spelling import number, visible
from txinspect.render.tables import Cell, Column, Line, Row, Table, Words, cell, line, numeric
from txinspect.wording import counted, ranges, short_bytes, short_count, some_of

MOST = 60
"""Tensors that have a line each where none were asked for by name or order."""

PLAIN = ("shape", "dtype", "mean", "std", "min … max", "norm", "kurtosis", ">6σ", "zeros")
SPECTRAL = ("σ₁", "stable rank")
DIFFERENT = ("cosine", "rel. L2", "max |Δ|", "same sign")
"""The columns of a tensor beside its name."""

GIVING_WAY = (
    "dtype",
    "mean",
    "zeros",
    "norm",
    "digits",
    "kurtosis",
    "min … max",
    ">6σ",
    "std",
    "shape",
    "stable rank",
    "max |Δ|",
    "σ₁",
    "same sign",
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

FINE = 6
"""Digits of a cosine, which is near 1."""

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


def giving_way(report: ParamsReport) -> list[str]:
    """The columns of `params` to leave out, in order, where there is no room: all but what is sorted by."""
    kept = SORTED.get(report.sort or "", report.sort)
    return [each for each in GIVING_WAY if each != kept]


def table(report: ParamsReport, left_out: Set[str] = frozenset()) -> Table:
    """The table of `params`: a line per tensor, or per place in a layer."""
    digits = 3 if "digits" in left_out else 4
    titles = [name for name in _titles(report) if name not in left_out]
    rows: list[Row | Line] = []
    group = ""
    for each in _lines(report):
        if each.group != group:
            group = each.group
            rows.append(line(visible(group), "name"))
        rows += _rows(each, titles, digits)
    columns = [Column(name, right=name not in ("shape", "dtype"), whole=True, spread=True) for name in titles]
    return Table([Column("tensor"), *columns], rows)


def _titles(report: ParamsReport) -> list[str]:
    """The columns of the table of `params` that there is something to say in."""
    spectral = SPECTRAL if any(each.spectral for each in report.tensors) else ()
    different = DIFFERENT if report.other else ()
    titles = [*PLAIN, *different, *spectral]
    return titles if report.base is not None else [name for name in titles if name != "same sign"]


def _shown(report: ParamsReport) -> Sequence[MeasuredTensorRecord]:
    """The parameters that the table lists: of two models those that differ, where none were asked for."""
    if report.other is None or _is_asked(report):
        return report.tensors
    return [each for each in report.tensors if each.diff is None or not each.diff.equal]


def _is_asked(report: ParamsReport) -> bool:
    """Whether parameters were asked for by name or order, so that each has a line of the table."""
    return bool(report.params) or report.sort is not None


def _is_folded(report: ParamsReport) -> bool:
    """Whether parameters of several layers stand in one line of the table."""
    return len(_shown(report)) > MOST and not _is_asked(report)


def _lines(report: ParamsReport) -> list[_Line]:
    shown = _shown(report)
    common = _common([each.name for each in report.tensors])
    if _is_folded(report):
        return list(_folded(shown, common))
    return list(_one_each(shown, common, by_name=report.sort in (None, "name")))


def _common(names: Sequence[str]) -> str:
    """The dotted path that the names of all parameters in the table begin with, without a number at its end."""
    paths = [name.split(".")[:-1] for name in names]
    count = 0
    while paths and all(len(path) > count and path[: count + 1] == paths[0][: count + 1] for path in paths):
        count += 1
    return ".".join(paths[0][:count]) if paths else ""


def _one_each(tensors: Sequence[MeasuredTensorRecord], common: str, *, by_name: bool) -> Iterator[_Line]:
    """A line of the table per parameter; under its layer where the order is that of names."""
    for each in tensors:
        yield _Line(*_split(each.name, common, by_layer=by_name), [each])


def _folded(tensors: Sequence[MeasuredTensorRecord], common: str) -> Iterator[_Line]:
    """Lines of parameters whose names differ in numbers alone, of one shape and type; in the order of the first."""
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
    """The names of several layers' parameters in one: layers.0–23.fc1.weight, or * where several parts differ."""
    parts = list(zip(*(_NUMBER.findall(name) for name in names), strict=True))
    differing = [index for index, part in enumerate(parts) if len(set(part)) > 1]
    shown = [part[0] if index not in differing else "*" for index, part in enumerate(parts)]
    if len(differing) == 1:
        shown[differing[0]] = ranges(sorted({int(each) for each in parts[differing[0]]}))
    numbers = iter(shown)
    return _NUMBER.sub(lambda _: next(numbers), names[0])


def _split(name: str, common: str, *, by_layer: bool = True) -> tuple[str, str]:
    """A parameter's name in two: the path to its layer, or else what all names begin with; and the rest."""
    match = re.match(r"(.*?\.[\d*–, ]+)\.(.+)", name) if by_layer else None
    if match and len(match[1]) > len(common):
        return match[1], match[2]
    return common, name.removeprefix(f"{common}.") if common else name


def _rows(each: _Line, titles: Sequence[str], digits: int) -> Iterator[Row | Line]:
    """A parameter's row in the table, and lines below it."""
    indent = Words("  " if each.group else "")
    label = [indent, Words(visible(each.name), "strong")]
    label += [Words(f" ×{len(each.tensors)}", "marked")] if len(each.tensors) > 1 else []
    yield Row([Cell(label), *(_cell(each.tensors, title, digits) for title in titles)])
    below = Words(f"  {indent.text}")
    if flaws := _flaws(each.tensors):
        yield Line([below, Words(flaws, "bad")])
    if besides := _besides(each.tensors):
        yield Line([below, Words(besides, "dim")])


def _cell(tensors: Sequence[MeasuredTensorRecord], column: str, digits: int) -> Cell:
    first = tensors[0]
    if column == "shape":
        return cell(f"[{', '.join(map(str, first.shape))}]")
    if column == "dtype":
        return cell(visible(first.dtype), "dim")
    if column in COUNTS:
        count = sum(map(COUNTS[column], tensors))
        return cell(short_count(count), value=count) if count else cell("·", "dim", 0)
    if column == "min … max":
        lows, highs = ([getattr(each.stats, end) for each in tensors] for end in ("min", "max"))
        low, high = min(_known(lows), default=None), max(_known(highs), default=None)
        return cell(f"{number(low, digits)} … {number(high, digits)}")
    values = _known([NUMBERS[column](each) for each in tensors])
    if not values:
        return cell("–", "dim")
    if len(tensors) == 1:
        return numeric(values[0], FINE if column == "cosine" else digits)
    least, most = number(min(values), digits - 1), number(max(values), digits - 1)
    return cell(least if least == most else f"{least} … {most}", value=values[0] if len(values) == 1 else None)


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
    """How many numbers of a parameter are not finite, for the line below its row."""
    return tensor.stats.nan + tensor.stats.posinf + tensor.stats.neginf


def _besides(tensors: Sequence[MeasuredTensorRecord]) -> str:
    """What else a parameter's line says: a row meant to be zero, what is the same as in another tensor or model."""
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


def totals(report: ParamsReport) -> list[Line]:
    """The line of `params` about what was measured in all, and whether several tensors stand in a line."""
    found = report.totals
    files = "1 file" if found.files == 1 else f"{found.files} files"
    kinds = some_of(sorted({each.dtype for each in report.tensors}), 6)
    counts = [
        f"{found.zeros:,} zeros",
        f"{counted(found.outliers, 'outlier')} beyond 6σ",
        counted(found.dead_rows, "dead row"),
    ]
    counts += [f"{found.nan:,} NaN, {found.inf:,} infinite"] if found.nan or found.inf else []
    lines = [
        line(
            f"{found.tensors} tensor{'' if found.tensors == 1 else 's'}, {found.numel:,} values, "
            f"{short_bytes(found.bytes)} in {files}, {kinds or 'no type'}"
        ),
        line(" · ".join(counts)),
    ]
    left_out = []
    if equal := len(report.tensors) - len(_shown(report)):
        left_out.append(f"{counted(equal, 'tensor')} equal in both")
    if _is_folded(report):
        left_out.append(f"{len(_lines(report))} lines for {len(_shown(report))} tensors")
    return [*lines, *([line(f"{', '.join(left_out)}: --param '**' lists each", "dim")] if left_out else [])]
