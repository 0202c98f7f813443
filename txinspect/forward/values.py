"""What modules are given and pass on: the tensor in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def hidden_states(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What a module reads: its first positional argument, or the one called hidden_states."""
    return args[0] if args else kwargs.get("hidden_states", next(iter(kwargs.values()), None))


def first_tensor(value: Any) -> Tensor | None:
    """The tensor that a module passes on: itself, or the first of a tuple, list or output record."""
    import torch

    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return next((found for item in value if (found := first_tensor(item)) is not None), None)
    return None


def picked(value: Any, pick: int | None) -> Any:
    """One item of what a module passes on, or all of it."""
    if pick is None:
        return value
    items = value if isinstance(value, (tuple, list)) else (value,)
    return items[pick] if pick < len(items) else None


def unflatten(tensor: Tensor, seq_shape: tuple[int, int]) -> Tensor:
    """(batch·seq, feature), as some modules see their tokens, back to (batch, seq, feature)."""
    if tensor.ndim == 2 and tensor.shape[0] == seq_shape[0] * seq_shape[1]:
        return tensor.reshape(*seq_shape, -1)
    return tensor
