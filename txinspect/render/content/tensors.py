"""What stands in the tables of recorded tensors, grouped by the module that supplies them, and of tokens' vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from txinspect.records import CheckRecord, RowRecord, SentenceRecord, TensorRecord
from txinspect.render.spelling import number, or_dash, sparkline, token_text, visible
from txinspect.render.tables import Cell, Column, Line, Row, Table, Words, bar, cell, line, numbers, numeric
from txinspect.stage_names import StageName
from txinspect.wording import ranges

BINS = 16
"""Bars of a distribution; half as many where the terminal is narrow."""

_ROW = ("norm", "mean", "std", "bar")
"""The columns of a token's vector, beside the token."""

COLUMNS = ("shape", "axes", "dtype", "mean ± std", "min … max", "values")
"""The columns of a tensor, beside its name."""

NUMBERS = ("mean ± std", "min … max")

GIVING_WAY = ("dtype", "axes", "half", "digits", "beside", "values")
"""What gives way, in this order, where the terminal is too narrow: columns, half of the bars, a digit of numbers, the
place of numbers, which then stand below."""

ROWS_GIVING_WAY = ("bar", "std", "mean")
"""What gives way beside a token's norm."""


@dataclass(frozen=True)
class _Group:
    """Tensors that one module supplies."""

    prefix: str
    """What their names begin with."""
    tensors: Sequence[TensorRecord]


def table(tensors: Sequence[TensorRecord], title: str = "stage", left_out: Set[str] = frozenset()) -> Table:
    """The table of recorded tensors, a line each under its module; one supplier of all under a `title` is left out.

    What is `left_out` is of GIVING_WAY.
    """
    below = NUMBERS if "beside" in left_out else ()
    columns = [name for name in COLUMNS if name not in left_out and name not in below]
    rows: list[Row | Line] = []
    if below:
        rows.append(line("  " + "   ".join(below), "name"))
    for group in _groups(tensors):
        if title == "stage":
            rows.append(_supplier(group, with_axes="axes" not in left_out))
        for tensor in group.tensors:
            rows += _tensor(group, tensor, columns, below, left_out)
    titles = [Column(title), *(Column(name, whole=True) for name in columns)]
    return Table(titles, rows, rule=title == "stage")


def _groups(tensors: Sequence[TensorRecord]) -> list[_Group]:
    """The recorded tensors of a table by their modules, in the order in which these come first."""
    by_module: dict[object, list[TensorRecord]] = {}
    for tensor in tensors:
        by_module.setdefault((tensor.module, tensor.class_, _layer(tensor.name)), []).append(tensor)
    return [_Group(_prefix([tensor.name for tensor in group]), group) for group in by_module.values()]


def _layer(name: str) -> tuple[str, int, bool] | None:
    """The layer of a tensor in the table by its stage, by stack and number; None outside of layers."""
    said = StageName.of(name)
    return None if said.layer is None else (said.stack, said.layer, bool(said.part))


def _prefix(names: Sequence[str]) -> str:
    """The dotted path that names of recorded tensors in a table have in common, without the last part of each."""
    first, *others = [name.split(".")[:-1] for name in names]
    same = [part for i, part in enumerate(first) if all(each[: i + 1] == first[: i + 1] for each in others)]
    return ".".join(same)


def _tensor(
    group: _Group, tensor: TensorRecord, columns: Sequence[str], below: Sequence[str], left_out: Set[str]
) -> Iterator[Row | Line]:
    """A recorded tensor's row, the numbers that stand below it, and what is not finite."""
    name = tensor.name.removeprefix(f"{group.prefix}.") if group.prefix else tensor.name
    cells = _cells(tensor, BINS // 2 if "half" in left_out else BINS, 3 if "digits" in left_out else 4)
    yield Row([cell(visible(name), "strong"), *(cells[column] for column in columns)])
    if below:
        first, *others = (cells[column].words for column in below)
        yield Line([Words("  "), *first, *(each for words in others for each in (Words("   "), *words))])
    if tensor.stats.nan or tensor.stats.posinf or tensor.stats.neginf:
        yield _not_finite(tensor)


def _supplier(group: _Group, *, with_axes: bool) -> Line:
    """The line above a group of tensors: what names begin with, module, class; and what was kept of the axes."""
    first = group.tensors[0]
    own_name = group.prefix and first.name != first.module
    words = [Words(f"{visible(group.prefix)}  ", "name")] if own_name else []
    words.append(Words(or_dash(f"{first.module} ({first.class_})" if first.module else first.class_), "supplier"))
    if not with_axes:
        kept = dict.fromkeys(_kept(tensor) for tensor in group.tensors if tensor.coordinates)
        words.append(Words(visible("".join(f"  {each}" for each in kept)), "supplier"))
    return Line(words)


def _kept(tensor: TensorRecord) -> str:
    """The positions kept of a recorded tensor's axes that were cut, in words."""
    return ", ".join(f"{axis} {ranges(positions)}" for axis, positions in (tensor.coordinates or {}).items())


def _cells(tensor: TensorRecord, bins: int, digits: int) -> dict[str, Cell]:
    """What each column of the table holds of a recorded tensor."""
    stats = tensor.stats
    counts = tensor.histogram.counts if tensor.histogram else []
    each = max(1, len(counts) // bins)
    kept = f" ({_kept(tensor)})" if tensor.coordinates else ""
    return {
        "shape": cell(f"[{', '.join(map(str, tensor.shape))}]"),
        "axes": cell(" ".join(tensor.axes or ()) + kept, "dim"),
        "dtype": cell(tensor.dtype, "dim"),
        "mean ± std": cell(f"{number(stats.mean, digits)} ± {number(stats.std, digits)}"),
        "min … max": cell(f"{number(stats.min, digits)} … {number(stats.max, digits)}"),
        "values": cell(sparkline([sum(counts[i : i + each]) for i in range(0, len(counts), each)]), "figure"),
    }


def _not_finite(tensor: TensorRecord) -> Line:
    stats = tensor.stats
    counts = ((stats.nan, "NaN"), (stats.posinf, "+inf"), (stats.neginf, "-inf"))
    return line("  " + ", ".join(f"{count:,} {what}" for count, what in counts if count), "bad")


def token_rows(
    tensor: TensorRecord, sentence: SentenceRecord, most: int | None = None, left_out: Set[str] = frozenset()
) -> Table:
    """The table of tokens' vectors, a line each, of the first `most`; bars begin where the norms of all do."""
    rows = tensor.rows or []
    norms = [row.l2 for row in rows if row.l2 is not None]
    low, high = min(norms, default=0.0), max(norms, default=0.0)
    # Some models put positions of their own before or after the text's, which are not tokens.
    is_token = len(rows) == len(sentence.tokens)
    titles = [name for name in _ROW if name not in left_out]
    shown = []
    for row in rows[:most]:
        token = cell(token_text(sentence.tokens[row.index])) if is_token else cell("–", "dim")
        cells = _row_cells(row, low, high)
        shown.append(Row([cell(str(row.index), value=row.index), token, *(cells[name] for name in titles)]))
    columns = [*numbers("index"), Column("token"), *numbers(*(name for name in titles if name != "bar"))]
    columns += [Column(f"norm {number(low)} … {number(high)}", whole=True)] if "bar" in titles else []
    return Table(columns, shown, f"{visible(tensor.name)}, token by token")


def norms(tensor: TensorRecord, sentence: SentenceRecord) -> Line:
    """The line about tokens' vectors: the shortest and the longest."""
    known = sorted((row.l2, row.index) for row in tensor.rows or () if row.l2 is not None)
    if not known:
        return line(f"{visible(tensor.name)}: no vector has a norm", "bad")
    is_token = len(tensor.rows or ()) == len(sentence.tokens)
    ends = [
        f"{number(norm)} ({index} {token_text(sentence.tokens[index])})" if is_token else f"{number(norm)} ({index})"
        for norm, index in (known[0], known[-1])
    ]
    return line(f"{visible(tensor.name)}: norms from {ends[0]} to {ends[1]}", "strong")


def more_rows(count: int) -> Line:
    """The line that says what the first screen leaves out of tokens' vectors."""
    return line(f"--table has all {count:,} tokens", "dim")


def _row_cells(row: RowRecord, low: float, high: float) -> dict[str, Cell]:
    above = None if row.l2 is None else row.l2 - low
    return {
        "norm": numeric(row.l2),
        "mean": numeric(row.mean),
        "std": numeric(row.std),
        "bar": bar(above, high - low),
    }


def checks(found: Sequence[CheckRecord]) -> Table:
    """The table of what was checked, a line each."""
    passed = {True: cell("yes", "good"), False: cell("no", "bad"), None: cell("–", "dim")}
    rows = [Row([cell(check.name), passed[check.passed], cell(visible(check.detail))]) for check in found]
    return Table([Column("check", whole=True), Column("holds", whole=True), Column("what was compared")], rows)
