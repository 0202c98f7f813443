"""A tensor as it was recorded, whole or in blocks, and the positions kept of an axis that was cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, dtype

Coordinates = dict[str, list[int]] | None


@dataclass(frozen=True)
class TensorBlocks:
    """A tensor as it was recorded: a factory of blocks along the query axis, one block where it is there as a whole."""

    shape: tuple[int, ...]
    dtype: dtype
    blocks: Callable[[], Iterator[Tensor]]

    @classmethod
    def of(cls, tensor: Tensor) -> TensorBlocks:
        """A recorded tensor that is there as a whole, as one block."""
        return cls(tuple(tensor.shape), tensor.dtype, lambda: iter((tensor,)))

    def whole(self) -> Tensor:
        """The recorded tensor in one piece, of its blocks."""
        import torch

        pieces = list(self.blocks())
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-2)


def take(tensor: Tensor, axis: int, positions: list[int] | None) -> Tensor:
    """Some positions of an axis of a recorded tensor, or of its blocks; the tensor itself where all are asked."""
    import torch

    if positions is None:
        return tensor
    return tensor.index_select(axis, torch.tensor(positions, device=tensor.device))


def coordinates(**axes: list[int] | None) -> Coordinates:
    """The axes of a recorded tensor that were cut, with the positions kept; None if none was."""
    return {axis: positions for axis, positions in axes.items() if positions is not None} or None
