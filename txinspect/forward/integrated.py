"""Integrated gradients of a value of the logits, from token embeddings of zero (Sundararajan et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from txinspect.anatomy.architecture import Supply
from txinspect.errors import InspectError, PassError, StageError, first_line
from txinspect.forward import taps
from txinspect.forward.attention import recorder
from txinspect.forward.contributions import without_gradients
from txinspect.forward.edits import Write
from txinspect.forward.inputs import call, lengths_of, logits_of

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

ROWS = 16
"""Points of the path in one pass."""


POWER = 8
"""Of even steps, by which the path is walked: of Llama's norms, 256 steps then miss nothing, and 4,096 do by 1."""


@dataclass(frozen=True)
class Path:
    """A model, and the straight path from embeddings of zero to a text's own."""

    model: PreTrainedModel
    inputs: Mapping[str, Tensor]
    """Of one text: (1, seq) each."""
    writes: tuple[Write, ...]
    """Edits, which are made before."""
    supplies: Sequence[Supply]
    """The token embeddings of each stack."""
    of: Callable[[Tensor], Tensor]
    """What of the logits, (batch, seq, vocab), is followed: (batch)."""

    def ends(self) -> tuple[float, float]:
        """The value with embeddings of zero, and with the text's own."""
        values, _ = self._gradients([0.0, 1.0])
        return values[0], values[1]

    def shares(self, steps: int) -> list[Tensor]:
        """What each token of each stack adds on the way, (seq), in float64, by the midpoint rule with so many steps.

        The path is walked by a power of even steps: norms without a bias turn where the embeddings are all but zero,
        each by a factor of 1 / sqrt(eps).
        """
        import torch

        middles = [(step + 0.5) / steps for step in range(steps)]
        totals: list[Tensor] = []
        for begin in range(0, steps, ROWS):
            part = middles[begin : begin + ROWS]
            _, found = self._gradients([middle**POWER for middle in part])
            weights = torch.tensor([POWER * middle ** (POWER - 1) / steps for middle in part], dtype=torch.float64)
            sums = [weights @ each for each in found]
            totals = [one + other for one, other in zip(totals, sums, strict=True)] if totals else sums
        return totals

    def _gradients(self, places: Sequence[float]) -> tuple[list[float], list[Tensor]]:
        """At each place of the path: the value, and of each stack gradient · embedding of each token, (place, seq)."""
        import torch

        leaves: dict[Supply, tuple[Tensor, Tensor]] = {}

        def scaling(supply: Supply) -> Callable[[Tensor], Tensor]:
            def scale(own: Tensor) -> Tensor:
                along = torch.tensor(places, device=own.device, dtype=own.dtype).view(-1, *(1,) * (own.ndim - 1))
                if own.shape[0] != len(places):
                    raise StageError(f"{supply.name!r} does not keep several texts apart: its shape is {[*own.shape]}")
                leaf = (own.detach() * along).requires_grad_()
                leaves[supply] = own.detach(), leaf
                return leaf.clone()

            return scale

        every = [*self.writes, *(Write(supply, scaling(supply)) for supply in self.supplies)]
        inputs = {name: each.repeat(len(places), *(1,) * (each.ndim - 1)) for name, each in self.inputs.items()}
        lengths, changes = lengths_of(inputs), taps.in_attention(self.model, every)
        with torch.enable_grad(), without_gradients(self.model), ExitStack() as hooks:
            hooks.enter_context(taps.written(self.model, every, lengths))
            receive, batch = (lambda *_: None), lengths[""][0]
            hooks.enter_context(recorder.recording(self.model, list(changes), receive, batch, changes))
            try:
                values = self.of(logits_of(call(self.model, inputs)))
                found = torch.autograd.grad(values.sum(), [leaf for _, leaf in leaves.values()])
            except (InspectError, KeyboardInterrupt):
                raise
            except Exception as error:
                raise PassError(f"pass with gradients failed: {type(error).__name__}: {first_line(error)}") from error
        products = [
            (own.double() * gradient.double()).sum(-1).cpu()
            for (own, _), gradient in zip(leaves.values(), found, strict=True)
        ]
        return values.detach().double().tolist(), products
