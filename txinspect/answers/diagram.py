"""The block diagram of a model, from a pass that is traced without weights."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from txinspect.anatomy.contracting import Wire
from txinspect.anatomy.diagram import ENCODER_END, Drawing, LayerPieces, RunsAgainError, drawing
from txinspect.anatomy.folding import Named, folded, names
from txinspect.anatomy.positions import ROTARY_AXES
from txinspect.answers.boxes import Boxes
from txinspect.answers.reporting import head, loading_notes
from txinspect.answers.session import Session
from txinspect.commands.diagram import (
    DiagramQuery,
    DiagramReport,
    EdgeRecord,
    GroupRecord,
    NodeRecord,
    StackRecord,
    TiedRecord,
)
from txinspect.errors import StageError
from txinspect.loading import describing
from txinspect.stage_names import ENCODER

if TYPE_CHECKING:
    from txinspect.anatomy.architecture import Stack
    from txinspect.loading.subject import Subject


def answer(query: DiagramQuery, session: Session) -> DiagramReport:
    """The report of `diagram`. Raises StageError for a model whose pass cannot be traced without weights."""
    subject = session.model(query.model).subject(query.seq, only_looked_at=True)
    session.notify("tracing a pass without weights")
    made = _traced(subject, query.seq)
    records = _Records(subject, made, query.seq)
    return DiagramReport(
        **head("diagram", loading_notes(subject)),
        model=describing.model_record(subject, subject.as_loaded),
        seq=query.seq,
        nodes=records.nodes,
        edges=records.edges,
        stacks=records.stacks,
        tied=_tied(subject),
    )


def _traced(subject: Subject, seq: int) -> Drawing:
    """The drawing of a model's pass."""
    from txinspect.forward import wiring

    try:
        return drawing(wiring.trace(subject.as_configured, seq), subject.architecture)
    except RunsAgainError as error:
        raise StageError(
            f"{subject.source.name!r} is not drawn: {error}, which a diagram of one way cannot say"
        ) from None
    except Exception as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise StageError(
            f"{subject.source.name!r} is not drawn: its pass cannot be traced without weights ({reason})",
            "'txinspect stages' lists its parts",
        ) from error


def _tied(subject: Subject) -> list[TiedRecord]:
    """The parameters of a model that have several names."""
    found: dict[int, list[str]] = {}
    sizes: dict[int, int] = {}
    for name, tensor in subject.as_configured.named_parameters(remove_duplicate=False):
        found.setdefault(id(tensor), []).append(name)
        sizes[id(tensor)] = tensor.numel()
    return [TiedRecord(names=each, parameters=sizes[key]) for key, each in found.items() if len(each) > 1]


class _Records:
    """The nodes, edges and stacks of a diagram, in records."""

    def __init__(self, subject: Subject, made: Drawing, seq: int) -> None:
        self._made = made
        self._seq = seq
        self._named = names(made)
        self._boxes = Boxes(subject, made)
        self._groups = folded(made, self._named, self._boxes.alike)
        self._shown = self._ids()
        self._leaving = self._ends()
        self._vocabulary = subject.architecture.output.axes
        self._end = "logits" if subject.architecture.output.reason is None else "output"
        self.nodes: list[NodeRecord] = []
        self.edges: list[EdgeRecord] = []
        self.stacks = [self._stack(stack) for stack in subject.architecture.stacks]
        self._after(made.outside["logits"], self.stacks[-1])

    def _ids(self) -> dict[int, str]:
        """The id of the node that stands for each piece: of alike layers that of the first."""
        found = {key: named.name for key, named in self._named.items()}
        for group in self._groups:
            for layer in group[1:]:
                found |= {key: found[first] for key, first in zip(layer.keys, group[0].keys, strict=True)}
        return found

    def _ends(self) -> dict[int, str]:
        """The nodes of the residual stream after layers, by the piece that makes it."""
        found: dict[int, str] = {}
        numbers = {layer.name: number for number, layer in enumerate(self._made.layers)}
        for group in self._groups:
            for layer in group:
                end = self._made.end(numbers[layer.name])
                found |= {wire.source: f"{group[0].name}.output" for wire in end.wires}
        return found

    def _stack(self, stack: Stack) -> StackRecord:
        """The record of a stack; its nodes and edges are noted."""
        prefix = stack.prefix
        self._text(prefix)
        before = [f"{prefix}text", *self._outer(self._made.outside[prefix])]
        groups = [self._group(group) for group in self._groups if group[0].stack == prefix]
        record = StackRecord(
            name=prefix.rstrip("."),
            before=before,
            groups=groups,
            order=self._order(prefix),
            after=[],
            positions=_positions(stack),
            idle=[int(each.rpartition(".")[2]) for each in self._made.idle if each.startswith(f"{prefix}layers")],
        )
        if prefix == ENCODER:
            self._after(self._made.outside.get(ENCODER_END, []), record)
        return record

    def _order(self, prefix: str) -> list[int]:
        """Of which group each layer of a stack is, in the order of the pass."""
        own = [group for group in self._groups if group[0].stack == prefix]
        of = {layer.name: number for number, group in enumerate(own) for layer in group}
        return [of[layer.name] for layer in self._made.layers if layer.stack == prefix]

    def _text(self, prefix: str) -> None:
        """Note the text that a stack reads, and the embeddings that read it."""
        self.nodes.append(_plain(f"{prefix}text", "text"))
        for key in self._made.outside[prefix]:
            if self._named[key].name == f"{prefix}token_embeddings":
                edge = self._edge(f"{prefix}text", self._shown[key], Wire(key, (1, self._seq)), None)
                self.edges.append(edge)

    def _outer(self, keys: Sequence[int]) -> list[str]:
        """Note pieces outside of the layers; their ids."""
        for key in keys:
            self.nodes.append(self._boxes.record(None, key, self._named[key]))
            self._edges_into(None, key, self._named[key].name)
        return [self._named[key].name for key in keys]

    def _group(self, group: list[LayerPieces]) -> GroupRecord:
        """Note the nodes of a group of layers; its record."""
        first = group[0]
        begins, ends = f"{first.name}.input", f"{first.name}.output"
        self.nodes.append(_plain(begins, "stream"))
        self._stream_into(first, begins)
        for key in first.keys:
            self.nodes.append(self._boxes.record(first, key, self._named[key]))
            self._edges_into(first, key, self._named[key].name)
        self.nodes.append(_plain(ends, "stream"))
        for wire in self._made.end(self._made.layers.index(first)).wires:
            source = begins if wire.source == first.stream else self._shown[wire.source]
            self.edges.append(self._edge(source, ends, wire, self._path(wire)))
        path = first.layer.first
        return GroupRecord(
            layers=[layer.index for layer in group],
            modules=[layer.layer.first for layer in group],
            ends=[layer.layer.last for layer in group],
            runs=[layer.run for layer in group],
            class_name=self._made.architecture.class_names[path],
            nodes=[begins, *(self._named[key].name for key in first.keys), ends],
            input=begins,
            output=ends,
            parameters=self._boxes.parameters(
                [m for key in first.keys for m in self._boxes.modules(self._made.pieces[key])]
            ),
        )

    def _stream_into(self, layer: LayerPieces, begins: str) -> None:
        """Note the edge by which the residual stream comes to a layer."""
        wires = [wire for key in layer.keys for wire in self._made.pieces[key].wires if wire.source == layer.stream]
        for wire in wires[:1]:
            source = self._from_outside(wire, layer)
            self.edges.append(self._edge(source, begins, wire, self._path(wire), factor=1.0))

    def _from_outside(self, wire: Wire, layer: LayerPieces | None) -> str:
        """The node that a wire from outside of a layer leaves."""
        leaving = self._leaving.get(wire.source)
        return self._shown[wire.source] if leaving is None else leaving

    def _edges_into(self, layer: LayerPieces | None, key: int, name: str) -> None:
        """Note the edges into a piece."""
        for wire in self._made.pieces[key].wires:
            if layer is not None and wire.source == layer.stream:
                source, path = f"{layer.name}.input", None
            elif layer is not None and wire.source in layer.keys:
                source, path = self._shown[wire.source], self._path(wire)
            else:
                source, path = self._from_outside(wire, layer), self._path(wire)
            self.edges.append(self._edge(source, name, wire, path))

    def _path(self, wire: Wire) -> str | None:
        """The module that passes a wire's tensor on."""
        return None if wire.call is None else self._made.call(wire.call).path

    def _after(self, keys: Sequence[int], record: StackRecord) -> None:
        """Note what comes after a stack's layers; after the last one's the logits, too."""
        record.after.extend(self._outer(keys))
        if keys is not self._made.outside["logits"]:
            return
        self.nodes.append(_plain(self._end, self._end))
        for wire in self._made.end(-1).wires:
            self.edges.append(self._edge(self._from_outside(wire, None), self._end, wire, self._path(wire)))
        record.after.append(self._end)

    def _axes(self, wire: Wire) -> list[str] | None:
        """The names of the axes of what a wire carries, where they are known."""
        ends = [end.shape for end in self._made.end(-1).wires]
        own = self._vocabulary
        if own is not None and wire.shape in ends and wire.source in self._made.outside["logits"]:
            return list(own) if len(own) == len(wire.shape) else None
        if wire.shape[:2] != (1, self._seq) or len(wire.shape) > 3:
            return None
        rotary = wire.source in self._named and self._named[wire.source].kind == "positions"
        is_added = rotary and self._named[wire.source].name.endswith("position_embeddings")
        last = "hidden" if is_added or not rotary else ROTARY_AXES[-1]
        return ["batch", "seq", *([last] if len(wire.shape) == 3 else [])]

    def _edge(self, source: str, target: str, wire: Wire, path: str | None, factor: float | None = None) -> EdgeRecord:
        return EdgeRecord(
            from_=source,
            to=target,
            module=path,
            run=1 if wire.call is None or path is None else self._made.call(wire.call).run,
            item=wire.item,
            factor=wire.factor if factor is None else factor,
            axes=self._axes(wire),
            shape=list(wire.shape),
        )


def _plain(name: str, kind: str) -> NodeRecord:
    """A node that is no piece: a text, a place in the residual stream, the logits."""
    named = Named(kind, name)  # type: ignore[arg-type]  # one of three of its kinds
    return NodeRecord(
        id=named.name,
        kind=named.kind,
        module=None,
        class_=None,
        modules=[],
        run=1,
        operations=[],
        weights=[],
        parameters=0,
        factor=None,
        heads=None,
        kv_heads=None,
        head_dim=None,
        window=None,
        experts=None,
        experts_used=None,
        tied_to=None,
    )


def _positions(stack: Stack) -> str:
    """How positions act in a stack, in a sentence."""
    before_layers = takewhile(lambda each: each.layer is None, stack.supplies())
    found = [supply for supply in before_layers if supply.within.startswith("position_embeddings")]
    for supply in found:
        if supply.available:
            return supply.note or "added to the embeddings"
    return next((supply.reason for supply in found if supply.reason), "")
