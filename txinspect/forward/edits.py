"""What a pass does differently from the model, because it was asked to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from txinspect.anatomy.architecture import Layer
from txinspect.errors import StageError, spelled
from txinspect.forward.values import first_tensor, hidden_states

if TYPE_CHECKING:
    from torch import Tensor, nn
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

    def remember(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen[:] = [hidden_states(args, kwargs)]

    def replace(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = first_tensor(hidden_states(args, kwargs))
        if not seen or given is None or seen[0].shape != given.shape:
            raise StageError(
                f"{spelled('skip_norm')} cannot leave out just the norm here: in this architecture the attention reads "
                f"something other than the layer's input"
            )
        if args:
            return (seen[0], *args[1:]), kwargs
        return args, kwargs | {"hidden_states": seen[0]}

    with ExitStack() as stack:
        for path, hook in ((layer.first, remember), (layer.attentions[0], replace)):
            module = model.get_submodule(path)
            # The replacement comes first, so that a recording hook sees what the attention really reads.
            stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True, prepend=True).remove)
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
        def replace(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            own, given = first_tensor(hidden_states(args, kwargs)), next(runs, None)
            if own is None or given is None or own.shape != given.shape:
                return None
            other = given.to(own.device, own.dtype)
            return ((other, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": other})

        return replace

    with ExitStack() as stack:
        for path, given in layers.items():
            hook = model.get_submodule(path).register_forward_pre_hook(
                feeding(iter(given)), with_kwargs=True, prepend=True
            )
            stack.callback(hook.remove)
        yield
