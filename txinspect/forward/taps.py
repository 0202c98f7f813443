"""Tensors of a pass that are written where they are read: the inverse of recording, in the layout of the original.

A module's input and output are written by hooks, q, k, v and context where attention is recorded. The model's own value
written back leaves every bit of the pass as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from txinspect.anatomy.architecture import Supply
from txinspect.errors import StageError
from txinspect.forward.attention.recorder import uses_backend
from txinspect.forward.edits import Write
from txinspect.forward.hooks import Change, rewriting_input, rewriting_output
from txinspect.forward.values import unflatten

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


def refusal(model: PreTrainedModel, supply: Supply) -> str | None:
    """Why a stage's tensor cannot be written; None if it can."""
    if supply.reason is not None:
        return supply.reason
    if supply.tap == "logits":
        return "nothing reads the logits"
    if supply.tap == "table":
        return "a table of positions is made again by whatever reads it"
    if supply.part in ("router", "experts") or ".router." in f".{supply.within}.":
        return "the experts are chosen by code that does not read what the router passes on"
    if supply.tap != "attention" or supply.part == "context":
        return None
    if supply.part not in ("q", "k", "v", "scores", "weights"):
        return "it is a part of the scores, which are changed as a whole"
    module = model.get_submodule(supply.module or "")
    if not uses_backend(module):
        return f"{type(module).__name__} computes attention in code of its own, which hands {supply.part} to nobody"
    return None


def check_writable(model: PreTrainedModel, writes: Sequence[Write]) -> None:
    """Raise StageError for a stage whose tensor cannot be written."""
    for write in writes:
        if reason := refusal(model, write.supply):
            raise StageError(f"{write.supply.name!r} cannot be changed: {reason}")


@contextmanager
def written(model: PreTrainedModel, writes: Sequence[Write], shapes: Mapping[str, tuple[int, int]]) -> Iterator[None]:
    """While open, stages' tensors are written: modules read and pass on what `writes` make of them, in their order.

    `shapes` has (batch, seq) of each stack's text, by its prefix.
    """
    with ExitStack() as stack:
        for write in writes:
            module = model.get_submodule(write.supply.module or "")
            change = _change(write, shapes.get(write.supply.stack))
            if write.supply.tap == "input":
                stack.enter_context(rewriting_input(module, change))
            elif write.supply.tap == "output":
                stack.enter_context(rewriting_output(module, change, write.supply.pick))
        yield


def in_attention(
    model: PreTrainedModel, writes: Sequence[Write]
) -> dict[nn.Module, Callable[[str, Tensor], Tensor | None]]:
    """What writes q, k, v and context in each attention module; None is given for a part that stays."""
    by_part: dict[nn.Module, dict[str, list[Change]]] = {}
    for write in writes:
        if write.supply.tap == "attention":
            module = model.get_submodule(write.supply.module or "")
            by_part.setdefault(module, {}).setdefault(write.supply.part, []).append(_change(write, None))

    return {module: PartsChanged(parts) for module, parts in by_part.items()}


@dataclass(frozen=True)
class PartsChanged:
    """What writes the parts of an attention, in the order in which they were asked for."""

    parts: Mapping[str, Sequence[Change]]
    """By the part: q, k, v, scores, weights, context."""

    def __call__(self, part: str, own: Tensor) -> Tensor | None:
        """What a part of the attention is written to; None where it stays."""
        changed = None
        for each in self.parts.get(part, ()):
            made = each(own if changed is None else changed)
            changed = changed if made is None else made
        return changed


def _change(write: Write, shape: tuple[int, int] | None) -> Change:
    """What a write makes of a stage's tensor as the module has it, in the runs that are the stage's."""
    supply, runs = write.supply, Counter[Supply]()
    by_token = shape is not None and supply.axes and supply.axes[:2] == ("batch", "seq")

    def change(own: Tensor) -> Tensor | None:
        runs[supply] += 1
        if supply.run not in (None, runs[supply]):
            return None
        seen = unflatten(own, shape) if by_token and shape is not None else own
        made = write.change(seen)
        if made.shape != seen.shape:
            raise StageError(
                f"{supply.name!r} has the shape {list(seen.shape)} here, and {list(made.shape)} was to be written"
            )
        return made

    return change
