"""A diagram in the language of Mermaid, which pages in Markdown draw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from txinspect.commands.diagram import DiagramReport, EdgeRecord, GroupRecord, NodeRecord
from txinspect.render.spelling import number, visible
from txinspect.wording import ranges, short_count

MOST_EDGES = 500
"""Mermaid draws no more (its maxEdges)."""

MOST_CHARACTERS = 50_000
"""Mermaid reads no more (its maxTextSize)."""


def source(report: DiagramReport) -> str:
    """A diagram as Mermaid reads it: alike layers once; beyond Mermaid's limits each group of them as one box."""
    whole = "\n".join(_lines(report, _ids(report)))
    if len(report.edges) <= MOST_EDGES and len(whole) <= MOST_CHARACTERS:
        return whole
    return "\n".join(_lines(report, _ids(report, folded=True)))


def _ids(report: DiagramReport, *, folded: bool = False) -> dict[str, str]:
    """Mermaid's names of a diagram's nodes; those of a group of layers have one where it is folded."""
    ids = {node.id: f"n{index}" for index, node in enumerate(report.nodes)}
    for group in _groups(report) if folded else ():
        ids |= dict.fromkeys(group.nodes, ids[group.input])
    return ids


def _groups(report: DiagramReport) -> Iterator[GroupRecord]:
    """The groups of layers of all of a diagram's stacks."""
    return (group for stack in report.stacks for group in stack.groups)


def _lines(report: DiagramReport, ids: Mapping[str, str]) -> Iterator[str]:
    """The lines of a diagram for Mermaid, with these names of its nodes."""
    nodes = {node.id: node for node in report.nodes}
    yield "flowchart TD"
    for place, stack in enumerate(report.stacks):
        yield f'  subgraph s{place}["{stack.name or "model"}"]'
        for name in stack.before:
            yield f"    {_box(nodes[name], ids)}"
        for index, group in enumerate(stack.groups):
            title = f"layers {ranges(sorted({*group.layers}))} ×{len(group.layers)}"
            if len({ids[name] for name in group.nodes}) == 1:
                yield f'    {ids[group.input]}["{title}<br/>{short_count(group.parameters)} each"]'
                continue
            yield f'    subgraph s{place}g{index}["{title}"]'
            for name in group.nodes:
                yield f"      {_box(nodes[name], ids)}"
            yield "    end"
        for name in stack.after:
            yield f"    {_box(nodes[name], ids)}"
        yield "  end"
    arrows = (_arrow(edge, ids) for edge in report.edges if ids[edge.from_] != ids[edge.to])
    yield from dict.fromkeys(arrows)


def _box(node: NodeRecord, ids: Mapping[str, str]) -> str:
    """A node for Mermaid."""
    own = ids[node.id]
    if node.kind == "sum":
        return f'{own}(("+"))'
    if node.kind == "stream":
        return f'{own}(["{_escaped(node.id.rpartition(".")[2])}"])'
    facts = [node.kind.replace("_", "-"), *(name.rpartition(".")[2] for name in [*node.modules, *node.weights][:1])]
    if node.heads:
        facts.append(f"{node.heads} heads, {node.kv_heads or node.heads} for k and v")
    if node.window:
        facts.append(f"window {node.window:,}")
    if node.experts:
        facts.append(f"{node.experts} experts, {node.experts_used or node.experts} used")
    if node.factor is not None:
        facts.append(f"× {number(node.factor)}")
    if node.tied_to:
        facts.append(f"tied to {node.tied_to}")
    facts += [short_count(node.parameters)] if node.parameters else []
    return f'{own}["{"<br/>".join(_escaped(fact) for fact in dict.fromkeys(facts))}"]'


def _arrow(edge: EdgeRecord, ids: Mapping[str, str]) -> str:
    """An arrow for Mermaid, with the shape of what it carries."""
    shape = "×".join(map(str, edge.shape))
    label = shape if edge.factor == 1 else f"{number(edge.factor)} times {shape}"
    return f"  {ids[edge.from_]} -->|{label}| {ids[edge.to]}" if label else f"  {ids[edge.from_]} --> {ids[edge.to]}"


def _escaped(text: str) -> str:
    """A text as a label of Mermaid's holds it."""
    return visible(text).replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
