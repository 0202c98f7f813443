"""The nodes of a diagram in records: what each piece is, and what it holds."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

from txinspect.anatomy.contracting import Piece
from txinspect.anatomy.diagram import Drawing, LayerPieces
from txinspect.anatomy.families import ROUTER_OUTPUTS
from txinspect.anatomy.folding import Named
from txinspect.anatomy.head_counts import HeadCounts, head_counts
from txinspect.anatomy.windows import experts_used, window
from txinspect.commands.diagram import NodeRecord

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.loading.subject import Subject


class Boxes:
    """The pieces of a drawing with what the model's modules say of them."""

    def __init__(self, subject: Subject, made: Drawing) -> None:
        self._model = subject.as_configured
        self._made = made
        self._config: Any = subject.as_configured.config.get_text_config()
        self._tensors: dict[str, Tensor] = dict(self._model.named_parameters(remove_duplicate=False))
        self._owners: dict[int, str] = {}

    def alike(self, layer: LayerPieces, key: int) -> Hashable:
        """What else has to be the same of two layers' pieces for them to be alike."""
        piece = self._made.pieces[key]
        paths = [path.removeprefix(layer.layer.first) for path in self.modules(piece)]
        classes = [self._made.architecture.class_names[path] for path in self.modules(piece)]
        shapes = [tuple(each.shape) for each in self._parameters(piece)]
        return tuple(paths), tuple(classes), tuple(shapes), self._window(layer, key), self._heads(layer, key)

    def modules(self, piece: Piece) -> list[str]:
        """The modules that a piece is made of."""
        return [self._made.call(call).path for call in piece.calls]

    def parameters(self, paths: Iterable[str]) -> int:
        """The unique parameters in some modules."""
        found = {id(each): each.numel() for path in paths for each in self._model.get_submodule(path).parameters()}
        return sum(found.values())

    def record(self, layer: LayerPieces | None, key: int, named: Named) -> NodeRecord:
        """The record of a piece. Of a parameter that two share, the one that is asked for first is the owner."""
        piece = self._made.pieces[key]
        modules = self.modules(piece)
        parameters = self._parameters(piece)
        heads = self._heads(layer, key)
        tied = None
        if layer is None:
            owners = [self._owners.setdefault(id(each), named.name) for each in parameters]
            tied = next((owner for owner in owners if owner != named.name), None)
        experts, used = self._experts(layer, key)
        return NodeRecord(
            id=named.name,
            kind=named.kind,
            module=modules[0] if modules else None,
            class_=self._made.architecture.class_names[modules[0]] if modules else None,
            modules=modules,
            run=self._made.call(piece.calls[0]).run if piece.calls else 1,
            operations=piece.names if piece.kind in ("operation", "module", "weight") else [],
            weights=piece.weights,
            parameters=sum({id(each): each.numel() for each in parameters}.values()),
            factor=piece.factor,
            heads=heads.heads,
            kv_heads=heads.kv_heads,
            head_dim=heads.head_dim,
            window=self._window(layer, key),
            experts=experts,
            experts_used=used,
            tied_to=tied,
        )

    def _parameters(self, piece: Piece) -> list[Tensor]:
        """The parameters in a piece."""
        own = [each for path in self.modules(piece) for each in self._model.get_submodule(path).parameters()]
        return own + [self._tensors[name] for name in piece.weights if name in self._tensors]

    def _part(self, layer: LayerPieces | None, key: int) -> str:
        """Which part of its layer a piece is; empty where it is none."""
        return layer.parts[key].kind if layer is not None and key in layer.parts else ""

    def _heads(self, layer: LayerPieces | None, key: int) -> HeadCounts:
        """The heads of a piece that is an attention."""
        if not self._part(layer, key).endswith("attention"):
            return HeadCounts()
        piece = self._made.pieces[key]
        return head_counts(self._made.traced, piece.calls, piece.within)

    def _window(self, layer: LayerPieces | None, key: int) -> int | None:
        """How far back a piece that is an attention to its own text sees."""
        if layer is None or self._part(layer, key) != "attention":
            return None
        return window(self._config, self._model.get_submodule(layer.parts[key].modules[0]), layer.index)

    def _experts(self, layer: LayerPieces | None, key: int) -> tuple[int | None, int | None]:
        """How many experts a piece has, and how many of them are used."""
        if layer is None or self._part(layer, key) != "experts" or not layer.layer.routers:
            return None, None
        router = layer.layer.routers[0]
        call = next((each for each in self._made.traced.calls if each.path == router), None)
        scores, chosen, _ = ROUTER_OUTPUTS.get(self._made.architecture.class_names[router], (0, 1, 2))
        if call is None or scores is None or scores >= len(call.shapes):
            return None, None
        modules = [self._model.get_submodule(path) for path in (router, layer.parts[key].modules[0])]
        count = call.shapes[scores][-1]
        used = call.shapes[chosen][-1] if chosen is not None and chosen < len(call.shapes) else count
        return count, used if used < count else experts_used(self._config, modules)
