"""Two texts, aligned: the tensors of both, cut to the positions that can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from txinspect.records import InputRecord, SentenceRecord
from txinspect.stage_names import DECODER, ENCODER
from txinspect.texts.aligning import Pairs, aligned

if TYPE_CHECKING:
    from torch import Tensor

Axes = Sequence[str] | None
"""What a tensor's axes are called; None where that is not known."""

_OF_TOKENS = ("seq", "query", "key")
"""Axes along the tokens that a stack reads."""

_OF_SOURCE = "source"
"""The axis along the encoder's tokens, in a decoder."""

_OF_ANY_TEXT = frozenset(
    (
        *("batch", "hidden", "feature", "stream", "stream_hidden", "codebook", "layer", "bucket", "rotary_dim"),
        *("head", "kv_head", "head_dim", "expert", "choice", "vocab", "label", "start_end"),
    )
)
"""Axes that are the same for any text. Others, such as patches, padding and blocks, have positions of their own."""


@dataclass(frozen=True)
class Cut:
    """Tensors of two sides, cut to the positions that are aligned."""

    this: Tensor
    other: Tensor
    places: Sequence[Pairs | None] = ()
    """Of each axis: where each index of the cut tensors is on either side; None for an axis that was not cut."""

    def at(self, index: Sequence[int] | None, side: int) -> list[int] | None:
        """Where an index of the cut tensors is in this side's tensor, 0, or in the other's, 1."""
        if index is None:
            return None
        # A complex number counts as an axis more.
        places = [*self.places, *[None] * (len(index) - len(self.places))]
        return [each if own is None else own[each][side] for each, own in zip(index, places, strict=True)]


@dataclass(frozen=True)
class Alignment:
    """Which tokens of two inputs stand for each other: those of the texts, and those that decoders read."""

    this: InputRecord
    other: InputRecord
    text: Pairs
    decoder: Pairs | None
    """None where there is no decoder that reads a text of its own."""

    @classmethod
    def of(cls, this: InputRecord, other: InputRecord) -> Alignment:
        """The alignment of two inputs of one model."""
        decoder = _pairs(this.decoder, other.decoder) if this.decoder and other.decoder else None
        return cls(this, other, _pairs(this, other), decoder)

    @property
    def main(self) -> Pairs:
        """The aligned positions of the text that the model's output is about."""
        return self.text if self.decoder is None else self.decoder

    @property
    def is_whole(self) -> bool:
        """Whether both inputs are aligned position by position."""
        return _as_many(self.this, self.other) and _as_many(self.this.main, self.other.main)

    @property
    def has_words(self) -> bool:
        """Whether anything but special tokens of the texts is aligned."""
        return any(not self.this.tokens[position].special for position, _ in self.text)

    def cut(self, this: Tensor, other: Tensor, axes: tuple[Axes, Axes], stack: str) -> Cut | None:
        """Tensors of a stack's stage on both sides, cut to the aligned positions of their axes.

        None where that cannot be: where axes are unknown, or of other positions than the tokens.
        """
        if self._is_whole_for(stack):
            return Cut(this, other)
        if axes[0] is None or axes[0] != axes[1] or set(axes[0]) - _OF_ANY_TEXT - {*_OF_TOKENS, _OF_SOURCE}:
            return None
        places: list[Pairs | None] = []
        for index, axis in enumerate(axes[0]):
            found = None
            if axis not in _OF_ANY_TEXT:
                found = self._along(axis, stack, (this.shape[index], other.shape[index]))
                if not found:
                    return None
                this, other = (
                    each.index_select(index, _index(each, [pair[side] for pair in found]))
                    for side, each in enumerate((this, other))
                )
            places.append(found)
        return Cut(this, other, places)

    def _is_whole_for(self, stack: str) -> bool:
        """Whether all that a stack of the aligned texts' model reads is aligned position by position."""
        return _as_many(self.this, self.other) if stack == ENCODER else self.is_whole

    def _along(self, axis: str, stack: str, sizes: tuple[int, int]) -> Pairs | None:
        """The aligned positions along an axis; None where its sizes are not those of a text, or of which is unknown."""
        of_text = self.text if sizes == (len(self.this.tokens), len(self.other.tokens)) else None
        if axis == _OF_SOURCE or stack == ENCODER or self.decoder is None:
            return of_text
        of_decoder = self.decoder if sizes == (len(self.this.main.tokens), len(self.other.main.tokens)) else None
        if stack == DECODER:
            return of_decoder
        # A module outside of both stacks, such as lm_head, reads either.
        if of_text is not None and of_decoder is not None and of_text != of_decoder:
            return None
        return of_text or of_decoder


def _pairs(this: SentenceRecord, other: SentenceRecord) -> Pairs:
    return aligned(this.input_ids[0], other.input_ids[0])


def _as_many(this: SentenceRecord, other: SentenceRecord) -> bool:
    return len(this.tokens) == len(other.tokens)


def _index(tensor: Tensor, positions: Sequence[int]) -> Tensor:
    import torch

    return torch.tensor(positions, device=tensor.device)
