"""Record softmax attention while modules run, without touching what they compute, or with parts of it changed.

Most models hand q, k and v to an attention backend, where the call is recorded. The others compute the softmax in code
of their own, where the products before and after it are watched.
"""

from __future__ import annotations

import inspect
import sys
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from txinspect.anatomy.families import POSITION_SCORES
from txinspect.errors import StageError
from txinspect.forward.attention.calls import BackendCall, Call
from txinspect.forward.attention.reweighing import reweighed
from txinspect.forward.hooks import after, starting
from txinspect.forward.values import laid_out
from txinspect.guards.patching import patched

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from txinspect.forward.attention.softmax_watch import SoftmaxWatch

Receive = Callable[["nn.Module", Call], None]
"""Given a module and one attention that it computed."""

ChangePart = Callable[[str, "Tensor"], "Tensor | None"]
"""Given q, k, v or context by name, as it is recorded, what is computed with in its place; None for itself."""

Changes = Mapping["nn.Module", ChangePart]

NO_CHANGES: Changes = MappingProxyType({})


@contextmanager
def recording(
    model: PreTrainedModel,
    modules: Collection[nn.Module],
    receive: Receive,
    batch: int,
    changes: Changes = NO_CHANGES,
) -> Iterator[None]:
    """While open, `receive` records every softmax attention that one of the modules computes, for `batch` texts.

    What `changes` has for one of them comes before: what is recorded is what was computed with. Where a module's code
    is its own, the context alone can be changed.
    """
    with ExitStack() as stack:
        stack.enter_context(_backends(model, modules, receive, changes))
        for module in modules:
            if not uses_backend(module):
                stack.enter_context(_watched(module, receive, batch, changes.get(module, _unchanged)))
        yield


def _unchanged(_part: str, _own: Tensor) -> None:
    """Changes no part of a recorded attention."""


@contextmanager
def _backends(
    model: PreTrainedModel, modules: Collection[nn.Module], receive: Receive, changes: Changes
) -> Iterator[None]:
    """Record in the attention backends in use: each is wrapped under its own name.

    A new name would send models with sparse indices down another branch (transformers.modeling_utils.
    AttentionInterface).
    """
    configs = [model.config, *(config for module in modules if (config := getattr(module, "config", None)) is not None)]
    names = {getattr(config, "_attn_implementation", None) or "eager" for config in configs}
    with ExitStack() as stack:
        # Most files share one interface; a few, such as modeling_doge.py, have one of their own.
        for interface in {id(found): found for module in modules for found in _interfaces(module)}.values():
            recorders = {name: _recorder(name, interface.get(name), modules, receive, changes) for name in names}
            stack.enter_context(patched(interface, "_local_mapping", {**interface._local_mapping, **recorders}))
        yield


def _recorder(
    name: str,
    registered: Callable[..., Any] | None,
    modules: Collection[nn.Module],
    receive: Receive,
    changes: Changes,
) -> Callable[..., Any]:
    """A recording backend: it calls the real one, returns its result but for `changes`, and hands the call on."""

    def recorder(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> Any:
        mask, eager, change = attention_mask, _eager_function(module), changes.get(module, _unchanged)
        query, key, value = (_changed(change, part, own) for part, own in zip("qkv", (query, key, value), strict=True))
        result = (registered or eager)(module, query, key, value, mask, **options)
        is_causal = options.get("is_causal")
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        causal = bool(causal) and name != "eager" and query.shape[2] > 1
        output, reported = result[:2]
        call = BackendCall(module, eager, query, key, value, mask, options, output, reported, causal)
        call = reweighed(call, change)
        changed = change("context", call.output.transpose(1, 2))
        if changed is not None:
            call = replace(call, output=laid_out(changed.transpose(1, 2), call.output))
        if call.output is not result[0]:
            result = (call.output, *result[1:])
        if module in modules:
            receive(module, call)
        return result

    return recorder


def _changed(change: ChangePart, part: str, own: Tensor) -> Tensor:
    """A part of a recorded attention as it is computed with, changed or not."""
    changed = change(part, own)
    return own if changed is None else laid_out(changed, own)


def uses_backend(module: nn.Module) -> bool:
    """Whether a module's attention is recorded at a backend: its forward hands q, k and v to one."""
    return "ALL_ATTENTION_FUNCTIONS" in inspect.unwrap(type(module).forward).__code__.co_names


def _interfaces(module: nn.Module) -> list[Any]:
    """The registries of attention backends that a module's file uses, if it does."""
    return [
        found for found in [getattr(sys.modules[type(module).__module__], "ALL_ATTENTION_FUNCTIONS", None)] if found
    ]


def _eager_function(module: nn.Module) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """The eager attention backend of the file that defines a module's class, to be recorded."""
    for base in type(module).__mro__:
        function = getattr(sys.modules[base.__module__], "eager_attention_forward", None)
        if function is not None:
            found: Callable[..., tuple[Tensor, Tensor | None]] = function
            return found
    raise StageError(f"{type(module).__name__} has no eager attention function beside it")


@contextmanager
def _watched(module: nn.Module, receive: Receive, batch: int, change: ChangePart) -> Iterator[None]:
    """Record the attention of a module that computes its softmaxes itself, by watching them."""
    from txinspect.forward.attention.softmax_watch import SoftmaxWatch

    watches: list[SoftmaxWatch] = []

    def begin() -> None:
        watches.append(SoftmaxWatch(batch, partial(change, "context")))
        watches[-1].__enter__()  # type: ignore[no-untyped-call]

    def end(_args: Any, _kwargs: Any, _output: Any) -> None:
        watch = watches.pop()
        watch.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        for call in watch.calls():
            receive(module, call)

    def positions(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def score(*args: Any, **options: Any) -> Tensor:
            result = original(module, *args, **options)
            watches[-1].note_positions(lambda: _position_parts(module, original, result, args, options))
            return result

        return score

    try:
        # The watch must end where the module fails, too.
        with starting(module, begin), after(module, end, first=True, always=True), ExitStack() as stack:
            for method in POSITION_SCORES.get(type(module).__name__, ()):
                if hasattr(module, method):
                    stack.enter_context(patched(module, method, positions(getattr(type(module), method))))
            yield
    finally:
        for watch in reversed(watches):
            watch.__exit__(None, None, None)  # type: ignore[no-untyped-call]


def _position_parts(
    module: Any, score: Callable[..., Tensor], total: Tensor, args: Sequence[Any], options: Mapping[str, Any]
) -> dict[str, Tensor]:
    """What DeBERTa adds to attention scores for positions: the module's own code is asked for a part at a time.

    It runs on a copy that shares the weights and has no hooks, so that nobody sees it run.
    """
    kinds = {"c2p": "content_to_position", "p2c": "position_to_content"}
    parts = {"position": total}
    for kind, name in kinds.items():
        if kind in module.pos_att_type:
            twin = _without_hooks(module)
            twin.pos_att_type = [kind]
            parts[name] = score(twin, *args, **options)
    return parts


def _without_hooks(module: nn.Module) -> Any:
    """A copy of an attention module that shares its weights, with copies of its modules; none of them has hooks."""
    twin = copy(module)
    twin._forward_hooks, twin._forward_pre_hooks = OrderedDict(), OrderedDict()
    twin._modules = {name: child and _without_hooks(child) for name, child in module._modules.items()}
    return twin
