"""Whether a diagram says what a pass does: its arrows held against the tensors that plain hooks see."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from txinspect.commands.diagram import DiagramReport, EdgeRecord, GroupRecord, NodeRecord, StackRecord

TEXTS = ("text →", "encoder.text →", "decoder.text →")


@dataclass
class Seen:
    """What every run of every module read and passed on."""

    read: dict[tuple[str, int], list[Tensor]] = field(default_factory=dict)
    passed: dict[tuple[str, int], list[Tensor]] = field(default_factory=dict)
    logits: Tensor | None = None
    ids: Tensor | None = None


def seen(model: PreTrainedModel, run: Callable[[], Any]) -> Seen:
    """What plain hooks see while `run` runs the model."""
    found, runs = Seen(), defaultdict[str, int](int)
    handles = []
    stack: list[tuple[str, int]] = []

    def tensors(values: Any) -> list[Tensor]:
        return [leaf.clone() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]

    def before(path: str) -> Callable[..., None]:
        def hook(_module: Any, args: Any, kwargs: Any) -> None:
            runs[path] += 1
            stack.append((path, runs[path]))
            found.read[stack[-1]] = tensors((args, kwargs))

        return hook

    def after(_module: Any, _args: Any, output: Any) -> None:
        found.passed[stack.pop()] = tensors(output)

    for path, module in model.named_modules():
        handles += [
            module.register_forward_pre_hook(before(path), with_kwargs=True),
            module.register_forward_hook(after),
        ]
    with torch.no_grad():
        output = run()
    for handle in handles:
        handle.remove()
    found.ids = next(each for each in found.read["", 1] if not each.is_floating_point())
    found.logits = next(leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
    return found


@dataclass
class Held:
    """What of a diagram was held against a pass, and what no module could say."""

    checked: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Check:
    """A diagram, and what a pass of its model was seen to do."""

    def __init__(self, report: DiagramReport, model: PreTrainedModel, seen: Seen) -> None:
        self.report, self.model, self.seen = report, model, seen
        self.nodes = {node.id: node for node in report.nodes}
        self.into: dict[str, list[EdgeRecord]] = defaultdict(list)
        for edge in report.edges:
            self.into[edge.to].append(edge)
        self.held = Held()
        self.rename: Callable[[str], str] = lambda path: path
        self.rerun: Callable[[str, int], int] = lambda _path, run: run
        self.given: dict[str, Tensor | None] = {}

    def all(self) -> Held:
        """Hold every node of the diagram against the pass: those of folded layers for each of the layers."""
        for stack in self.report.stacks:
            order = in_order(stack)
            for group in stack.groups:
                last = max(place for place, (other, _) in enumerate(order) if other is group)
                self.given[group.output] = self.leaving(*order[last])
        inside = {name for stack in self.report.stacks for group in stack.groups for name in group.nodes}
        for node in self.report.nodes:
            if node.id not in inside:
                self.node(node)
        for stack in self.report.stacks:
            order = in_order(stack)
            for place, (group, number) in enumerate(order):
                self.given.clear()
                before = self.leaving(*order[place - 1]) if place else None
                if number:
                    self.given[group.input] = before
                for other in stack.groups if place else ():
                    if other is not group:
                        self.given[other.output] = before
                self.layer(group, number)
        self.tied()
        return self.held

    def leaving(self, group: GroupRecord, number: int) -> Tensor | None:
        """What the module of a layer passes on."""
        return next(iter(self.seen.passed.get((group.ends[number], group.runs[number]), [])), None)

    def layer(self, group: GroupRecord, number: int) -> None:
        """Hold one layer of a group against the pass."""
        own, first = group.modules[number], group.modules[0]
        again = group.runs[number] - group.runs[0]
        self.rename = lambda path: renamed(path, group, number)
        self.rerun = lambda path, run: run + again if f"{path}.".startswith(f"{first}.") else run
        entering = self.value(group.input)
        read = self.seen.read.get((own, group.runs[number]), [])
        self.compare(f"{own}: what enters it", entering, read)
        if entering is None and read:
            self.given[group.input] = read[0]
        for name in group.nodes:
            self.node(self.nodes[name])
        passed = self.seen.passed.get((group.ends[number], group.runs[number]))
        if passed is not None:
            self.compare(f"{own}: what leaves it", self.value(group.output), passed)
        self.rename, self.rerun = (lambda path: path), (lambda _path, run: run)

    def node(self, node: NodeRecord) -> None:
        """Hold what is drawn into a node against what its modules read."""
        if node.kind in ("logits", "output"):
            assert self.seen.logits is not None
            self.compare("logits", self.value(node.id), [self.seen.logits])
            return
        if not node.modules:
            return
        read = [
            tensor
            for path in node.modules
            for tensor in self.seen.read.get((self.rename(path), self.rerun(path, node.run)), [])
        ]
        values = [self.edge(edge) for edge in self.into[node.id]]
        for edge, value in zip(self.into[node.id], values, strict=True):
            if node.operations and not any(value is not None and same(value, each) for each in read):
                self.held.unknown.append(f"{edge.from_} → {node.id}")
            else:
                self.compare(f"{edge.from_} → {node.id}", value, read)
        main = next(
            (t for t in self.seen.read.get((self.rename(node.modules[0]), self.rerun(node.modules[0], node.run)), [])),
            None,
        )
        if main is None or not main.is_floating_point() or node.kind == "positions":
            return
        known = [value for value in values if value is not None]
        if len(known) == len(values) and not node.operations:
            own = [each for each in self.model.parameters() if each.numel() == main.numel()]
            self.compare(f"{node.id}: what it reads is drawn", main, [*known, *own])

    def compare(self, what: str, value: Tensor | None, among: list[Tensor]) -> None:
        """Note whether a value is among some tensors."""
        if value is None:
            self.held.unknown.append(what)
        elif any(same(value, each) for each in among) or (
            what.startswith(TEXTS) and any(holds(each, value) for each in among)
        ):
            self.held.checked.append(what)
        else:
            self.held.wrong.append(what)

    def edge(self, edge: EdgeRecord) -> Tensor | None:
        """The tensor that an arrow is."""
        if edge.module is not None:
            passed = self.seen.passed.get((self.rename(edge.module), self.rerun(edge.module, edge.run)), [])
            return laid(passed[edge.item], edge.shape) if edge.item < len(passed) else None
        found = self.value(edge.from_)
        return None if found is None else laid(found, edge.shape)

    def value(self, name: str) -> Tensor | None:
        """The tensor that a node passes on, where no module does."""
        if name in self.given:
            return self.given[name]
        node, edges = self.nodes[name], self.into[name]
        values = [self.edge(edge) for edge in edges]
        if node.kind == "weight" and len(node.weights) == 1 and not node.operations and not edges:
            return tensor_of(self.model, self.rename(node.weights[0]))
        if node.kind == "text":
            return self.seen.ids
        if node.kind == "operation" and len(values) == 1 and values[0] is not None and not node.weights:
            return applied(node.operations, values[0])
        if node.kind == "operation" or node.modules or not values or any(v is None for v in values):
            return None
        known = [value for value in values if value is not None]
        if node.kind == "sum":
            return total([value * edge.factor for value, edge in zip(known, edges, strict=True)])
        if node.kind == "scale":
            return known[0] * node.factor if node.factor is not None else scaled(known)
        return known[0] if node.kind in ("stream", "logits", "output") else None

    def tied(self) -> None:
        """Hold what is drawn as tied against where the model's parameters lie."""
        pointers: dict[int, set[str]] = defaultdict(set)
        for name, tensor in self.model.named_parameters(remove_duplicate=False):
            pointers[tensor.data_ptr()].add(name)
        truth = sorted(sorted(each) for each in pointers.values() if len(each) > 1)
        drawn = sorted(sorted(each.names) for each in self.report.tied)
        (self.held.checked if truth == drawn else self.held.wrong).append("tied")


def renamed(path: str, group: GroupRecord, number: int) -> str:
    """A module's path in the first layer of a group, in another layer of it."""
    for first, own in ((group.modules[0], group.modules[number]), (group.ends[0], group.ends[number])):
        if f"{path}.".startswith(f"{first}."):
            return own + path[len(first) :]
    numbers = (f".{group.layers[0]}", f".{group.layers[number]}")
    is_in_lists = not group.ends[0].startswith(group.modules[0])
    return path.replace(*numbers) if is_in_lists else path


def applied(operations: list[str], value: Tensor) -> Tensor | None:
    """What one operation makes of a tensor, where it takes nothing else."""
    known: dict[str, Callable[[Tensor], Tensor]] = {"gelu": functional.gelu, "tanh": torch.tanh, "relu": torch.relu}
    return known[operations[0]](value) if len(operations) == 1 and operations[0] in known else None


def in_order(stack: StackRecord) -> list[tuple[GroupRecord, int]]:
    """The layers of a stack in the order of the pass: each by its group and its number in there."""
    counts, found = [0] * len(stack.groups), []
    for group in stack.order:
        found.append((stack.groups[group], counts[group]))
        counts[group] += 1
    return found


def tensor_of(model: PreTrainedModel, name: str) -> Tensor:
    """A parameter or buffer of a model."""
    owner, _, last = name.rpartition(".")
    found: Tensor = getattr(model.get_submodule(owner), last)
    return found.detach()


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same values, in whatever shape."""
    if one.numel() != other.numel() or one.dtype.is_complex != other.dtype.is_complex:
        return False
    flat, others = one.reshape(-1), other.reshape(-1)
    if one.dtype.is_complex:
        return bool(torch.equal(flat, others))
    if torch.allclose(flat.float(), others.float(), rtol=1e-4, atol=1e-4):
        return True
    if one.shape == other.shape:
        return False
    turned = flat.float().sort().values, others.float().sort().values  # the axes are in another order
    return torch.allclose(*turned, rtol=1e-4, atol=1e-4)


def laid(value: Tensor, shape: list[int]) -> Tensor:
    """A tensor with its axes in the order in which an arrow has them."""
    own = list(value.shape)
    if own == shape or sorted(own) != sorted(shape) or len(set(own)) < len(own):
        return value
    return value.permute([own.index(size) for size in shape])


def holds(padded: Tensor, ids: Tensor) -> bool:
    """Whether ids are among others, such as padding and a prompt."""
    return {*ids.flatten().tolist()} <= {*padded.flatten().tolist()}


def total(values: list[Tensor]) -> Tensor | None:
    """The sum of some tensors, of which the largest has the shape."""
    largest = max(values, key=lambda each: each.numel())
    found = torch.zeros_like(largest)
    for each in values:
        try:
            found = found + (each.reshape(largest.shape) if each.numel() == largest.numel() else each)
        except RuntimeError:
            return None
    return found


def scaled(values: list[Tensor]) -> Tensor | None:
    """The product of some tensors."""
    found = values[0]
    for each in values[1:]:
        found = found * each
    return found
