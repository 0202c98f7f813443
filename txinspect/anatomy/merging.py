"""Pieces that are one part of the anatomy made one: an attention that ends before its projection, an MLP of a layer's
own matrices, an opened attention; and runs of operations that are in no module."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from txinspect.anatomy.architecture import Layer
from txinspect.anatomy.contracting import Piece, Wire
from txinspect.anatomy.traced import Traced


@dataclass(frozen=True)
class Part:
    """A part of a layer: what it is, and the modules that it begins and ends with."""

    kind: str
    modules: tuple[str, ...]


def parts_of(layer: Layer) -> list[Part]:
    """The parts of a layer, the innermost modules first."""
    return list(_parts(layer))


def _parts(layer: Layer) -> Iterator[Part]:
    for first, last in zip(layer.attentions, layer.attention_outputs, strict=True):
        yield Part("attention", (first, last))
    for first, last in zip(layer.cross_attentions, layer.cross_attention_outputs, strict=True):
        yield Part("cross_attention", (first, last))
    for mixer in layer.mixers:
        yield Part("mixer", (mixer,))
    kind = "experts" if layer.routers else "mlp"
    if len(layer.mlp_inputs) == len(layer.mlp_outputs):
        for first, last in zip(layer.mlp_inputs, layer.mlp_outputs, strict=True):
            yield Part(kind, (first, last))
    else:
        for path in layer.mlp_inputs:
            yield Part(kind if any(router.startswith(f"{path}.") for router in layer.routers) else "mlp", (path,))


def merge_parts(
    traced: Traced, pieces: dict[int, Piece], keys: Sequence[int], parts: Sequence[Part], norms: Collection[str]
) -> dict[int, Part]:
    """Make one piece of each part's pieces in a layer, without the norms around it; what is which part afterwards."""
    found: dict[int, Part] = {}
    levels = _levels(pieces, keys)
    for part in parts:
        own = [key for key in keys if key in pieces and key not in found and _is_of(traced, pieces[key], part, norms)]
        for level in sorted({levels[key] for key in own}):
            members = [key for key in own if levels[key] == level]
            between = _between(pieces, [key for key in keys if key in pieces and key not in found], members)
            whole = [key for key in between if not pieces[key].is_residual]
            if len(whole) > 1:
                _merge(pieces, whole)
            found[min(whole)] = part
    return found


def merge_operations(pieces: dict[int, Piece], keys: Sequence[int]) -> None:
    """Make one piece of operations outside of all modules that follow each other and go nowhere else."""
    again = True
    while again:
        again = False
        readers = _readers(pieces)
        for key in keys:
            piece = pieces.get(key)
            if piece is None or piece.kind != "operation":
                continue
            inner = [wire.source for wire in piece.wires if _is_lone(pieces, readers, wire.source, key)]
            if inner:
                _merge(pieces, sorted({key, *inner}), keep=key)
                again = True
                break


def _is_lone(pieces: Mapping[int, Piece], readers: Mapping[int, Collection[int]], source: int, reader: int) -> bool:
    """Whether a piece is an operation, or one of weights, that one other piece alone reads."""
    piece = pieces[source]
    scales = piece.kind == "scale" and piece.factor is None
    return (scales or piece.kind in ("operation", "weight")) and set(readers[source]) == {reader}


def _is_of(traced: Traced, piece: Piece, part: Part, norms: Collection[str]) -> bool:
    """Whether a piece is in one of a part's modules, and no sum or norm around it."""
    inside = piece.calls[0] if piece.calls else piece.within
    if piece.kind not in ("module", "operation") or inside < 0:
        return False
    path = traced.calls[inside].path
    if piece.kind == "module" and path in norms:
        return False
    return any(path == each or path.startswith(f"{each}.") for each in part.modules)


def _levels(pieces: Mapping[int, Piece], keys: Sequence[int]) -> dict[int, int]:
    """How many additions to the stream lie before each piece of a layer."""
    levels: dict[int, int] = {}
    for key in keys:
        before = [
            levels[wire.source] + pieces[wire.source].is_residual for wire in pieces[key].wires if wire.source in levels
        ]
        levels[key] = max(before, default=0)
    return levels


def _between(pieces: Mapping[int, Piece], keys: Sequence[int], members: Sequence[int]) -> list[int]:
    """Some pieces of a layer and those that lie on a way from one to another, past no addition to the stream."""
    after, before = set(members), set(members)
    for key in keys:
        if not pieces[key].is_residual and any(wire.source in after for wire in pieces[key].wires):
            after.add(key)
    for key in reversed(keys):
        if key in before and not (pieces[key].is_residual):
            before.update(wire.source for wire in pieces[key].wires if wire.source in after)
    return [key for key in keys if key in members or (key in after and key in before)]


def drop_weights(pieces: dict[int, Piece]) -> None:
    """Have only sums and scalings read weights: all else has them in it, by name."""
    for piece in list(pieces.values()):
        if piece.kind in ("sum", "scale"):
            continue
        weights = [wire.source for wire in piece.wires if pieces[wire.source].kind == "weight"]
        piece.weights += [name for each in weights for name in weights_of(pieces, each)]
        piece.wires = [wire for wire in piece.wires if wire.source not in weights]
    read = {wire.source for piece in pieces.values() for wire in piece.wires}
    for key in [key for key, piece in pieces.items() if piece.kind == "weight" and key not in read]:
        del pieces[key]


def weights_of(pieces: Mapping[int, Piece], key: int) -> list[str]:
    """The parameters and buffers that a piece which is made of weights alone is made of."""
    piece = pieces[key]
    inner = [
        name for wire in piece.wires if pieces[wire.source].kind == "weight" for name in weights_of(pieces, wire.source)
    ]
    return list(dict.fromkeys([*piece.weights, *inner]))


def _merge(pieces: dict[int, Piece], members: Sequence[int], keep: int | None = None) -> None:
    """Make one piece of several: it reads what they read from others, and passes on what they do."""
    inside = set(members)
    key = min(members) if keep is None else keep
    merged = Piece(
        key=key,
        kind="module" if any(pieces[each].kind == "module" for each in members) else "operation",
        calls=[call for each in members for call in pieces[each].calls],
        names=[name for each in members for name in pieces[each].names],
        weights=[name for each in members for name in pieces[each].weights],
        wires=list(dict.fromkeys(w for each in members for w in pieces[each].wires if w.source not in inside)),
        within=pieces[key].within,
    )
    for each in members:
        del pieces[each]
    pieces[key] = merged
    for piece in pieces.values():
        piece.wires = [_redirected(wire, inside, key) for wire in piece.wires]
    ordered = sorted(pieces.items())
    pieces.clear()
    pieces.update(ordered)


def _redirected(wire: Wire, members: Collection[int], key: int) -> Wire:
    """A wire that comes from the piece that others have become."""
    return replace(wire, source=key) if wire.source in members else wire


def _readers(pieces: Mapping[int, Piece]) -> dict[int, list[int]]:
    """The pieces that read each piece."""
    found: dict[int, list[int]] = {key: [] for key in pieces}
    for key, piece in pieces.items():
        for wire in piece.wires:
            found[wire.source].append(key)
    return found
