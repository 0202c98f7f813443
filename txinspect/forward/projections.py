"""What an attention's output projection makes of the values of each head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from txinspect.errors import StageError
from txinspect.forward.hooks import starting

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclass
class Projections:
    """Which module of each attention runs last: its output projection. A watch: see edits.Watch.

    The rehearsal tells it before the pass, so that it is there when the first weights come.
    """

    attentions: Sequence[str]
    last: dict[str, str] = field(default_factory=dict)
    """By the path of an attention: that of its last module with a matrix."""
    model: PreTrainedModel | None = None

    @contextmanager
    def watching(self, model: PreTrainedModel) -> Iterator[None]:
        """While open, which module of an attention is its output projection is noted."""
        self.model = model
        running: dict[str, str] = {}
        with ExitStack() as stack:
            for attention in self.attentions:
                for path, module in model.get_submodule(attention).named_modules():
                    if path and getattr(getattr(module, "weight", None), "ndim", 0) == 2:
                        ran = partial(running.__setitem__, attention, f"{attention}.{path}")
                        stack.enter_context(starting(module, ran))
            yield
        self.last = running

    def lengths(self, attention: str, values: Tensor) -> Tensor:
        """The length of what the output projection makes of each value: (head, key), of (head, key, head_dim).

        The projection is run on the values of one head at a time, without its bias. Raises StageError for an attention
        whose last module does not read the heads side by side.
        """
        import torch

        heads, keys, width = values.shape
        path = self.last.get(attention)
        if path is None or self.model is None:
            raise StageError(
                f"{attention} has no output projection that ran: values can be weighed by their own length"
            )
        projection = self.model.get_submodule(path)
        found = []
        with torch.no_grad():
            try:
                nothing = projection(values.new_zeros(1, 1, heads * width))
                for head in range(heads):
                    alone = values.new_zeros(1, keys, heads * width)
                    alone[0, :, head * width : (head + 1) * width] = values[head]
                    found.append((projection(alone) - nothing)[0].float().norm(dim=-1))
            except (RuntimeError, ValueError) as error:
                raise StageError(
                    f"{path} does not read {heads} heads of {width} numbers side by side: weigh by the values alone"
                ) from error
        return torch.stack(found)
