"""A traced pass, contracted to what is drawn: modules that are boxes, additions to the stream, scalings, what is left.

A module is opened where it adds to something that it was given itself, or where a part of the anatomy lies in it; what
is opened is drawn by what is in it. Nothing else is known of a family here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from txinspect.anatomy.architecture import Architecture
from txinspect.anatomy.traced import PRODUCTS, SAME_VALUES, SUMS, Operation, Traced

PieceKind = Literal["module", "sum", "scale", "operation", "weight", "end"]


@dataclass(frozen=True)
class Wire:
    """A tensor on its way from a piece to another."""

    source: int
    """The piece that it comes from."""
    shape: tuple[int, ...]
    call: int | None = None
    """The call of a module that passes it on; None where no module does."""
    item: int = 0
    """Which of the tensors that the module passes on it is."""
    factor: float = 1.0
    """What a sum multiplies it with."""


@dataclass
class Piece:
    """A piece of the drawing: a module's call, or an operation that is in none."""

    key: int
    """Where it begins in the pass."""
    kind: PieceKind
    calls: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """The operations that are in no module."""
    weights: list[str] = field(default_factory=list)
    """The parameters and buffers that these read themselves."""
    factor: float | None = None
    wires: list[Wire] = field(default_factory=list)
    within: int = -1
    """The innermost call around it that is opened."""
    is_residual: bool = False
    """Whether it is a sum of something and of what was made of it."""


class Contraction:
    """A pass being contracted."""

    def __init__(self, traced: Traced, architecture: Architecture) -> None:
        self.traced = traced
        self.operations = traced.operations
        self._ancestors = _ancestors(traced.operations)
        self._weighted = _weighted(traced.operations)
        self._streams = _stream_sizes(traced, architecture)
        self.residual = {index: base for index in range(len(self.operations)) if (base := self._skipped(index)) >= 0}
        self.opened = self._opened(architecture)
        self.pieces: dict[int, Piece] = {}
        self._owner: dict[int, int] = {}
        self._outermost: dict[int, int] = {}
        self._items: dict[int, dict[int, int]] = {}
        self._weights: dict[str, int] = {}

    def contracted(self) -> dict[int, Piece]:
        """The pieces of the pass, by their keys, in the order of the pass."""
        for index, operation in enumerate(self.operations):
            closed = self._closed(operation.call)
            if closed >= 0:
                call = self.traced.calls[closed]
                if call.begin not in self.pieces:
                    self.pieces[call.begin] = Piece(call.begin, "module", [closed], within=call.parent)
                piece = self.pieces[call.begin]
                self._join(piece, operation)
            elif not self._is_same(operation):
                piece = self._of_operation(index, operation)
                self.pieces[index] = piece
                self._join(piece, operation)
            else:
                continue
            self._owner[index] = piece.key
        return self.pieces

    def _closed(self, call: int) -> int:
        """The outermost call around an operation's that is not opened; -1 where all are."""
        if call < 0 or call in self._outermost:
            return self._outermost.get(call, -1)
        found = self._closed(self.traced.calls[call].parent)
        if found < 0 and call not in self.opened:
            found = call
        self._outermost[call] = found
        return found

    def source(self, index: int) -> int:
        """The operation whose values another one's result has, in another shape or type."""
        while self._is_same(self.operations[index]):
            index = self.operations[index].inputs[0]
        return index

    def wire(self, index: int, factor: float = 1.0) -> Wire:
        """The wire that an operation's result comes by."""
        base = self._outside(index)
        key = self._owner[base]
        piece = self.pieces[key]
        if piece.kind != "module":
            return Wire(key, self.operations[index].shape, factor=factor)
        made = self._passed(piece.calls[0])
        item = made.get(self.source(index))
        shape = self.operations[index].shape
        return Wire(key, shape, None if item is None else piece.calls[0], item or 0, factor)

    def _passed(self, call: int) -> dict[int, int]:
        """Which of the tensors that a call passes on each of the operations made whose values these have."""
        if call not in self._items:
            made = self.traced.calls[call].outputs
            items = [(self.source(index), item) for item, index in enumerate(made) if index is not None]
            self._items[call] = dict(reversed(items))  # of several the first
        return self._items[call]

    def _outside(self, index: int) -> int:
        """The operation that belongs to a piece and whose values an operation's result has."""
        while index not in self._owner:
            index = self.operations[index].inputs[0]
        return index

    def _join(self, piece: Piece, operation: Operation) -> None:
        """Have a piece read what one of its operations reads from elsewhere."""
        second = operation.alpha if operation.name.rstrip("_") in ("add", "sub") else 1.0
        for place, index in enumerate(operation.inputs):
            wire = self.wire(index, second if place else 1.0)
            if wire.source != piece.key and (piece.kind == "sum" or wire not in piece.wires):
                piece.wires.append(wire)
        for name in operation.weights if piece.kind != "module" else ():
            piece.wires.append(Wire(self._weight(name), ()))

    def _weight(self, name: str) -> int:
        """The key of the piece that a parameter is, where it is read outside of all boxes."""
        if name not in self._weights:
            key = self._weights[name] = -1 - len(self._weights)
            self.pieces[key] = Piece(key, "weight", weights=[name])
        return self._weights[name]

    def _of_operation(self, index: int, operation: Operation) -> Piece:
        """The piece that an operation outside of all boxes is."""
        read = len(operation.inputs) + len(operation.weights)
        kind: PieceKind = "operation"
        if operation.name in SUMS | {"sub"} and read == 2:
            kind = "sum"
        elif operation.name in PRODUCTS and (operation.factor is not None or self._is_scaled(operation)):
            kind = "scale"
        if kind != "sum" and not operation.of_text and (kind == "operation" or self._is_of_weights(operation)):
            kind = "weight"
        named, is_residual = [operation.name.rstrip("_")], index in self.residual
        return Piece(index, kind, names=named, factor=operation.factor, within=operation.call, is_residual=is_residual)

    def _is_of_weights(self, operation: Operation) -> bool:
        """Whether an operation reads nothing but weights, and what is made of them outside of all boxes."""
        return all(self.pieces[self._owner[self._outside(each)]].kind == "weight" for each in operation.inputs)

    def _is_scaled(self, operation: Operation) -> bool:
        """Whether a product is one of something with a weight."""
        of_text = [each for each in operation.inputs if self.operations[each].of_text]
        return len(of_text) == 1 and len(operation.inputs) + len(operation.weights) == 2

    def _is_same(self, operation: Operation) -> bool:
        """Whether an operation's result has the values of what it reads."""
        if len(operation.inputs) != 1 or operation.weights:
            return False
        same = operation.name in SAME_VALUES or operation.factor == 1.0
        return same and operation.parts == 1 and operation.numel == self.operations[operation.inputs[0]].numel

    def _skipped(self, index: int) -> int:
        """What an operation adds to what was made of it: the operation that made it; -1 where it does no such thing."""
        operation = self.operations[index]
        if operation.name not in SUMS or len(operation.inputs) != 2 or operation.numel not in self._streams:
            return -1
        if any(self.operations[each].numel != operation.numel for each in operation.inputs):
            return -1
        for skip, branch in (operation.inputs, operation.inputs[::-1]):
            base = self._unscaled(skip)
            if self._leads(base, branch):
                return base
        return -1

    def _unscaled(self, index: int) -> int:
        """The operation whose values another one's result has, but for a factor."""
        while True:
            operation = self.operations[index]
            of_text = [each for each in operation.inputs if self.operations[each].of_text]
            by = [self.operations[each].numel for each in operation.inputs if each not in of_text]
            one = max(operation.spread, *by, 0) <= 1
            scaled = operation.name in PRODUCTS and len(of_text) == 1 and one
            if not scaled and not self._is_same(operation):
                return index
            index = (of_text or operation.inputs)[0]

    def _leads(self, base: int, branch: int) -> bool:
        """Whether something leads through weights to an operation."""
        between = (self._ancestors[branch] | 1 << branch) & ~self._ancestors[base] & self._weighted
        if not self._ancestors[branch] >> base & 1:
            return False
        return any(self._ancestors[each] >> base & 1 for each in _bits(between))

    def _opened(self, architecture: Architecture) -> set[int]:
        """The calls that are drawn by what is in them."""
        holding = {"", *(above for path in _located(architecture) for above in _above(path))}
        calls = self.traced.calls
        opened = {number for number, call in enumerate(calls) if call.path in holding}
        for index, base in self.residual.items():
            for call in self.traced.around(self.operations[index].call):
                if base < calls[call].begin:
                    opened.add(call)
        for call in list(opened):
            opened.update(self.traced.around(call))
        return opened


def contract(traced: Traced, architecture: Architecture, ends: Sequence[int]) -> dict[int, Piece]:
    """The pieces of a traced pass, by their keys, and a last one for each call that `ends` names, which reads what it
    passes on."""
    contraction = Contraction(traced, architecture)
    pieces = contraction.contracted()
    for number, call in enumerate(ends):
        made = next((index for index in traced.calls[call].outputs if index is not None), None)
        key = len(traced.operations) + number
        wires = [] if made is None else [contraction.wire(made)]
        pieces[key] = Piece(key, "end", [call], wires=wires)
    return {key: pieces[key] for key in sorted(pieces)}


def flatten_sums(pieces: dict[int, Piece]) -> None:
    """Make one sum of two where the first goes nowhere but into the second."""
    readers: dict[int, list[int]] = {}
    for piece in pieces.values():
        for wire in piece.wires:
            readers.setdefault(wire.source, []).append(piece.key)
    for key in sorted(pieces):
        piece = pieces[key]
        if piece.kind != "sum":
            continue
        wires: list[Wire] = []
        for wire in piece.wires:
            inner = pieces[wire.source]
            if inner.kind == "sum" and readers[inner.key] == [key]:
                wires += [replace(each, factor=each.factor * wire.factor) for each in inner.wires]
                piece.is_residual |= inner.is_residual
                del pieces[inner.key]
            else:
                wires.append(wire)
        piece.wires = wires


def _located(architecture: Architecture) -> Iterator[str]:
    """The modules of an architecture that play a part, and are drawn whole but where they add to what they read."""
    for layer in architecture.all_layers:
        parts = (*layer.attentions, *layer.cross_attentions, *layer.mixers, *layer.mlp_inputs)
        outer = [path for path in parts if not any(path.startswith(f"{other}.") for other in parts)]
        yield from (layer.first, layer.last, *outer)
    for stack in architecture.stacks:
        named = (stack.token_embeddings, stack.position_embeddings, stack.token_type_embeddings, stack.final_norm)
        more = (stack.input_projection, stack.output_projection)
        yield from (path for path in (*named, *more) if path)
    yield from (path for path in (architecture.pooler, architecture.head_transform) if path)


def _above(path: str) -> Iterator[str]:
    """The modules that hold the module of a path."""
    while path := path.rpartition(".")[0]:
        yield path


def _stream_sizes(traced: Traced, architecture: Architecture) -> set[int]:
    """How many numbers the residual stream has where layers pass it on."""
    lasts = {layer.last for layer in architecture.all_layers}
    made = [index for call in traced.calls if call.path in lasts for index in call.outputs[:1] if index is not None]
    return {traced.operations[index].numel for index in made}


def _ancestors(operations: Sequence[Operation]) -> list[int]:
    """For each operation those that it depends on, as the bits of a number."""
    found: list[int] = []
    for operation in operations:
        bits = 0
        for each in operation.inputs:
            bits |= found[each] | 1 << each
        found.append(bits)
    return found


def _weighted(operations: Sequence[Operation]) -> int:
    """The operations that bring weights to what is made of the text, as the bits of a number."""
    bits = 0
    for index, operation in enumerate(operations):
        reads_weights = operation.weights or any(not operations[each].of_text for each in operation.inputs)
        if operation.of_text and operation.inputs and reads_weights:
            bits |= 1 << index
    return bits


def _bits(number: int) -> Iterator[int]:
    """The places of a number's bits, the highest first: what is nearest comes first."""
    while number:
        highest = number.bit_length() - 1
        yield highest
        number ^= 1 << highest
