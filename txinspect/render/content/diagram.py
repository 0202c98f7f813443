"""What stands in the block diagram: lines of words, from the text at the top down to the logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from txinspect.commands.diagram import DiagramReport, EdgeRecord, GroupRecord, NodeRecord, StackRecord
from txinspect.render.content.spine import Branch, Graph, Step, alike
from txinspect.render.spelling import number, visible
from txinspect.render.tables import Line, Tone, Words, line
from txinspect.wording import counted, ranges, short_count, some_of

LABEL = 11
"""Columns of what a node is, before its name."""

TONES: dict[str, Tone] = {
    "attention": "name",
    "cross_attention": "name",
    "mixer": "name",
    "mlp": "found",
    "experts": "found",
    "norm": "token",
    "embedding": "marked",
    "positions": "marked",
    "head": "marked",
}
"""How the kinds of boxes are shown; others are plain."""

LABELS = {"cross_attention": "cross-attn", "operation": "computes", "scale": "scales", "sum": "adds"}
"""What the kinds of boxes are called, where it is another word."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def lines(report: DiagramReport, width: int) -> list[Line]:
    """The diagram in so many columns."""
    return list(Drawn(report, width).lines())


def notes(report: DiagramReport) -> list[Line]:
    """What is tied, and which layers do not run."""
    found = [
        line(
            f"tied: {visible(' = '.join(each.names[:3]))}{_more(each.names[3:])}, {short_count(each.parameters)}", "dim"
        )
        for each in report.tied[:3]
    ]
    if len(report.tied) > 3:
        found.append(line(f"and {counted(len(report.tied) - 3, 'parameter')} more tied; --json has each", "dim"))
    for stack in report.stacks:
        if stack.idle:
            found.append(line(f"{_titled(stack)}layers {ranges(stack.idle)} do not run for a text alone", "warning"))
    return found


def _more(names: Sequence[str]) -> str:
    """How many more names there are."""
    return f" and {len(names)} more" if names else ""


def _titled(stack: StackRecord) -> str:
    """The name of a stack before the word for its layers."""
    return f"{stack.name} " if stack.name else ""


class Drawn:
    """A diagram being drawn."""

    def __init__(self, report: DiagramReport, width: int) -> None:
        self.report, self.width = report, width
        self.graph = Graph(report)

    def lines(self) -> Iterator[Line]:
        """The lines of the diagram, from the top down."""
        for stack in self.report.stacks:
            if stack.name:
                yield line(stack.name.upper(), "strong")
            yield from self._stack(stack)

    def _stack(self, stack: StackRecord) -> Iterator[Line]:
        """The lines of a stack: its text, its embeddings, its layers, and what follows them."""
        if stack.positions:
            whole = visible(stack.positions.partition(", ")[0])
            fits = len(whole) + len("positions: ") <= self.width
            yield line(f"positions: {whole if fits else whole.partition(': ')[0]}", "dim")
        inside = {name for group in stack.groups for name in group.nodes}
        between = [name for name in stack.before if self.graph.sources(name) & inside]
        before = [name for name in stack.before if name not in between]
        start = [edge.from_ for group in stack.groups[:1] for edge in self.graph.into[group.input]]
        yield from self._ended([*start[:1], *before], before)
        for index, group in enumerate(stack.groups):
            like = next((other for other in stack.groups[:index] if alike(self.graph, other.nodes, group.nodes)), None)
            yield from self._group(stack, index, group) if like is None else self._difference(stack, index, group, like)
        if len(stack.groups) > 1:
            yield from self._strip(stack)
        yield from self._ended(between, between)
        ends = [name for name in reversed(stack.after) if not self._is_read(name, stack.after)]
        yield from self._ended(ends, stack.after)

    def _ended(self, ends: Sequence[str], within: Sequence[str]) -> Iterator[Line]:
        """The lines of the nodes of a part that lead to some of them, as far as they are not drawn yet."""
        for name in ends:
            node = self.graph.nodes[name]
            if name in within and name not in self.graph.placed and node.kind != "weight":
                yield from self._branch(self.graph.branch(name, within), "  ")

    def _is_read(self, name: str, others: Sequence[str]) -> bool:
        """Whether one of some nodes reads another one."""
        return any(edge.from_ == name for other in others for edge in self.graph.into[other])

    def _title(self, stack: StackRecord, index: int, group: GroupRecord) -> str:
        """The title of a group of layers."""
        letter = f"{LETTERS[index % len(LETTERS)]}: " if len(stack.groups) > 1 else ""
        numbers = sorted({*group.layers})
        word = "layer" if len(numbers) == 1 else "layers"
        times = f" ×{len(group.layers)}" if len(group.layers) > 1 else ""
        return f"{letter}{word} {_numbers(numbers)}{times}"

    def _top(self, title: str, group: GroupRecord, more: str = "") -> Line:
        """The upper edge of the box of a group of layers."""
        each = f"{group.class_name} · {short_count(group.parameters)}{' each' if len(group.layers) > 1 else ''}"
        room = self.width - len(title) - len(more) - 8
        each = each if len(each) <= room else each.rpartition(" · ")[2]
        rule = "─" * max(1, room - len(each) + 1)
        return Line([Words("┌─┼─ "), Words(title, "strong"), Words(f"{more} {rule} "), Words(visible(each), "dim")])

    def _bottom(self) -> Line:
        """The lower edge of the box of a group of layers."""
        return line("└─┼" + "─" * (self.width - 3))

    def _group(self, stack: StackRecord, index: int, group: GroupRecord) -> Iterator[Line]:
        """The box of a group of layers."""
        yield self._top(self._title(stack, index, group), group)
        yield from self._branch(self.graph.branch(group.output, group.nodes), "│ ")
        for name in reversed(group.nodes):  # what goes on beside the stream, such as Pegasus-X's global tokens
            node = self.graph.nodes[name]
            if name not in self.graph.placed and node.kind != "weight" and not self._is_read(name, group.nodes):
                yield from self._beside(self.graph.branch(name, group.nodes), "│ ", Step(node))
        yield self._bottom()

    def _difference(self, stack: StackRecord, index: int, group: GroupRecord, like: GroupRecord) -> Iterator[Line]:
        """The lines of a group of layers whose arrows run as those of another: the boxes that differ."""
        letter = LETTERS[stack.groups.index(like) % len(LETTERS)]
        nodes, pairs = self.graph.nodes, zip(group.nodes, like.nodes, strict=True)
        differing = [own for own, other in pairs if self._facts(nodes[own], group) != self._facts(nodes[other], like)]
        what = "but for" if differing else "but for what it reads"
        yield self._top(self._title(stack, index, group), group, f" · as {letter}, {what}")
        for own in differing:
            yield self._row("│ │   ", Step(nodes[own]), self._reads(own))
        yield self._bottom()

    def _facts(self, node: NodeRecord, group: GroupRecord) -> NodeRecord:
        """What a node of a layer is, without its layer's number."""
        first = group.modules[0]
        return replace_record(node, first)

    def _reads(self, name: str) -> list[EdgeRecord]:
        """What a node reads beside the stream."""
        return self.graph.into[name][1:]

    def _strip(self, stack: StackRecord) -> Iterator[Line]:
        """The kinds of all layers in their order, as a strip of letters."""
        strip = "".join(LETTERS[group % len(LETTERS)] for group in stack.order)
        room = max(20, self.width - 14)
        for begin in range(0, len(strip), room):
            yield Line(
                [Words("  │ in order " if not begin else "  │          "), Words(strip[begin : begin + room], "figure")]
            )

    def _branch(self, branch: Branch, before: str) -> Iterator[Line]:
        """The lines of nodes on the spine, with the branches beside it."""
        for step in branch.steps:
            if step.node.kind == "stream":
                continue
            for inner in step.branches:
                yield from self._beside(inner, before, step)
            sign = {"sum": "⊕ ", "text": "  ", "logits": "  ", "output": "  "}.get(step.node.kind, "▼ ")
            if branch.origin is None and step is branch.steps[0] and step.node.kind != "text":
                sign = "◇ "
            yield self._row(f"{before}{sign}", step, step.reads)

    def _beside(self, branch: Branch, before: str, into: Step) -> Iterator[Line]:
        """The lines of a branch beside the spine."""
        taken = into.main is not None and branch.origin == into.main.from_
        first = True
        for step in branch.steps:
            if step.node.kind == "stream":
                continue
            inside = f"{before}│   "
            for inner in step.branches:
                yield from self._beside(inner, inside, step)
            sign = (
                f"{before}├─▶ "
                if first and taken
                else f"{before}│ ◇ "
                if first and branch.origin is None
                else f"{before}│   "
            )
            source = None if taken or not first or branch.origin is None else branch.origin
            sign = f"{before}│ ⊕ " if step.node.kind == "sum" else sign
            yield self._row(sign, step, step.reads, source)
            first = False

    def _row(self, sign: str, step: Step, reads: Sequence[EdgeRecord], source: str | None = None) -> Line:
        """The line of a node: what it is, its module, what is in it, its parameters or the shape that leaves it."""
        node = step.node
        label = LABELS.get(node.kind, node.kind)
        details = _details(node)
        if node.kind == "sum":
            details = [" + ".join(dict.fromkeys(self._added(edge, node.id) for edge in step.added))]
        read = [edge.from_ for edge in reads if edge.from_ != source and self.graph.nodes[edge.from_].kind != "weight"]
        others = list(dict.fromkeys(_short(each, node.id) for each in read))
        weights = [self.graph.nodes[edge.from_].weights for edge in reads]
        if node.kind == "scale" and node.factor is None:
            details += [f"× {name.rpartition('.')[2]}" for names in weights for name in names[:1]]
        if source is not None:
            details.append(f"of {_short(source, node.id)}")
        if others:
            details.append(f"+ {some_of(others, 2)}")
        right = self._right(node)
        name = _name(node)
        room = max(8, self.width - len(sign) - max(LABEL, len(label) + 1) - len(right) - 1)
        middle = "  ".join(part for part in (name, ", ".join(details)) if part)
        if len(middle) > room and details:
            middle = ", ".join(details)
        middle = middle if len(middle) <= room else middle[: room - 1] + "…"
        tone = TONES.get(node.kind, "plain")
        parts = [
            Words(sign),
            Words(f"{label:<{LABEL - 1}} ", tone),
            Words(f"{visible(middle):<{room}} "),
            Words(right, "dim"),
        ]
        return Line(parts)

    def _added(self, edge: EdgeRecord, reader: str) -> str:
        """What a sum adds, as its line calls it."""
        factor, source = edge.factor, self.graph.nodes[edge.from_]
        while source.kind == "scale" and source.factor is not None:
            factor *= source.factor
            source = self.graph.nodes[self.graph.into[source.id][0].from_]
        named = (
            source.weights[0].rpartition(".")[2]
            if source.kind == "weight" and source.weights
            else _short(source.id, reader)
        )
        return named if factor == 1 else f"{number(factor)} × {named}"

    def _right(self, node: NodeRecord) -> str:
        """What stands at the end of a node's line: its parameters, or the shape of what leaves it."""
        if node.parameters:
            return short_count(node.parameters)
        if node.kind in ("sum", "scale", "operation", "text"):
            leaving = [edge for edge in self.report.edges if edge.from_ == node.id]
            return _shape(leaving[0]) if leaving else ""
        if node.kind in ("logits", "output"):
            return "".join(_shape(edge) for edge in self.graph.into[node.id][:1])
        return ""


def replace_record(node: NodeRecord, first: str) -> NodeRecord:
    """A node's record with nothing in it that tells its layer from others."""
    import msgspec

    own = [path.removeprefix(first) for path in node.modules]
    changes = {"id": "", "module": None, "modules": own, "run": 1, "weights": [], "tied_to": None}
    return msgspec.structs.replace(node, **changes)


def _numbers(layers: Sequence[int]) -> str:
    """The numbers of layers, in few words."""
    told = ranges(layers)
    if len(told) <= 24:
        return told
    steps = {later - earlier for earlier, later in pairwise(layers)}
    if len(steps) == 1:
        return f"{layers[0]}, {layers[1]}, … {layers[-1]}"
    return f"{told[:20].rpartition(',')[0]}, … {layers[-1]}"


def _shape(edge: EdgeRecord) -> str:
    """The shape of what an arrow carries."""
    return str(edge.shape)


def _short(name: str, reader: str = "") -> str:
    """A node's name as the line of one that reads it calls it."""
    parts = name.split(".")
    last = parts[-1] if not parts[-1].isdecimal() else parts[-2]
    if name.startswith("encoder.") and not reader.startswith("encoder."):
        return "encoder's output"
    if "layers" in parts and _layer(name) != _layer(reader):
        return ".".join(parts[parts.index("layers") :])
    return {"input": "the layer's input", "operation": "what is computed", "scale": "what is scaled"}.get(last, last)


def _layer(name: str) -> str:
    """The layer that a node is in, by its name."""
    parts = name.split(".")
    return ".".join(parts[: parts.index("layers") + 2]) if "layers" in parts else ""


def _name(node: NodeRecord) -> str:
    """The module of a node as its line calls it; several by the first and the last."""
    names = [path.rpartition(".")[2] if not path.rpartition(".")[2].isdecimal() else path for path in node.modules]
    if len(names) > 3:
        names = [names[0], "…", names[-1]]
    return " → ".join(names)


def _details(node: NodeRecord) -> list[str]:
    """What stands beside a node's name."""
    found = []
    if node.kind == "norm" and node.class_ and node.class_ != _name(node):
        found.append(node.class_)
    if node.heads:
        found.append(f"{node.heads} heads" + (f" of {node.head_dim}" if node.head_dim else ""))
        if node.kv_heads and node.kv_heads != node.heads:
            found.append(f"{node.kv_heads} for k, v")
    if node.window:
        found.append(f"window {node.window:,}")
    if node.experts:
        found.append(f"{node.experts} experts" + (f", {node.experts_used} used" if node.experts_used else ""))
    if node.kind == "scale" and node.factor is not None:
        found.append(f"× {number(node.factor)}")
    if node.operations and node.kind == "operation":
        found.append(some_of(list(dict.fromkeys(node.operations)), 4))
    if node.weights and node.kind == "weight":
        found.append(node.weights[0])
    if node.tied_to:
        found.append(f"tied to {node.tied_to}")
    return found
