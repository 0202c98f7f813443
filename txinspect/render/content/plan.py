"""What stands in the tables of `plan`: what loading would cost."""

from __future__ import annotations

from pathlib import PurePath

from txinspect.commands.plan import PlanReport
from txinspect.records import FileRecord, LoadingRecord
from txinspect.render.spelling import known_bytes, visible
from txinspect.render.tables import Column, Row, Table, cell, numbers
from txinspect.wording import short_bytes, short_count, some_of


def files(report: PlanReport) -> Table:
    """The table of the weight files that loading would open."""
    columns = [Column("file"), Column("from"), *numbers("size", "tensors", "to read")]
    return Table(columns, [_file(file) for file in report.loading.files])


def _file(file: FileRecord) -> Row:
    cells = [
        cell(visible(PurePath(file.path).name)),
        cell(visible(_from(file))),
        cell(known_bytes(file.bytes), value=file.bytes),
        cell("?" if file.tensors is None else f"{file.tensors_read:,} of {file.tensors:,}", value=file.tensors_read),
        cell(known_bytes(file.bytes_read), value=file.bytes_read),
    ]
    return Row(cells)


def _from(file: FileRecord) -> str:
    """Where a file of the plan is: it comes along, or is in a folder, the Hub's cache or on the Hub."""
    match file.origin:
        case "bundled":
            return "comes with txinspect"
        case "local":
            return str(PurePath(file.path).parent)
        case "cache":
            return f"local cache of {file.repository}"
        case "hub":
            return f"Hub: {file.repository}"


def sums(report: PlanReport) -> Table:
    """The table of `plan` of what loading would read, fetch and keep in all."""
    loading = report.loading
    rows = [
        ("stages", some_of(report.asked)),
        ("disk", f"{known_bytes(loading.disk_bytes)} to read"),
        ("download", short_bytes(loading.download_bytes) if loading.download_bytes else "nothing: everything is here"),
        ("memory", f"{short_bytes(loading.memory_bytes)} of weights {_kept(loading)}"),
        ("parameters", f"{short_count(loading.parameters)} of {short_count(report.model.num_parameters or 0)}"),
    ]
    shown = [Row([cell(name, "name"), cell(visible(value))]) for name, value in rows]
    return Table([Column("", whole=True), Column("")], shown, rule=False)


def _kept(loading: LoadingRecord) -> str:
    return "mapped from disk" if loading.mapped else "in memory"
