"""What stands in the table of `tree`: modules indented under their parents, equal neighbours in a list in one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from txinspect.commands.tree import ModuleRecord, ParameterRecord, TreeReport, TreeView
from txinspect.render.spelling import or_dash, visible
from txinspect.render.tables import Cell, Column, Line, Row, Table, Words, cell, line, numbers
from txinspect.wording import short_bytes, short_count


@dataclass
class _Node:
    """A module and those below it."""

    record: ModuleRecord
    children: list[_Node]

    @property
    def label(self) -> str:
        """The last part of a module's path in the tree."""
        return self.record.name.rpartition(".")[2]

    def shape(self) -> tuple[object, ...]:
        """What makes two modules of the tree alike: class, parameters, and their children's likeness."""
        own = tuple((p.name, tuple(p.shape), p.dtype, p.tied_to is None) for p in self.record.parameters)
        return (self.record.class_, own, tuple((child.label, child.shape()) for child in self.children))


SUMS = ("params", "share", "bytes")
"""Columns of what a module and those below it come to."""


def table(report: TreeReport, view: TreeView, *, wide: bool, sums: Sequence[str] = SUMS) -> Table:
    """The table of the module tree down to a depth; shapes stand beside the class where that is not wide."""
    columns = [Column("class"), Column("shape"), Column("dtype")] if wide else [Column("class, shape")]
    rows = _Rows(report.totals.numel, wide, sums, view)
    below = rows.of(_nested(report.modules), [Words(visible(report.model.name), "strong")], _ROOT, 1)
    return Table([Column("module", whole=True), *columns, *numbers(*sums)], list(below))


def _nested(records: list[ModuleRecord]) -> _Node:
    """The modules' records, depth first, as a tree."""
    nodes: dict[str, _Node] = {}
    for record in records:
        nodes[record.name] = _Node(record, [])
        if record.name:
            nodes[record.name.rpartition(".")[0]].children.append(nodes[record.name])
    return nodes[""]


class _Guides(NamedTuple):
    """The lines that lead from a module to its parent: before its own name, and before the names of those below it."""

    own: str
    inner: str

    def of_child(self, *, is_last: bool) -> _Guides:
        """The lines of one below."""
        return _Guides(self.inner + ("└ " if is_last else "├ "), self.inner + ("  " if is_last else "│ "))


_ROOT = _Guides("", "")


@dataclass(frozen=True)
class _Rows:
    """Makes rows of modules."""

    total: int
    wide: bool
    sums: Sequence[str]
    view: TreeView

    def of(self, node: _Node, name: Sequence[Words], guides: _Guides, times: int) -> Iterator[Row]:
        """The rows of a module that stands for `times` equal ones, whose numbers are of all, then of what is below."""
        record = node.record
        kind = [Words(or_dash(record.class_))]
        tied = [parameter.tied_to for parameter in record.parameters if parameter.tied_to]
        if tied:
            kind.append(Words(f" tied to {visible(tied[0])}", "dim"))
        shapes = [] if self.view.params else [str(parameter.shape) for parameter in record.parameters]
        dtypes = [] if self.view.params else sorted({parameter.dtype for parameter in record.parameters})
        # A parameter tied to one that came before is counted there, so that rows add up.
        repeated = [p for p in record.parameters if p.tied_to]
        numel = record.numel - sum(p.numel for p in repeated)
        in_bytes = record.bytes - sum(p.bytes for p in repeated)
        yield self._row([Words(guides.own, "dim"), *name], kind, shapes, dtypes, numel * times, in_bytes * times)
        parameters = record.parameters if self.view.params else []
        runs = self._folded(node.children) if self.view.depth is None or record.depth < self.view.depth else []
        for index, parameter in enumerate(parameters, 1):
            yield self._parameter(parameter, guides.of_child(is_last=index == len(parameters) + len(runs)), times)
        for index, run in enumerate(runs, 1):
            yield from self.of(run[0], _name(run), guides.of_child(is_last=index == len(runs)), len(run) * times)

    def _parameter(self, parameter: ParameterRecord, guides: _Guides, times: int) -> Row:
        own = 0 if parameter.tied_to else times
        kind = [Words(f"tied to {visible(parameter.tied_to)}", "dim")] if parameter.tied_to else []
        name = [Words(guides.own, "dim"), Words(visible(parameter.name), "token")]
        shapes, dtypes = [str(parameter.shape)], [parameter.dtype]
        return self._row(name, kind, shapes, dtypes, parameter.numel * own, parameter.bytes * own)

    def _row(
        self,
        name: Sequence[Words],
        kind: list[Words],
        shapes: Sequence[str],
        dtypes: Sequence[str],
        numel: int,
        in_bytes: int,
    ) -> Row:
        """A module's row in the tree; nothing stands where there are no parameters."""
        if self.wide:
            facts = [Cell(kind), cell(" ".join(shapes)), cell(" ".join(dtypes), "dim")]
        else:
            below = " ".join((*shapes, *(dtypes if self.view.params else ())))
            apart = [Words(" ")] if kind and below else []
            facts = [Cell([*kind, *apart, *([Words(below, "dim")] if below else [])])]
        if not numel:
            return Row([Cell(name), *facts, *([Cell()] * len(self.sums))])
        sums = {
            "params": cell(short_count(numel), value=numel),
            "share": cell(f"{numel / self.total:.1%}", value=numel / self.total),
            "bytes": cell(short_bytes(in_bytes), value=in_bytes),
        }
        return Row([Cell(name), *facts, *(sums[each] for each in self.sums)])

    def _folded(self, children: list[_Node]) -> list[list[_Node]]:
        """A module's children in runs of one, or of equal neighbours that have numbers for names."""
        runs: list[list[_Node]] = []
        for child in children:
            alike = not self.view.expand and runs and child.label.isdecimal() and child.shape() == runs[-1][0].shape()
            if alike:
                runs[-1].append(child)
            else:
                runs.append([child])
        return runs


def _name(run: list[_Node]) -> list[Words]:
    """The name of a module in the tree, or of a run such as 0–23 ×24."""
    first, last = visible(run[0].label), visible(run[-1].label)
    if len(run) > 1:
        return [Words(f"{first}–{last}", "strong"), Words(f" ×{len(run)}", "times")]
    return [Words(first, "strong" if run[0].children else "plain")]


def totals(report: TreeReport) -> list[Line]:
    """The lines of `tree` about what there is in all, and what it would take with fewer bits."""
    found = report.totals
    dtypes = sorted({parameter.dtype for module in report.modules for parameter in module.parameters})
    return [
        line(f"{found.numel:,} parameters, tied ones once, in {', '.join(dtypes) or 'no type'}"),
        line(
            f"{short_bytes(found.bytes)} as stored · {short_bytes(found.bytes_8bit)} with --8bit · "
            f"{short_bytes(found.bytes_4bit)} with --4bit ({found.linear_modules} linear layers)"
        ),
    ]
