"""A pass that goes on from a layer: those before it compute nothing, and pass on what they did in an earlier pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from txinspect.forward.hooks import passing
from txinspect.guards.patching import patched

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class CannotResumeError(Exception):
    """What a module passed on cannot be passed on for several texts."""


@dataclass
class Passed:
    """A watch that keeps what modules pass on, whole. See edits.Watch."""

    paths: Sequence[str]
    outputs: dict[str, list[Any]] = field(default_factory=dict)
    """By module, for each time it ran."""

    @contextmanager
    def watching(self, model: PreTrainedModel) -> Iterator[None]:
        """While open, what the modules pass on is kept, copied: what follows may write into it."""
        with ExitStack() as stack:
            for path in self.paths:
                stack.enter_context(passing(model.get_submodule(path), self._keep(path)))
            yield

    def _keep(self, path: str) -> Callable[[Any], None]:
        own = self.outputs.setdefault(path, [])
        return lambda output: own.append(_copied(output))


def _copied(output: Any) -> Any:
    """What a module passed on, copied; a mark for what cannot be passed on again."""
    try:
        return repeated(output, 1)
    except CannotResumeError as error:
        return error


@dataclass(frozen=True)
class Resume:
    """Modules compute nothing, and pass on what they did before, as often as the batch has texts. See edits.Edit."""

    outputs: Mapping[str, Any]
    copies: int

    def made(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """See edits.Edit. Raises CannotResumeError for what cannot be passed on."""
        return _resumed(model, {path: repeated(output, self.copies) for path, output in self.outputs.items()})


@contextmanager
def _resumed(model: PreTrainedModel, outputs: Mapping[str, Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for path, output in outputs.items():
            stack.enter_context(patched(model.get_submodule(path), "forward", _passing_on(output)))
        yield


def _passing_on(output: Any) -> Any:
    def forward(*_args: Any, **_options: Any) -> Any:
        return output

    return forward


def repeated(output: Any, copies: int) -> Any:
    """What a module passed on for one text, (1, …), for so many: tensors in tuples, lists and mappings.

    Raises CannotResumeError for anything else, such as a cache.
    """
    import torch

    if output is None or isinstance(output, (bool, int, float)):
        return output
    if isinstance(output, torch.Tensor):
        if output.ndim and output.shape[0] == 1:
            return output.repeat(copies, *(1,) * (output.ndim - 1))
        raise CannotResumeError(f"a tensor of shape {list(output.shape)}")
    if isinstance(output, tuple) and type(output) is tuple:
        return tuple(repeated(each, copies) for each in output)
    if isinstance(output, Mapping):
        return type(output)(**{name: repeated(each, copies) for name, each in output.items()})
    raise CannotResumeError(type(output).__name__)
