"""The table of `tree`: modules indented under their parents, equal neighbours in a list folded into one."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.text import Text

from txinspect.commands.tree import ModuleRecord, ParameterRecord, TreeReport, TreeView
from txinspect.render.terminal.frame import Frame, frame
from txinspect.render.terminal.glyphs import plain, visible
from txinspect.wording import short_bytes, short_count


@dataclass
class _Node:
    """A module and those below it."""

    record: ModuleRecord
    children: list[_Node]

    @property
    def label(self) -> str:
        """The last part of its path."""
        return self.record.name.rpartition(".")[2]

    def shape(self) -> tuple[object, ...]:
        """What makes two modules alike: class, parameters, and their children's likeness."""
        own = tuple((p.name, tuple(p.shape), p.dtype, p.tied_to is None) for p in self.record.parameters)
        return (self.record.class_, own, tuple((child.label, child.shape()) for child in self.children))


WIDE = 110
"""Columns of a terminal from which shapes have a column of their own."""


def draw(report: TreeReport, console: Console, view: TreeView = TreeView()) -> RenderableType:
    """The tree down to a depth, and the totals."""
    wide = console.width >= WIDE
    table = frame()
    table.add_column("module")
    table.add_column("class" if wide else "class\nshape")
    if wide:
        table.add_column("shape")
        table.add_column("dtype")
    for name in ("params", "share", "bytes"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = _Rows(table, report.totals.numel, wide, view)
    rows.add(_nested(report.modules), plain(report.model.name, "bold"), "", 1)
    return Group(Text(), table, Text(), _totals(report))


def _nested(records: list[ModuleRecord]) -> _Node:
    """The records, depth first, as a tree."""
    nodes: dict[str, _Node] = {}
    for record in records:
        nodes[record.name] = _Node(record, [])
        if record.name:
            nodes[record.name.rpartition(".")[0]].children.append(nodes[record.name])
    return nodes[""]


@dataclass
class _Rows:
    """Adds rows to a table."""

    table: Frame
    total: int
    wide: bool
    view: TreeView

    def add(self, node: _Node, name: Text, indent: str, times: int) -> None:
        """A module that stands for `times` equal ones, then what is below it; numbers are those of all of them."""
        record = node.record
        kind = plain(record.class_)
        tied = [parameter.tied_to for parameter in record.parameters if parameter.tied_to]
        if tied:
            kind.append(f"\ntied to {visible(tied[0])}", style="dim")
        shapes = [] if self.view.params else [str(parameter.shape) for parameter in record.parameters]
        dtypes = [] if self.view.params else sorted({parameter.dtype for parameter in record.parameters})
        # A parameter tied to one that came before is counted there, so that rows add up.
        repeated = [p for p in record.parameters if p.tied_to]
        numel = record.numel - sum(p.numel for p in repeated)
        in_bytes = record.bytes - sum(p.bytes for p in repeated)
        self._row(Text(indent) + name, kind, shapes, dtypes, numel * times, in_bytes * times)
        inner = indent + ("  " if self.wide else " ")
        for parameter in record.parameters if self.view.params else ():
            self._add_parameter(parameter, inner, times)
        if self.view.depth is None or record.depth < self.view.depth:
            for run in self._folded(node.children):
                self.add(run[0], _name(run), inner, len(run) * times)

    def _add_parameter(self, parameter: ParameterRecord, indent: str, times: int) -> None:
        own = 0 if parameter.tied_to else times
        kind = Text(f"tied to {visible(parameter.tied_to)}" if parameter.tied_to else "", style="dim")
        name = Text(indent) + plain(parameter.name, "green")
        self._row(name, kind, [str(parameter.shape)], [parameter.dtype], parameter.numel * own, parameter.bytes * own)

    def _row(self, name: Text, kind: Text, shapes: list[str], dtypes: list[str], numel: int, in_bytes: int) -> None:
        """A row; nothing stands where there are no parameters."""
        cells = [name, kind, Text("\n".join(shapes)), Text("\n".join(dtypes), style="dim")]
        if not self.wide:
            below = " ".join((*shapes, *(dtypes if self.view.params else ())))
            lines = [line for line in (kind, Text(below, style="dim")) if line]
            cells = [name, Text("\n").join(lines)]
        numbers = (short_count(numel), f"{numel / self.total:.1%}", short_bytes(in_bytes)) if numel else ("", "", "")
        self.table.add_row(*cells, *numbers)

    def _folded(self, children: list[_Node]) -> list[list[_Node]]:
        """Children in runs of one, or of equal neighbours that have numbers for names."""
        runs: list[list[_Node]] = []
        for child in children:
            alike = not self.view.expand and runs and child.label.isdecimal() and child.shape() == runs[-1][0].shape()
            if alike:
                runs[-1].append(child)
            else:
                runs.append([child])
        return runs


def _name(run: list[_Node]) -> Text:
    """The name of a module, or of a run such as 0–23 ×24."""
    first, last = visible(run[0].label), visible(run[-1].label)
    if len(run) > 1:
        return Text(f"{first}–{last}", style="bold").append(f" ×{len(run)}", style="magenta")
    return Text(first, style="bold" if run[0].children else "")


def _totals(report: TreeReport) -> Text:
    totals = report.totals
    dtypes = sorted({parameter.dtype for module in report.modules for parameter in module.parameters})
    return Text(
        f"{totals.numel:,} parameters, tied ones once, in {', '.join(dtypes) or 'no type'}\n"
        f"{short_bytes(totals.bytes)} as stored · {short_bytes(totals.bytes_8bit)} with --8bit · "
        f"{short_bytes(totals.bytes_4bit)} with --4bit ({totals.linear_modules} linear layers)"
    )
