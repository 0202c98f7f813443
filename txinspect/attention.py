"""q, k, v, scores, weights and context, recorded while an attention module runs, without touching what it computes.

Most models hand q, k and v to an attention backend; there the call is recorded, and beside it the weights are computed
from the same q, k, v and mask with the eager function of the model's own file, in blocks of query rows. The others
compute the softmax in code of their own; there the products before and after the softmax are watched as they happen.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from txinspect.errors import StageError

if TYPE_CHECKING:
    from torch import Tensor, dtype, nn
    from transformers import PreTrainedModel

BLOCK_ELEMENTS = 1 << 23
"""Weights computed at a time: 32 MB in float32."""

Rows = slice | list[int]
Coordinates = dict[str, list[int]] | None


@dataclass(frozen=True)
class Recorded:
    """A tensor as it was recorded: a factory of blocks along the query axis, one block where it is there as a whole."""

    shape: tuple[int, ...]
    dtype: dtype
    blocks: Callable[[], Iterator[Tensor]]

    @classmethod
    def of(cls, tensor: Tensor) -> Recorded:
        """A tensor that is there as a whole."""
        return cls(tuple(tensor.shape), tensor.dtype, lambda: iter((tensor,)))

    def whole(self) -> Tensor:
        """The tensor in one piece."""
        import torch

        pieces = list(self.blocks())
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-2)


@dataclass(frozen=True)
class Selection:
    """The heads and query rows that were asked for; None for all."""

    heads: tuple[int, ...] | None = None
    queries: tuple[int, ...] | None = None


class Call(Protocol):
    """One softmax attention of a module, as it was computed."""

    @property
    def has_sinks(self) -> bool:
        """Whether part of each query's attention goes to sinks, so that its weights sum to less than 1."""

    def part(self, name: str, selection: Selection) -> tuple[Recorded, Coordinates]:
        """The tensor of the stage `layers.{i}.attention.NAME`, and the positions kept of axes that were cut.

        Raises StageError for a head that the module does not have, and for a part that cannot be had.
        """


Receive = Callable[["nn.Module", Call], None]


@dataclass(frozen=True)
class BackendCall:
    """A call of an attention backend: what it was given and what it returned."""

    module: nn.Module
    eager: Callable[..., tuple[Tensor, Tensor | None]]
    query: Tensor
    """(batch, head, query, head_dim)"""
    key: Tensor
    """(batch, kv_head, key, head_dim)"""
    value: Tensor
    """(batch, kv_head, key, head_dim)"""
    mask: Tensor | None
    """(batch or 1, head or 1, query, key): additive, or boolean with True where a key is seen; None: see `causal`."""
    options: Mapping[str, Any]
    """What else the backend was given: scaling, sinks, soft-capping, …"""
    output: Tensor
    """(batch, query, head, head_dim), as the backend returned it"""
    reported: Tensor | None
    """(batch, head, query, key): the weights, where the backend returned them"""
    causal: bool
    """What no mask means to the backend: every query sees the keys up to itself, or all."""

    @property
    def has_sinks(self) -> bool:
        """See Call."""
        return any(self.options.get(name) is not None for name in ("s_aux", "sinks")) or hasattr(self.module, "sinks")

    def part(self, name: str, selection: Selection) -> tuple[Recorded, Coordinates]:
        """See Call."""
        heads = checked_heads(selection.heads, self.query.shape[1])
        if name in ("k", "v"):
            tensor = self.key if name == "k" else self.value
            groups = heads and sorted({head // (self.query.shape[1] // tensor.shape[1]) for head in heads})
            return Recorded.of(take(tensor, 1, groups)), coordinates(kv_head=groups)
        if name in ("q", "context"):
            tensor = self.query if name == "q" else self.output.transpose(1, 2)
            return Recorded.of(take(tensor, 1, heads)), coordinates(head=heads)
        queries = None if selection.queries is None else list(selection.queries)
        compute = self._scores if name == "scores" else self._weights
        return self._pattern(compute, heads, queries), coordinates(head=heads, query=queries)

    def _pattern(
        self, compute: Callable[[Rows], Tensor], heads: list[int] | None, queries: list[int] | None
    ) -> Recorded:
        """Scores or weights, whole where they fit into a block, else computed anew in each round over the blocks."""
        batch, count, length, _ = self.query.shape
        keys = self.key.shape[2]
        rows = length if queries is None else len(queries)
        step = max(1, BLOCK_ELEMENTS // (batch * count * keys))
        shape = (batch, count if heads is None else len(heads), rows, keys)

        def block(start: int) -> Tensor:
            chosen = slice(start, start + step) if queries is None else queries[start : start + step]
            return take(compute(chosen), 1, heads)

        if rows <= step:
            return Recorded.of(block(0))
        return Recorded(shape, self.query.dtype, lambda: (block(start) for start in range(0, rows, step)))

    def _scores(self, rows: Rows) -> Tensor:
        """Scaled q·kᵀ of some query rows: (batch, head, rows, key)."""
        key = self.key.repeat_interleave(self.query.shape[1] // self.key.shape[1], dim=1)
        scaling = self.options.get("scaling")
        scaling = 1 / math.sqrt(self.query.shape[-1]) if scaling is None else scaling
        scores: Tensor = self.query[:, :, rows] @ key.transpose(-1, -2) * scaling
        return scores

    def _weights(self, rows: Rows) -> Tensor:
        """Attention weights of some query rows: (batch, head, rows, key)."""
        if self.reported is not None:
            return self.reported[:, :, rows]
        options = {name: self._rows_of(option, rows) for name, option in self.options.items()}
        mask = self._additive_mask(rows)
        _, weights = self.eager(self.module, self.query[:, :, rows], self.key, self.value, mask, **options)
        if weights is None:
            raise StageError(f"the eager attention of {type(self.module).__name__} returns no weights")
        return weights

    def _rows_of(self, option: Any, rows: Rows) -> Any:
        """The part of an option that belongs to some query rows: a position bias has an axis of queries."""
        import torch

        has_queries = isinstance(option, torch.Tensor) and option.ndim >= 3 and option.shape[-2] == self.query.shape[2]
        return option[..., rows, :] if has_queries else option

    def _additive_mask(self, rows: Rows) -> Tensor | None:
        """The mask of some query rows, as the eager function adds it: (batch or 1, head or 1, rows, key)."""
        import torch

        queries, keys = self.query.shape[2], self.key.shape[2]
        mask = self.mask
        if mask is None:
            if not self.causal:
                return None
            mask = self.query.new_ones(queries, keys, dtype=torch.bool).tril(keys - queries)[None, None]
        mask = mask[..., rows, :keys]
        if mask.dtype != torch.bool:
            return mask
        lowest = torch.finfo(self.query.dtype).min
        return torch.zeros_like(mask, dtype=self.query.dtype).masked_fill_(~mask, lowest)


@contextmanager
def recording(model: PreTrainedModel, modules: Collection[nn.Module], receive: Receive) -> Iterator[None]:
    """While open, `receive` gets every softmax attention that one of the modules computes."""
    with ExitStack() as stack:
        stack.enter_context(_backends(model, modules, receive))
        for module in modules:
            if not uses_backend(module):
                stack.enter_context(_watched(module, receive))
        yield


@contextmanager
def _backends(model: PreTrainedModel, modules: Collection[nn.Module], receive: Receive) -> Iterator[None]:
    """Wrap the backends in use, each under its own name.

    A new name would send models with sparse indices down another branch (transformers.modeling_utils.
    AttentionInterface).
    """
    configs = [model.config, *(config for module in modules if (config := getattr(module, "config", None)) is not None)]
    names = {getattr(config, "_attn_implementation", None) or "eager" for config in configs}
    with ExitStack() as stack:
        # Most files share one interface; a few, such as modeling_doge.py, have one of their own.
        for interface in {id(found): found for module in modules for found in _interfaces(module)}.values():
            stack.callback(setattr, interface, "_local_mapping", dict(interface._local_mapping))
            for name in names:
                interface[name] = _recorder(name, interface.get(name), modules, receive)
        yield


def _recorder(
    name: str, registered: Callable[..., Any] | None, modules: Collection[nn.Module], receive: Receive
) -> Callable[..., Any]:
    """A backend that calls the real one, returns its result untouched, and hands the call on."""

    def recorder(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> Any:
        mask, eager = attention_mask, _eager_function(module)
        result = (registered or eager)(module, query, key, value, mask, **options)
        if module in modules:
            is_causal = options.get("is_causal")
            causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
            causal = bool(causal) and name != "eager" and query.shape[2] > 1
            output, reported = result[:2]
            receive(module, BackendCall(module, eager, query, key, value, mask, options, output, reported, causal))
        return result

    return recorder


def uses_backend(module: nn.Module) -> bool:
    """Whether a module's forward hands q, k and v to an attention backend."""
    return "ALL_ATTENTION_FUNCTIONS" in inspect.unwrap(type(module).forward).__code__.co_names


def _interfaces(module: nn.Module) -> list[Any]:
    """The registry of backends that a module's file uses, if it does."""
    return [
        found for found in [getattr(sys.modules[type(module).__module__], "ALL_ATTENTION_FUNCTIONS", None)] if found
    ]


def _eager_function(module: nn.Module) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """The eager attention of the file that defines a module's class."""
    for base in type(module).__mro__:
        function = getattr(sys.modules[base.__module__], "eager_attention_forward", None)
        if function is not None:
            found: Callable[..., tuple[Tensor, Tensor | None]] = function
            return found
    raise StageError(f"{type(module).__name__} has no eager attention function beside it")


@contextmanager
def _watched(module: nn.Module, receive: Receive) -> Iterator[None]:
    """Watch the softmaxes of a module that computes them itself."""
    from txinspect.watching import SoftmaxWatch

    watches: list[SoftmaxWatch] = []

    def begin(_module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        states = args[0] if args else kwargs["hidden_states"]
        watches.append(SoftmaxWatch(batch=states.shape[0]))
        watches[-1].__enter__()  # type: ignore[no-untyped-call]

    def end(*_: Any) -> None:
        watch = watches.pop()
        watch.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        for call in watch.calls():
            receive(module, call)

    handles = [
        module.register_forward_pre_hook(begin, with_kwargs=True),
        # always_call: the watch must end where the module fails, too.
        module.register_forward_hook(end, prepend=True, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for watch in reversed(watches):
            watch.__exit__(None, None, None)  # type: ignore[no-untyped-call]


def checked_heads(heads: Sequence[int] | None, count: int) -> list[int] | None:
    """The heads as a list. Raises StageError for one that the module does not have."""
    beyond = [head for head in heads or () if head >= count]
    if beyond:
        raise StageError(f"head {beyond[0]} is out of range: this layer has heads 0 to {count - 1}")
    return None if heads is None else list(heads)


def take(tensor: Tensor, axis: int, positions: list[int] | None) -> Tensor:
    """Some positions of an axis; the tensor itself where all are asked."""
    import torch

    if positions is None:
        return tensor
    return tensor.index_select(axis, torch.tensor(positions, device=tensor.device))


def coordinates(**axes: list[int] | None) -> Coordinates:
    """The axes that were cut, with the positions kept; None where none was."""
    return {axis: positions for axis, positions in axes.items() if positions is not None} or None
