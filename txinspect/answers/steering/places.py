"""Where a vector stands: stages that every token has a hidden state at, and what is read and written there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from txinspect.commands.steer import SteerQuery
from txinspect.errors import StageError, spelled
from txinspect.forward import taps
from txinspect.forward.wants import check_layers, plan_of_names
from txinspect.loading.subject import Subject

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.anatomy.architecture import Supply
    from txinspect.forward.capture import CaughtTensor


def asked(query: SteerQuery, subject: Subject) -> list[str]:
    """The stages that a query names: outputs of layers, or others; none where it names none."""
    stack = subject.architecture.main
    if query.layers is None:
        return list(query.stages)
    layers = check_layers(subject.source.name, query.layers, len(stack.layers))
    return [at(stack.prefix, layer) for layer in layers]


def at(prefix: str, layer: int) -> str:
    """The stage of a stack that a layer's vector stands at."""
    return f"{prefix}layers.{layer}.output"


def supplies(subject: Subject, stages: Sequence[str]) -> list[Supply]:
    """What supplies the stages of vectors. Raises StageError for one that cannot be changed by a vector."""
    found = list(dict.fromkeys(want.supply for want in plan_of_names(subject, stages).wants))
    for supply in found:
        if reason := taps.refusal(subject.as_configured, supply):
            raise StageError(f"{supply.name!r} cannot be changed: {reason}")
        if supply.axes not in (None, ("batch", "seq", "hidden")):
            raise StageError(
                f"{supply.name!r} has no vector for each token: its axes are {', '.join(supply.axes or ())}",
                "give a stage such as layers.2.output",
            )
    names = [supply.name for supply in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise StageError(f"{twice!r} is supplied by several modules: no vector stands there", "give another")
    return found


def hidden_states(caught: CaughtTensor, tokens: int, specials: Sequence[int]) -> Tensor:
    """What is recorded at the ordinary tokens of a text, (seq, hidden); at special ones where it has no others.

    Raises StageError for a tensor that has no vector for each token.
    """
    shape = caught.tensor.shape
    if len(shape) != 3 or tuple(shape[:2]) != (1, tokens):
        raise StageError(
            f"{caught.want.supply.name!r} is {list(shape)} for {tokens} tokens: it has no vector for each",
            f"give another {spelled('layers')} or {spelled('stages')}",
        )
    ordinary = [each for each in range(tokens) if each not in specials] or list(range(tokens))
    return caught.copied()[0, ordinary]
