"""What a model is made of and what flows where: the pieces of a traced pass by layers, with equal layers folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from txinspect.anatomy.architecture import Architecture, Layer
from txinspect.anatomy.contracting import Piece, contract, flatten_sums
from txinspect.anatomy.merging import Part, drop_weights, merge_operations, merge_parts, parts_of
from txinspect.anatomy.traced import Call, Traced

ENCODER_END = "encoder.end"
"""Where pieces stand between an encoder's last layer and the decoder's layers that read it."""


@dataclass
class LayerPieces:
    """A layer of a stack and its pieces, in the order of the pass."""

    stack: str
    index: int
    layer: Layer
    begin: int
    end: int
    last: int
    """The call that passes the stream on."""
    run: int = 1
    """Which run of its modules it is."""
    keys: list[int] = field(default_factory=list)
    parts: dict[int, Part] = field(default_factory=dict)
    """Which part of the anatomy a piece is, where it is one."""
    stream: int | None = None
    """The piece outside of the layer that the residual stream comes from."""

    @property
    def name(self) -> str:
        """The layer's name, as in those of its stages."""
        return f"{self.stack}layers.{self.index}"


@dataclass
class Drawing:
    """The pieces of a model's pass, by layers."""

    traced: Traced
    architecture: Architecture
    pieces: dict[int, Piece]
    layers: list[LayerPieces]
    idle: list[str]
    """Layers that do not run for a text."""
    outside: dict[str, list[int]] = field(default_factory=dict)
    """The pieces outside of the layers: before a stack's layers by its prefix, after all by "logits"."""

    def layer_of(self, key: int) -> LayerPieces | None:
        """The layer that a piece is in; None for one outside of the layers."""
        return next((each for each in self.layers if each.begin <= key < each.end), None)

    def end(self, number: int) -> Piece:
        """What reads that which the layer of this number in the drawing passes on; -1 for the model itself."""
        count = len(self.layers) + 1
        return self.pieces[len(self.traced.operations) + number % count]

    def call(self, number: int) -> Call:
        """A call of a module in the traced pass."""
        return self.traced.calls[number]


class RunsAgainError(Exception):
    """Layers run more than once in a pass, with more between, which a drawing of one way cannot say."""


def drawing(traced: Traced, architecture: Architecture) -> Drawing:
    """The drawing of a traced pass. Raises RunsAgainError where layers run several times in it."""
    layers, idle = _layers(traced, architecture)
    pieces = contract(traced, architecture, [*(layer.last for layer in layers), 0])
    norms = {path for path, name in architecture.class_names.items() if is_norm(name)}
    for layer in layers:
        layer.keys = [key for key in pieces if layer.begin <= key < layer.end]
        layer.parts = merge_parts(traced, pieces, layer.keys, parts_of(layer.layer), norms)
        layer.keys = [key for key in layer.keys if key in pieces]
    drop_weights(pieces)
    flatten_sums(pieces)
    for layer in layers:
        merge_operations(pieces, [key for key in layer.keys if key in pieces and key not in layer.parts])
    inside = {key for layer in layers for key in layer.keys}
    merge_operations(pieces, [key for key in pieces if key not in inside])
    for layer in layers:
        layer.keys = [key for key in layer.keys if key in pieces]
    made = Drawing(traced, architecture, pieces, layers, idle)
    _find_streams(made)
    _place_outside(made, {key for layer in layers for key in layer.keys})
    return made


def is_norm(class_name: str) -> bool:
    """Whether a class is one of norms, by its name."""
    return "norm" in class_name.lower()


def _layers(traced: Traced, architecture: Architecture) -> tuple[list[LayerPieces], list[str]]:
    """The layers of a traced pass with where they begin and end, and the names of those that do not run."""
    by_path: dict[str, list[int]] = {}
    for number, call in enumerate(traced.calls):
        by_path.setdefault(call.path, []).append(number)
    found, idle = [], []
    for stack, index, layer in architecture.numbered_layers():
        firsts, lasts = by_path.get(layer.first, []), by_path.get(layer.last, [])
        if not firsts or not lasts:
            idle.append(f"{stack}layers.{index}")
            continue
        if layer.run is None and len(firsts) > 1:
            raise RunsAgainError(f"{layer.first} runs {len(firsts)} times in a pass")
        run = layer.run or 1
        begin, end = traced.calls[firsts[run - 1]].begin, traced.calls[lasts[run - 1]].end
        found.append(LayerPieces(stack, index, layer, begin, end, lasts[run - 1], run))
    return sorted(found, key=lambda each: each.begin), idle


def _find_streams(made: Drawing) -> None:
    """Find where each layer of a drawing has its residual stream from: the layer before, or what it first reads."""
    before: dict[str, int] = {}
    for number, layer in enumerate(made.layers):
        inside = set(layer.keys)
        outside = [wire.source for key in layer.keys for wire in made.pieces[key].wires if wire.source not in inside]
        last = [key for key in outside if key == before.get(layer.stack)]
        of_text = [key for key in outside if made.pieces[key].kind != "weight"]
        layer.stream = next(iter(last or of_text or outside), None)
        end = made.end(number)
        before[layer.stack] = end.wires[0].source if end.wires else -1


def _place_outside(made: Drawing, inside: set[int]) -> None:
    """Place the pieces of a drawing that are in no layer: before the stack that they lead to, or after all."""
    left = [key for key, piece in made.pieces.items() if key not in inside and piece.kind != "end"]
    passed = set[int]()
    for stack in made.architecture.stacks:
        own = [key for layer in made.layers if layer.stack == stack.prefix for key in layer.keys]
        wanted = sources(made.pieces, own)
        crossed = {key for key in wanted if key in left and passed & sources(made.pieces, [key])}
        if passed:
            made.outside[ENCODER_END] = [key for key in left if key in crossed]
        made.outside[stack.prefix] = [key for key in left if key in wanted - crossed]
        left = [key for key in left if key not in wanted]
        passed |= set(own)
    made.outside["logits"] = left


def sources(pieces: Mapping[int, Piece], keys: Sequence[int]) -> set[int]:
    """The pieces that some pieces depend on, themselves among them."""
    found, todo = set[int](), list(keys)
    while todo:
        key = todo.pop()
        if key not in found:
            found.add(key)
            todo += [wire.source for wire in pieces[key].wires]
    return found
