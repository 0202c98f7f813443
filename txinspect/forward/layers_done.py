"""How far a pass is: the layers that have started."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from txinspect.forward.hooks import starting
from txinspect.queries import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class LayersDone:
    """A watch that counts the layers of one pass or several, and says how many are done. See edits.Watch."""

    doing: str
    layers: Sequence[str]
    """The paths of the modules that layers begin with; of layers that share one, once for each."""
    passes: int
    progress: Progress
    started: int = 0

    @contextmanager
    def watching(self, model: PreTrainedModel) -> Iterator[None]:
        """While open, each layer that starts is counted."""
        with ExitStack() as stack:
            for path in dict.fromkeys(self.layers):
                stack.enter_context(starting(model.get_submodule(path), self._one))
            yield

    def _one(self) -> None:
        self.progress(self.doing, self.started, len(self.layers) * self.passes)
        self.started += 1
