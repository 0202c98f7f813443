"""The drawing of `plan`: what loading would cost."""

from __future__ import annotations

from pathlib import PurePath

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.plan import PlanReport
from txinspect.records import FileRecord, LoadingRecord
from txinspect.render.terminal.frame import Frame, frame
from txinspect.render.terminal.glyphs import plain
from txinspect.render.terminal.heading import input_lines, model_line
from txinspect.render.terminal.loading import known_bytes
from txinspect.wording import short_bytes, short_count, some_of


def draw(report: PlanReport, console: Console) -> RenderableType:
    """The files that would be opened, and the sums; the same of the other side of a diff."""
    parts = [*input_lines(report.input), Text(), _side(report)]
    if report.against is not None:
        parts += [Text(), Text("against ", style="bold").append_text(model_line(report.against.model)), Text()]
        parts += [_side(report.against)]
    return Group(*parts)


def _side(report: PlanReport) -> RenderableType:
    files = frame()
    for name in ("file", "from"):
        files.add_column(name)
    for name in ("size", "tensors", "to read"):
        files.add_column(name, justify="right", no_wrap=True)
    for file in report.loading.files:
        texts = (PurePath(file.path).name, _from(file))
        files.add_row(*map(plain, texts), known_bytes(file.bytes), _tensors(file), known_bytes(file.bytes_read))
    return Group(files, Text(), _sums(report))


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


def _sums(report: PlanReport) -> Frame:
    loading = report.loading
    sums = Frame(rule=False)
    sums.add_column("", no_wrap=True)
    sums.add_column("")
    rows = [
        ("stages", some_of(report.asked)),
        ("disk", f"{known_bytes(loading.disk_bytes)} to read"),
        ("download", short_bytes(loading.download_bytes) if loading.download_bytes else "nothing: everything is here"),
        ("memory", f"{short_bytes(loading.memory_bytes)} of weights {_kept(loading)}"),
        ("parameters", f"{short_count(loading.parameters)} of {short_count(report.model.num_parameters or 0)}"),
    ]
    for name, value in rows:
        sums.add_row(Text(name, style="bold cyan"), plain(value))
    return sums


def _kept(loading: LoadingRecord) -> str:
    return "mapped from disk" if loading.mapped else "in memory"


def _tensors(file: FileRecord) -> str:
    return "?" if file.tensors is None else f"{file.tensors_read:,} of {file.tensors:,}"
