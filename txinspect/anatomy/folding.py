"""What each piece of a drawing is and is called, and which layers are alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from txinspect.anatomy.architecture import Architecture, Stack
from txinspect.anatomy.contracting import Piece
from txinspect.anatomy.diagram import ENCODER_END, Drawing, LayerPieces, is_norm
from txinspect.stage_names import ENCODER
from txinspect.stages import NodeKind


@dataclass(frozen=True)
class Named:
    """What a piece is, and its name in the diagram."""

    kind: NodeKind
    name: str


Alike = Callable[[LayerPieces, int], Hashable]
"""What else has to be the same of two layers' pieces for them to be alike: parameters, windows."""


def names(made: Drawing) -> dict[int, Named]:
    """What every piece of a drawing is, and its name."""
    found: dict[int, Named] = {}
    for layer in made.layers:
        used: Counter[str] = Counter()
        for key in layer.keys:
            kind, name = _in_layer(made, layer, key)
            used[name] += 1
            found[key] = Named(kind, f"{layer.name}.{name}{'' if used[name] == 1 else f'.{used[name]}'}")
    taken: Counter[str] = Counter()
    for place, keys in made.outside.items():
        for key in keys:
            kind, name = _outside(made, key, place)
            taken[name] += 1
            found[key] = Named(kind, name if taken[name] == 1 else f"{name}.{taken[name]}")
    for key in [key for key, named in found.items() if named.kind == "head"][1:]:
        found[key] = Named("module", found[key].name)  # what caps the head's logits
    return found


def _in_layer(made: Drawing, layer: LayerPieces, key: int) -> tuple[NodeKind, str]:
    """What a piece in a layer is, and its name there."""
    piece = made.pieces[key]
    if key in layer.parts:
        kind: NodeKind = layer.parts[key].kind  # type: ignore[assignment]  # a part's kinds are among a node's
        return kind, kind
    if piece.kind == "module":
        path = made.call(piece.calls[0]).path
        kind = "norm" if _is_norm(made.architecture, piece, made) else "module"
        return kind, path.removeprefix(f"{layer.layer.first}.")
    return _plain_kind(piece)


def _plain_kind(piece: Piece) -> tuple[NodeKind, str]:
    """What a piece that is no module is, and its name."""
    kinds: dict[str, NodeKind] = {"sum": "sum", "scale": "scale", "weight": "weight", "end": "logits"}
    kind = kinds.get(piece.kind, "operation")
    return kind, kind


def _is_norm(architecture: Architecture, piece: Piece, made: Drawing) -> bool:
    """Whether a piece is the one call of a norm."""
    return len(piece.calls) == 1 and is_norm(architecture.class_names[made.call(piece.calls[0]).path])


def _outside(made: Drawing, key: int, place: str) -> tuple[NodeKind, str]:
    """What a piece outside of the layers is, and its name."""
    piece = made.pieces[key]
    prefix = {"logits": "", ENCODER_END: ENCODER}.get(place, place)
    if piece.kind != "module":
        kind, name = _plain_kind(piece)
        return kind, {"logits": "logits.", ENCODER_END: place + "."}.get(place, f"{prefix}embeddings.") + name
    path = made.call(piece.calls[0]).path
    for stack in made.architecture.stacks:
        if found := _of_stack(stack, path):
            return found[0], f"{prefix or stack.prefix}{found[1]}"
    if _is_norm(made.architecture, piece, made):
        return "norm", path
    ends = [wire.shape for wire in made.end(-1).wires]
    is_head = place == "logits" and any(shape in ends for shape in made.call(piece.calls[0]).shapes)
    return ("head" if is_head else "module"), path


def _of_stack(stack: Stack, path: str) -> tuple[NodeKind, str] | None:
    """What a module is of a stack outside of its layers, and its stage's name; None where it is no such part."""
    if path == stack.token_embeddings:
        return "embedding", "token_embeddings"
    if path == stack.position_embeddings:
        return "positions", "position_embeddings"
    if path == stack.token_type_embeddings:
        return "embedding", "token_type_embeddings"
    if path == stack.final_norm:
        return "norm", "final_norm"
    return ("positions", path) if path in (*stack.rotaries, *stack.relative_biases) else None


def folded(made: Drawing, named: dict[int, Named], alike: Alike) -> list[list[LayerPieces]]:
    """The layers of a drawing in groups of those that are alike, each group in the order of the pass."""
    groups: dict[Hashable, list[LayerPieces]] = {}
    for number, layer in enumerate(made.layers):
        groups.setdefault((layer.stack, _signature(made, named, number, alike)), []).append(layer)
    return list(groups.values())


def _signature(made: Drawing, named: dict[int, Named], number: int, alike: Alike) -> Hashable:
    """All that is drawn of a layer, without its number."""
    layer = made.layers[number]
    places = {key: place for place, key in enumerate(layer.keys)}

    def source(key: int) -> Hashable:
        if key in places:
            return places[key]
        if key == layer.stream:
            return "stream"
        found = made.layer_of(key)
        return named[key].name if found is None else named[key].name.removeprefix(f"{found.name}.")

    end = made.end(number)
    leaving = tuple(source(wire.source) for wire in end.wires)
    pieces = []
    for key in layer.keys:
        piece = made.pieces[key]
        wires = tuple((source(wire.source), wire.shape, wire.item, wire.factor) for wire in piece.wires)
        name = named[key].name.removeprefix(f"{layer.name}.")
        pieces.append((named[key].kind, name, piece.factor, tuple(piece.names), wires, alike(layer, key)))
    return (_from_elsewhere(made, named, number), leaving, tuple(pieces))


def _from_elsewhere(made: Drawing, named: dict[int, Named], number: int) -> str | None:
    """What a layer after the first of its stack reads, where that is not what the layer before passes on; else None."""
    layer = made.layers[number]
    if layer.stream is None or number == 0 or made.layers[number - 1].stack != layer.stack:
        return None
    before = [wire.source for wire in made.end(number - 1).wires]
    return None if layer.stream in before else named[layer.stream].name
