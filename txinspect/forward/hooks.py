"""The one way in which modules are watched as they run, and what they read or pass on is replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from txinspect.forward.values import first_tensor, hidden_states, laid_out, picked, with_hidden, with_picked

if TYPE_CHECKING:
    from torch import Tensor, nn

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""What a module is called with: by position, and by name."""

Change = Callable[["Tensor"], "Tensor | None"]
"""Given a tensor as it was computed, what is read in its place; None for itself."""


@contextmanager
def before(
    module: nn.Module, act: Callable[[tuple[Any, ...], dict[str, Any]], Arguments | None], *, first: bool = False
) -> Iterator[None]:
    """While open, a hook `act` sees what a module is called with, ahead of others if it comes `first`; what it returns
    is read in its place, but for None."""

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        return act(args, kwargs)

    handle = module.register_forward_pre_hook(hook, with_kwargs=True, prepend=first)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def after(
    module: nn.Module,
    act: Callable[[tuple[Any, ...], dict[str, Any], Any], Any],
    *,
    first: bool = False,
    always: bool = False,
) -> Iterator[None]:
    """While open, a hook `act` sees what a module was called with and passes on, `always` where it failed, too; what
    it returns is passed on in its place, but for None."""

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        return act(args, kwargs, output)

    handle = module.register_forward_hook(hook, with_kwargs=True, prepend=first, always_call=always)
    try:
        yield
    finally:
        handle.remove()


def starting(module: nn.Module, do: Callable[[], None]) -> AbstractContextManager[None]:
    """While open, a hook does something each time a module starts."""
    return before(module, lambda _args, _kwargs: do())


def reading(module: nn.Module, see: Callable[[Tensor], None]) -> AbstractContextManager[None]:
    """While open, a hook is given the hidden states that a module reads."""

    def act(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found = first_tensor(hidden_states(args, kwargs))
        if found is not None:
            see(found.detach())

    return before(module, act)


def passing(module: nn.Module, see: Callable[[Any], None]) -> AbstractContextManager[None]:
    """While open, a hook is given all that a module passes on."""
    return after(module, lambda _args, _kwargs, output: see(output))


def rewriting_input(module: nn.Module, change: Change) -> AbstractContextManager[None]:
    """While open, a hook makes a module read other hidden states."""

    def act(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        own = first_tensor(hidden_states(args, kwargs))
        changed = None if own is None else change(own)
        return None if own is None or changed is None else with_hidden(args, kwargs, laid_out(changed, own))

    return before(module, act)


def rewriting_output(module: nn.Module, change: Change, pick: int | None = None) -> AbstractContextManager[None]:
    """While open, a hook makes a module pass on another tensor, in the item that `pick` names of several."""

    def act(_args: tuple[Any, ...], _kwargs: dict[str, Any], output: Any) -> Any:
        own = first_tensor(picked(output, pick))
        changed = None if own is None else change(own)
        return None if own is None or changed is None else with_picked(output, pick, laid_out(changed, own))

    return after(module, act)
