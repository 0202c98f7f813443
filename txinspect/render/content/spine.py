"""The residual stream of a diagram as a spine, with what is added to it in branches beside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from txinspect.commands.diagram import DiagramReport, EdgeRecord, NodeRecord


@dataclass
class Branch:
    """Nodes that follow each other, from one that is drawn elsewhere."""

    origin: str | None
    steps: list[Step]


@dataclass
class Step:
    """A node on the spine or in a branch."""

    node: NodeRecord
    main: EdgeRecord | None = None
    """By which the stream comes to it."""
    branches: list[Branch] = field(default_factory=list)
    """What leads to what a sum adds, or a box reads besides, each drawn before it."""
    added: list[EdgeRecord] = field(default_factory=list)
    """What a sum adds."""
    reads: list[EdgeRecord] = field(default_factory=list)
    """What else it reads."""


class Graph:
    """The nodes of a diagram, and the arrows into each."""

    def __init__(self, report: DiagramReport) -> None:
        self.nodes = {node.id: node for node in report.nodes}
        self.into: dict[str, list[EdgeRecord]] = defaultdict(list)
        for edge in report.edges:
            if all(each.from_ != edge.from_ for each in self.into[edge.to]) or self.nodes[edge.to].kind == "sum":
                self.into[edge.to].append(edge)
        self.placed: set[str] = set()
        """The nodes that are drawn already."""

    def branch(self, end: str, within: Collection[str]) -> Branch:
        """The nodes that lead to one, of those within a part of the diagram that are not drawn yet: they are now."""
        steps: list[Step] = []
        current: str | None = end
        while current is not None and current in within and current not in self.placed:
            self.placed.add(current)
            main = self._main(current)
            steps.append(Step(self.nodes[current], main))
            current = None if main is None else main.from_
        steps.reverse()
        for step in steps:
            others = [edge for edge in self.into[step.node.id] if edge is not step.main]
            if step.node.kind == "sum":
                step.added = others
            else:
                step.reads = others
            for edge in others:
                is_weight = self.nodes[edge.from_].kind == "weight" and step.node.kind != "sum"
                if edge.from_ in within and edge.from_ not in self.placed and not is_weight:
                    step.branches.append(self.branch(edge.from_, within))
        return Branch(current, steps)

    def _main(self, name: str) -> EdgeRecord | None:
        """The arrow by which the stream comes to a node: into a sum, from what all else that it adds is made of."""
        edges = self.into[name]
        if self.nodes[name].kind == "sum":
            for edge in edges:
                others = [other.from_ for other in edges if other is not edge]
                if others and all(edge.from_ in self.sources(other) for other in others):
                    return edge
        of_text = [edge for edge in edges if self.nodes[edge.from_].kind not in ("positions", "weight")]
        return next(iter(of_text or edges), None)

    def sources(self, name: str) -> set[str]:
        """The nodes that lead to one."""
        found, todo = set[str](), [name]
        while todo:
            each = todo.pop()
            if each not in found:
                found.add(each)
                todo += [edge.from_ for edge in self.into[each]]
        return found


def alike(graph: Graph, nodes: Sequence[str], others: Sequence[str]) -> bool:
    """Whether the arrows of two groups' layers run alike, whatever their boxes are."""
    return len(nodes) == len(others) and _shape(graph, nodes) == _shape(graph, others)


def _shape(graph: Graph, nodes: Sequence[str]) -> list[object]:
    """How the arrows of a group's layer run, with places for names."""
    places = {name: place for place, name in enumerate(nodes)}
    return [
        (
            graph.nodes[name].kind == "sum",
            [(places.get(edge.from_, -1), edge.factor) for edge in graph.into[name] if edge.from_ in places],
        )
        for name in nodes[1:]
    ]
