"""What a pass does differently from the model, because it was asked to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from txinspect.anatomy.architecture import Layer
from txinspect.errors import StageError, spelled
from txinspect.forward.hooks import Arguments, before, with_hidden
from txinspect.forward.values import first_tensor, hidden_states

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class Edit(Protocol):
    """A change in what a pass computes."""

    def made(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """While open, the model computes differently."""


@dataclass(frozen=True)
class SkipNorm:
    """The attention of a layer reads the layer's input itself, without the norm in between."""

    layer: Layer

    def made(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """See Edit."""
        return _skipped_norm(model, self.layer)


@contextmanager
def _skipped_norm(model: PreTrainedModel, layer: Layer) -> Iterator[None]:
    if not layer.attentions:
        yield
        return
    seen: list[Any] = []

    def remember(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen[:] = [hidden_states(args, kwargs)]

    def replace(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        given = first_tensor(hidden_states(args, kwargs))
        if not seen or given is None or seen[0].shape != given.shape:
            raise StageError(
                f"{spelled('skip_norm')} cannot leave out just the norm here: in this architecture the attention reads "
                f"something other than the layer's input"
            )
        return with_hidden(args, kwargs, seen[0])

    begin, attention = model.get_submodule(layer.first), model.get_submodule(layer.attentions[0])
    # The replacement comes first, so that a recording hook sees what the attention really reads.
    with before(begin, remember, first=True), before(attention, replace, first=True):
        yield


@dataclass(frozen=True)
class Feed:
    """Each layer reads what it is given here in the place of what the layer before passes on."""

    layers: Mapping[str, Sequence[Tensor]]
    """By the module that begins a layer: (batch, seq, hidden) for each time it runs."""

    def made(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """See Edit."""
        return _fed(model, self.layers)


@contextmanager
def _fed(model: PreTrainedModel, layers: Mapping[str, Sequence[Tensor]]) -> Iterator[None]:
    def feeding(runs: Iterator[Tensor]) -> Any:
        def replace(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
            own, given = first_tensor(hidden_states(args, kwargs)), next(runs, None)
            if own is None or given is None or own.shape != given.shape:
                return None
            return with_hidden(args, kwargs, given.to(own.device, own.dtype))

        return replace

    with ExitStack() as stack:
        for path, given in layers.items():
            stack.enter_context(before(model.get_submodule(path), feeding(iter(given)), first=True))
        yield
