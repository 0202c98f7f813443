"""What operators make on the meta device, worked out once for tensors of the same shapes, strides and types.

A tensor there has nothing else, and equal layers ask for the same again and again.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Remembered:
    """Runs operators on the meta device, and remembers the layouts of the new tensors that they make."""

    def __init__(self) -> None:
        self._layouts: dict[Hashable, Any] = {}
        self._is_new: dict[Any, bool] = {}

    def run(self, operator: Any, args: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        """The result of an operator whose tensors are all on the meta device."""
        key = self._key(operator, args, options)
        if key is None:
            return operator(*args, **options)
        layout = self._layouts.get(key)
        if layout is None:
            result = operator(*args, **options)
            self._layouts[key] = _layout(result)
            return result
        if isinstance(layout, _Layout):
            return layout.new()
        return tuple(each.new() for each in layout) if layout else operator(*args, **options)

    def _key(self, operator: Any, args: tuple[Any, ...], options: Mapping[str, Any]) -> Hashable | None:
        """What the layout of an operator's result hangs on; None where the result may be a view, or more counts."""
        is_new = self._is_new.get(operator)
        if is_new is None:
            is_new = self._is_new[operator] = _makes_new(operator)
        if not is_new:
            return None
        try:
            key = (operator, tuple(map(_part, args)), tuple((name, _part(each)) for name, each in options.items()))
            hash(key)
        except TypeError:
            return None
        return key


class _Layout:
    """The layout of a tensor on the meta device."""

    __slots__ = ("dtype", "shape", "stride")

    def __init__(self, tensor: Tensor) -> None:
        self.shape, self.stride, self.dtype = tensor.shape, tensor.stride(), tensor.dtype

    def new(self) -> Tensor:
        """A tensor of this layout."""
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device="meta")


def _layout(result: Any) -> Any:
    """The layout of what an operator made, of several tensors that of each; nothing where it made anything else."""
    if type(result) is torch.Tensor:
        return _Layout(result)
    plain = type(result) is tuple and all(type(each) is torch.Tensor for each in result)
    return tuple(map(_Layout, result)) if plain else ()


def _makes_new(operator: Any) -> bool:
    """Whether an operator writes into nothing and passes on no view. That of an unsafe one is not in its schema."""
    schema = operator._schema
    named = [each.alias_info for each in (*schema.arguments, *schema.returns)]
    return all(each is None for each in named) and "unsafe" not in schema.name


def _part(value: Any) -> Hashable:
    """What the result's layout hangs on of one of an operator's arguments. Raises TypeError for a tensor of a kind."""
    if isinstance(value, torch.Tensor):
        if value.dtype.is_complex or value.layout != torch.strided:
            raise TypeError("a tensor may be conjugate, or sparse")
        return value.shape, value.stride(), value.dtype
    if isinstance(value, (list, tuple)):
        return tuple(map(_part, value))
    return type(value), value  # 1, 1.0 and True are equal, and their results are not
