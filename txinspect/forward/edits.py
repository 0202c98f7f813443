"""What a pass does differently from the model, because it was asked to; and what merely looks on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from txinspect.anatomy.architecture import Layer, Supply
from txinspect.errors import StageError, spelled
from txinspect.forward.hooks import Change, reading, rewriting_input

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class Edit(Protocol):
    """A change in what a pass computes."""

    def made(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """While open, the pass is edited: the model computes differently."""


class Watch(Protocol):
    """What sees a pass as it goes on, and changes nothing."""

    def watching(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """While open, what this watch of a pass is for is remembered."""


@dataclass(frozen=True, eq=False)
class Write:
    """A stage whose tensor is changed as the pass comes by."""

    supply: Supply
    change: Callable[[Tensor], Tensor]
    """Given the tensor as it is recorded, whole, and before what is recorded of it; gives one of the same shape."""


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
    seen: list[Tensor] = []

    def remember(hidden: Tensor) -> None:
        seen[:] = [hidden]

    def replace(own: Tensor) -> Tensor:
        if not seen or seen[0].shape != own.shape:
            raise StageError(
                f"{spelled('skip_norm')} cannot leave out just the norm here: in this architecture the attention reads "
                f"something other than the layer's input"
            )
        return seen[0]

    begin, attention = model.get_submodule(layer.first), model.get_submodule(layer.attentions[0])
    with reading(begin, remember), rewriting_input(attention, replace):
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
    def feeding(runs: Iterator[Tensor]) -> Change:
        def given(own: Tensor) -> Tensor | None:
            found = next(runs, None)
            return found if found is not None and found.shape == own.shape else None

        return given

    with ExitStack() as stack:
        for path, given in layers.items():
            stack.enter_context(rewriting_input(model.get_submodule(path), feeding(iter(given))))
        yield
