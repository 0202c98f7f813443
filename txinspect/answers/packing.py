"""What a page shows of attention, packed as it comes, so that no weights of a long text are kept."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import TYPE_CHECKING, Any

from txinspect.blocks import blocks
from txinspect.commands.packed import PackedAttention
from txinspect.loading.describing import model_record
from txinspect.measure.packing import lengths, packed_maps, packed_vectors

if TYPE_CHECKING:
    from txinspect.forward.capture import CaughtTensor
    from txinspect.forward.wants import Want
    from txinspect.loading.subject import Subject

SIDE = 512
"""Rows and columns of a map at most; of more queries and keys the largest weights in blocks."""

IN_ALL = 40_000_000
"""Weights on a page, in all maps: 144 heads of 512 tokens fit."""

WHOLE = 16_000_000
"""Weights of a head that is packed whole beside maps in blocks: of 4,000 tokens."""

VECTORS = 96_000
"""Numbers in queries and keys on a page, which no deflating makes smaller."""

_PARTS = ("weights", "q", "k", "v")

_Place = tuple[str, str, int, int]
"""Of an attention: the stack's prefix, self or cross, layer, run."""


class Packing:
    """Packs what a page shows of the attentions of a pass."""

    def __init__(self) -> None:
        self._parts: dict[_Place, dict[str, Any]] = {}
        self._side = SIDE
        self._room = VECTORS
        self._whole: _Place | None = None
        self._kv_heads: dict[_Place, list[int]] = {}
        self._group = 1

    @property
    def attentions(self) -> list[PackedAttention]:
        """The attentions that were packed, in the order of the pass."""
        return [
            PackedAttention(*place, **parts, shared=self._shared(place, parts["maps"].heads))
            for place, parts in self._parts.items()
            if "maps" in parts
        ]

    def begin(self, subject: Subject, wants: Sequence[Want]) -> None:
        """Learn how many heads' weights will be packed, which decides how large a map may be."""
        record = model_record(subject, subject.as_configured)
        each = record.num_attention_heads or 64
        self._group = max(1, each // (record.num_key_value_heads or each))
        asked = [want for want in wants if want.supply.part == "weights"]
        heads = sum(each if (chosen := want.selection.heads) is None else len(chosen) for want in asked)
        self._side = max(16, min(SIDE, isqrt(IN_ALL // max(1, heads))))

    def receive(self, caught: CaughtTensor) -> None:
        """Pack a tensor of the pass, if it is of an attention and has the usual axes."""
        supply = caught.want.supply
        kind, _, part = supply.within.partition(".")
        if kind not in ("attention", "cross_attention") or part not in _PARTS or len(caught.tensor.shape) != 4:
            return
        place = (supply.stack, "cross" if kind == "cross_attention" else "self", supply.layer or 0, caught.run)
        parts = self._parts.setdefault(place, {})
        if part in parts or (part == "weights" and "maps" in parts):
            return  # another question's pass through the same attention
        if caught.coordinates and not caught.want.reported:
            return  # a corner that a question looks at for itself, as logits does to learn whether tokens see ahead
        if part == "weights":
            self._pack_weights(place, parts, caught)
        elif part == "v":
            parts["lengths"] = lengths(caught.tensor.whole())
            self._kv_heads[place] = (caught.coordinates or {}).get("kv_head", list(range(caught.tensor.shape[1])))
        else:
            self._pack_vectors(parts, part, caught)

    def _shared(self, place: _Place, heads: list[int]) -> list[int]:
        """Which of the key–value heads that came each packed head reads, by their order."""
        kv_heads = self._kv_heads.get(place, [])
        # Where all came, their numbers tell, which may differ by layer; where some were chosen, only the config does.
        all_came = heads == list(range(len(heads))) and kv_heads == list(range(len(kv_heads)))
        group = max(1, len(heads) // max(1, len(kv_heads))) if all_came else self._group
        return [kv_heads.index(head // group) if head // group in kv_heads else -1 for head in heads]

    def _pack_weights(self, place: _Place, parts: dict[str, Any], caught: CaughtTensor) -> None:
        """Pack the weights of an attention, and those of its first head whole where the map is in blocks."""
        _, count, rows, keys = caught.tensor.shape
        kept = caught.coordinates or {}
        heads, queries = kept.get("head", list(range(count))), kept.get("query", list(range(rows)))
        side, crossed = self._side, place[1] == "cross"
        parts["maps"] = maps = packed_maps(
            caught.tensor.blocks(), heads, blocks(rows, side), blocks(keys, side, (0,)), queries, crossed=crossed
        )
        if maps.are_pooled and rows * keys <= WHOLE and self._whole in (None, place):
            self._whole = place
            lines, columns = ([(each, each) for each in range(size)] for size in (rows, keys))
            parts["whole"] = packed_maps(
                caught.tensor.blocks(), heads[:1], lines, columns, queries, [0], crossed=crossed
            )

    def _pack_vectors(self, parts: dict[str, Any], part: str, caught: CaughtTensor) -> None:
        """Pack the queries or keys of an attention, as far as there is room on the page."""
        _, count, positions, size = caught.tensor.shape
        kept = caught.coordinates or {}
        heads = kept.get("head", kept.get("kv_head", list(range(count))))
        fitting = min(count, self._room // max(1, positions * size))
        if fitting:
            self._room -= fitting * positions * size
            parts[part] = packed_vectors(caught.tensor.whole(), heads[:fitting], list(range(fitting)))
