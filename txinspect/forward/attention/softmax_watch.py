"""Softmax attention in code of its own: the softmax and the products around it, watched as they happen.

A TorchFunctionMode sees every torch function that the attention module calls and changes none, but for a context that
is to be another. The product whose
result leads to the softmax is q·kᵀ, the one that takes the softmax's result is weights·v. The operands of these two
products are q, k, weights and v; a product's result and what is made of it are followed by identity.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from txinspect.forward.attention.calls import BackendCall, Call, checked_heads, cut_groups, cut_heads
from txinspect.forward.recorded import Coordinates, TensorBlocks, coordinates, take
from txinspect.forward.wants import Selection

if TYPE_CHECKING:
    from collections.abc import Callable

_SOFTMAX = {torch.softmax, functional.softmax, Tensor.softmax}

_PRODUCTS = {
    torch.matmul,
    Tensor.matmul,
    Tensor.__matmul__,
    torch.bmm,
    Tensor.bmm,
    torch.baddbmm,
    Tensor.baddbmm,
    torch.einsum,
}

_MULTIPLY = {torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__, Tensor.__imul__, Tensor.mul_}

_DIVIDE = {torch.div, Tensor.div, Tensor.__truediv__, Tensor.__itruediv__, Tensor.div_}

_KEEP = {Tensor.view, Tensor.reshape, Tensor.to, Tensor.float, Tensor.type, Tensor.contiguous, Tensor.transpose}
"""What leaves a product's values as they are, so that a factor after it still scales q·kᵀ alone."""


@dataclass(eq=False)
class _Product:
    """A product, with operands as (…, row, inner) and (…, column, inner)."""

    left: Tensor
    right: Tensor
    scale: float = 1.0
    """The numbers that the product was multiplied with before anything was added."""
    open: bool = True
    """Whether nothing was added yet."""


@dataclass(eq=False)
class _Softmax:
    """A softmax, and the product that led to it."""

    scores: _Product


@dataclass(frozen=True, eq=False)
class WatchedCall:
    """One softmax attention as it was computed; (batch, head, query, …) where the module has these axes."""

    query: Tensor
    key: Tensor
    value: Tensor
    scale: float
    weights: Tensor
    context: Tensor

    positions: Mapping[str, Tensor] = field(default_factory=dict)
    """By the stage's last name: what is added to the scores for positions, (batch, head, query, key)."""

    has_sinks = False

    def part(self, name: str, selection: Selection) -> tuple[TensorBlocks, Coordinates]:
        """See Call."""
        count = self.weights.shape[-3]
        heads = checked_heads(selection.heads, count)
        if name in ("k", "v"):
            return cut_groups(self.key if name == "k" else self.value, heads, count)
        if name in ("q", "context"):
            return cut_heads(self.query if name == "q" else self.context, heads)
        queries = None if selection.queries is None else list(selection.queries)
        if name == "weights":
            tensor = self.weights
        elif name in self.positions:
            tensor = self.positions[name]
        else:
            tensor = self.query @ self.key.transpose(-1, -2) * self.scale
        return TensorBlocks.of(take(take(tensor, -3, heads), -2, queries)), coordinates(head=heads, query=queries)


@dataclass
class _Seen:
    """What was seen of a module's forward."""

    sources: dict[int, _Product | _Softmax] = field(default_factory=dict)
    """By a tensor's id: what it was made of."""
    alive: list[Tensor] = field(default_factory=list)
    """Followed tensors, kept so that no id is used twice."""
    calls: list[Call] = field(default_factory=list)


class SoftmaxWatch(TorchFunctionMode):
    """Watches the torch functions that run while it is entered."""

    def __init__(self, batch: int, change: Callable[[Tensor], Tensor | None]) -> None:
        """For `batch` texts; `change` is given each context, and gives what is passed on in its place, or None."""
        super().__init__()
        self._batch = batch
        self._change = change
        self._seen = _Seen()
        self._idle = False
        self._positions: dict[str, Tensor] = {}

    def note_positions(self, parts: Callable[[], Mapping[str, Tensor]]) -> None:
        """Take what is added to scores for positions into the next watched softmax; computing it is not watched."""
        self._idle = True
        self._positions = {name: self._with_heads(tensor) for name, tensor in parts().items()}
        self._idle = False

    def calls(self) -> list[Call]:
        """Every softmax attention that was watched, in order."""
        return self._seen.calls

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run a watched torch function and look at what went in and came out."""
        options = dict(kwargs or {})
        result = func(*args, **options)
        if self._idle:
            return result
        if func is functional.scaled_dot_product_attention:
            result = self._changed(result, lambda tensor: tensor)
            self._seen.calls.append(_fused_call(args, options, result))
        elif isinstance(result, Tensor):
            if func in _PRODUCTS:
                return self._product(func, args, options, result)
            self._follow(func, args, options, result)
        return result

    def _changed(self, result: Tensor, seen: Callable[[Tensor], Tensor]) -> Tensor:
        """The watched attention's context as it is passed on; `seen` has an axis of heads, in the same memory."""
        changed = self._change(seen(result))
        if changed is None:
            return result
        made = torch.empty_strided(result.shape, result.stride(), dtype=result.dtype, device=result.device)
        seen(made).copy_(changed)
        return made

    def _source(self, value: Any) -> _Product | _Softmax | None:
        return self._seen.sources.get(id(value)) if isinstance(value, Tensor) else None

    def _mark(self, tensor: Tensor, source: _Product | _Softmax) -> None:
        self._seen.sources[id(tensor)] = source
        self._seen.alive.append(tensor)

    def _follow(
        self, func: Callable[..., Any], args: tuple[Any, ...], options: Mapping[str, Any], result: Tensor
    ) -> None:
        """Follow an operand through a watched function: a softmax begins anew, other results are of its first."""
        operands = (*args, *options.values())
        source = next((found for value in operands if (found := self._source(value)) is not None), None)
        if source is None:
            return
        if func in _SOFTMAX:
            if isinstance(source, _Product):
                self._mark(result, _Softmax(source))
            return
        if isinstance(source, _Product) and source.open and func not in _KEEP:
            factor = _factor(func, args)
            source.open = factor is not None
            source.scale *= factor if factor is not None else 1.0
        self._mark(result, source)

    def _product(
        self, func: Callable[..., Any], args: tuple[Any, ...], options: Mapping[str, Any], result: Tensor
    ) -> Tensor:
        """Note what a watched product is made of; gives what is passed on."""
        operands = _operands(func, args, options)
        if operands is None:
            return result
        left, right, scale = operands
        tensors = _einsum_tensors(args) if func is torch.einsum else args
        source = next((found for tensor in tensors if isinstance(found := self._source(tensor), _Softmax)), None)
        if isinstance(source, _Softmax):
            result = self._changed(result, lambda tensor: self._with_heads(_context(func, args, tensor)))
            context = _context(func, args, result).clone()  # some files add to it in place
            parts = (source.scores.left, source.scores.right, right.transpose(-1, -2), left, context)
            query, key, value, probabilities, output = (self._with_heads(part) for part in parts)
            scale = source.scores.scale
            self._seen.calls.append(WatchedCall(query, key, value, scale, probabilities, output, self._positions))
        else:
            self._mark(result, _Product(left, right, scale))
        return result

    def _with_heads(self, tensor: Tensor) -> Tensor:
        """A watched tensor with an axis of heads: (batch·head, …) as (batch, head, …)."""
        return tensor.unflatten(0, (self._batch, -1)) if tensor.ndim == 3 else tensor


def _factor(func: Callable[..., Any], args: tuple[Any, ...]) -> float | None:
    """The number that a watched product is multiplied with; None for anything else."""
    if func not in _MULTIPLY | _DIVIDE or len(args) != 2:
        return None
    number = args[1] if isinstance(args[0], Tensor) and args[0].numel() > 1 else args[0]
    if isinstance(number, Tensor):
        if number.numel() != 1:
            return None
        number = number.item()
    if not isinstance(number, (int, float)):
        return None
    return 1 / number if func in _DIVIDE else float(number)


def _operands(
    func: Callable[..., Any], args: tuple[Any, ...], options: Mapping[str, Any]
) -> tuple[Tensor, Tensor, float] | None:
    """A watched product's operands as (…, row, inner) and (…, column, inner); None if it is none of matrices."""
    if func is torch.einsum:
        return _einsum_operands(args)
    if func in (torch.baddbmm, Tensor.baddbmm):
        left, right = options.get("batch1", args[1:2]), options.get("batch2", args[2:3])
        left, right = (given if isinstance(given, Tensor) else given[0] for given in (left, right))
        return left, right.transpose(-1, -2), float(options.get("alpha", 1.0))
    left, right = args[:2]
    if left.ndim < 3 or right.ndim < 3:
        return None
    return left, right.transpose(-1, -2), 1.0


def _einsum_operands(args: tuple[Any, ...]) -> tuple[Tensor, Tensor, float] | None:
    left, right, shared, rows, columns, inner = _einsum_letters(args) or ("",) * 6
    if len(inner) != 1 or not shared:
        return None
    first, second = _einsum_tensors(args)
    return _permuted(first, left, shared + rows + inner), _permuted(second, right, shared + columns + inner), 1.0


def _einsum_letters(args: tuple[Any, ...]) -> tuple[str, str, str, str, str, str] | None:
    """The letters of an einsum's equation: both operands', and by role: shared, rows, columns, contracted."""
    if not isinstance(args[0], str) or args[0].count(",") != 1 or "->" not in args[0]:
        return None
    left, right, output = _equation(args)
    shared = "".join(letter for letter in output if letter in left and letter in right)
    rows = "".join(letter for letter in output if letter in left and letter not in right)
    columns = "".join(letter for letter in output if letter in right and letter not in left)
    inner = "".join(letter for letter in left if letter in right and letter not in output)
    return left, right, shared, rows, columns, inner


def _equation(args: tuple[Any, ...]) -> tuple[str, str, str]:
    """An einsum's equation: letters of both operands and of the result; those of an ellipsis are capitals."""
    left, right, output = re.split(",|->", args[0].replace(" ", ""))
    first, _ = _einsum_tensors(args)
    capitals = ascii_uppercase[: first.ndim - len(left.replace("...", ""))]
    return left.replace("...", capitals), right.replace("...", capitals), output.replace("...", capitals)


def _einsum_tensors(args: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    first, second = args[1] if isinstance(args[1], (tuple, list)) else args[1:]
    return first, second


def _permuted(tensor: Tensor, letters: str, order: str) -> Tensor:
    return tensor.permute([letters.index(letter) for letter in order])


def _context(func: Callable[..., Any], args: tuple[Any, ...], result: Tensor) -> Tensor:
    """A watched softmax attention's context, weights·v as (…, query, head_dim)."""
    if func is not torch.einsum:
        return result
    letters = _einsum_letters(args)
    assert letters is not None, "its operands were found by the same letters"
    _, _, shared, rows, columns, _ = letters
    return _permuted(result, _equation(args)[2], shared + rows + columns)


def _fused_call(args: tuple[Any, ...], options: Mapping[str, Any], result: Tensor) -> BackendCall:
    """A watched call of torch's own fused attention, whose weights are computed separately."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale")
    given = dict(zip(names, args, strict=False)) | dict(options)
    query = given["query"]
    scale = given.get("scale")
    return BackendCall(
        module=torch.nn.Identity(),
        eager=_plain_attention,
        query=query,
        key=given["key"],
        value=given["value"],
        mask=given.get("attn_mask"),
        options={"scaling": query.shape[-1] ** -0.5 if scale is None else scale},
        output=result.transpose(1, 2),
        reported=None,
        causal=bool(given.get("is_causal", False)),
    )


def _plain_attention(
    _module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float
) -> tuple[Tensor, Tensor]:
    """softmax(q·kᵀ·scaling + mask) in the place of torch's fused call that is watched; shapes as in BackendCall."""
    repeats = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(repeats, 1).transpose(-1, -2) * scaling
    weights = functional.softmax(scores if mask is None else scores + mask, dim=-1)
    return weights @ value.repeat_interleave(repeats, 1), weights
