"""What loading costs: a line under every report of a pass, and the tables of a plan."""

from __future__ import annotations

from pathlib import PurePath

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from txinspect.records import FileRecord, LoadingRecord, PlanReport
from txinspect.render.frame import frame
from txinspect.render.glyphs import plain
from txinspect.render.heading import input_line
from txinspect.wording import short_bytes, short_count, some_of


def line(loading: LoadingRecord) -> Text:
    """What was read, in a line."""
    size = sum(file.bytes or 0 for file in loading.files)
    files = PurePath(loading.files[0].path).name if len(loading.files) == 1 else f"{len(loading.files)} files"
    kept = ", mapped" if loading.mapped else f" · {short_bytes(loading.memory_bytes)} of weights in memory"
    return plain(f"read {_bytes(loading.disk_bytes)} of {short_bytes(size)} in {files}{kept}", "dim")


def draw(report: PlanReport) -> RenderableType:
    """The files that would be opened, and the sums."""
    files = frame()
    for name in ("file", "from"):
        files.add_column(name, overflow="fold")
    for name in ("size", "tensors", "to read"):
        files.add_column(name, justify="right", no_wrap=True)
    for file in report.loading.files:
        texts = (PurePath(file.path).name, _from(file))
        files.add_row(*map(plain, texts), _bytes(file.bytes), _tensors(file), _bytes(file.bytes_read))
    return Group(input_line(report.input), Text(), files, Text(), _sums(report))


def _from(file: FileRecord) -> str:
    """Where a file is."""
    match file.origin:
        case "bundled":
            return "comes with txinspect"
        case "local":
            return str(PurePath(file.path).parent)
        case "cache":
            return f"local cache of {file.repository}"
        case "hub":
            return f"Hub: {file.repository}"


def _sums(report: PlanReport) -> Table:
    loading = report.loading
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold cyan", no_wrap=True)
    grid.add_column()
    rows = [
        ("stages", some_of(report.asked)),
        ("disk", f"{_bytes(loading.disk_bytes)} to read"),
        ("download", short_bytes(loading.download_bytes) if loading.download_bytes else "nothing: all is here"),
        ("memory", f"{short_bytes(loading.memory_bytes)} of weights {_kept(loading)}"),
        ("parameters", f"{short_count(loading.parameters)} of {short_count(report.model.num_parameters or 0)}"),
    ]
    for name, value in rows:
        grid.add_row(name, plain(value))
    return grid


def _kept(loading: LoadingRecord) -> str:
    return "mapped from disk" if loading.mapped else "in memory"


def _bytes(count: int | None) -> str:
    return "?" if count is None else short_bytes(count)


def _tensors(file: FileRecord) -> str:
    return "?" if file.tensors is None else f"{file.tensors_read:,} of {file.tensors:,}"
