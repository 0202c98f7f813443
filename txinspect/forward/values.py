"""What modules are given and pass on: the tensor in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def hidden_states(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The tensor that a module is given: its first positional argument, or the one called hidden_states."""
    return args[0] if args else kwargs.get(_hidden_name(kwargs))


def with_hidden(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], tensor: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A module's arguments with another tensor in the place of the one that hidden_states finds."""
    if args:
        return (with_first(args[0], tensor), *args[1:]), dict(kwargs)
    name = _hidden_name(kwargs)
    return args, {**kwargs, name: with_first(kwargs[name], tensor)}


def _hidden_name(kwargs: Mapping[str, Any]) -> str:
    return "hidden_states" if "hidden_states" in kwargs else next(iter(kwargs), "")


def first_tensor(value: Any) -> Tensor | None:
    """The tensor in what a module passes on: itself, or the first of a tuple, list or output record."""
    import torch

    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return next((found for item in value if (found := first_tensor(item)) is not None), None)
    return None


def with_first(value: Any, tensor: Tensor) -> Any:
    """What a module passes on, with another tensor in the place of the one that first_tensor finds in it."""
    import torch

    if isinstance(value, torch.Tensor):
        return tensor
    if isinstance(value, Mapping):
        name = next(name for name, item in value.items() if first_tensor(item) is not None)
        items = dict(value) | {name: with_first(value[name], tensor)}
        return items if type(value) is dict else type(value)(**items)
    first = next(index for index, item in enumerate(value) if first_tensor(item) is not None)
    return _with_item(value, first, with_first(value[first], tensor))


def with_picked(value: Any, pick: int | None, tensor: Tensor) -> Any:
    """What a module passes on, with another tensor in the item that picked finds in it."""
    if pick is None or not isinstance(value, (tuple, list)):
        return with_first(value, tensor)
    return _with_item(value, pick, with_first(value[pick], tensor))


def _with_item(value: Any, index: int, item: Any) -> Any:
    """A tuple, named tuple or list that a module passes on, with one item replaced."""
    items = [*value[:index], item, *value[index + 1 :]]
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def laid_out(tensor: Tensor, own: Tensor) -> Tensor:
    """A module's tensor in the shape, type, device and layout of another: a layout may change last bits."""
    import torch

    shaped = tensor.reshape(own.shape)
    if own.numel() and 0 in own.stride():  # rows that share memory cannot be written one by one
        return shaped.to(own.device, own.dtype).contiguous()
    made = torch.empty_strided(own.shape, own.stride(), dtype=own.dtype, device=own.device)
    return made.copy_(shaped)


def picked(value: Any, pick: int | None) -> Any:
    """One item of what a module passes on as a tuple or list, or all of it."""
    if pick is None:
        return value
    items = value if isinstance(value, (tuple, list)) else (value,)
    return items[pick] if pick < len(items) else None


def unflatten(tensor: Tensor, seq_shape: tuple[int, int]) -> Tensor:
    """A tensor that a module passes on as (batch·seq, feature), back to (batch, seq, feature)."""
    if tensor.ndim == 2 and tensor.shape[0] == seq_shape[0] * seq_shape[1]:
        return tensor.reshape(*seq_shape, -1)
    return tensor
