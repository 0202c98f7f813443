"""The parts of a sum, looked into: what is no sum, MLPs by neuron and expert, tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from txinspect.anatomy import locating
from txinspect.anatomy.families import NO_SUM
from txinspect.answers.running import Running
from txinspect.errors import InspectError, PassError, StageError
from txinspect.forward.contributions import Sum, contributions
from txinspect.forward.inside_mlps import Inside
from txinspect.guards.quiet import quiet
from txinspect.loading.subject import Subject
from txinspect.records import InputRecord

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

__all__ = ["Inside", "cap", "check", "eps", "summed"]


def check(subject: Subject) -> None:
    """Raise InspectError for a model whose logits are no sum of what its parts write, or have no gradients."""
    name, stack = subject.source.name, subject.architecture.main
    if not stack.layers:
        raise StageError(f"{name!r} has no layers whose parts could be added up")
    if reason := NO_SUM.get(subject.architecture.model_type):
        raise StageError(f"{name!r} cannot be added up: {reason}")
    if subject.quantization is not None and not subject.quantization.dequantized:
        raise InspectError(
            f"{name!r} is quantized ({subject.quantization.method}): gradients through its kernels are no sum of parts",
            "omit the quantization",
        )
    stream = next(each for each in stack.supplies() if each.name == f"{stack.prefix}layers.0.output")
    beside = [axis for axis in stream.axes or () if axis.startswith("stream")]
    if beside:
        raise StageError(
            f"{name!r} carries several streams side by side, which its layers mix anew each time: what a part "
            f"writes is not added to one of them"
        )


def cap(model: PreTrainedModel) -> float | None:
    """What caps a model's logits: c·tanh(logits / c)."""
    found = getattr(model.config.get_text_config(decoder=True), "final_logit_softcapping", None)
    return float(found) if found else None


def eps(model: PreTrainedModel) -> float:
    """The step between 1 and the next number of a model's type."""
    import torch

    return float(torch.finfo(model.dtype).eps)


def summed(running: Running, text: InputRecord, value: Callable[[Tensor], Tensor], inside: Inside) -> Sum:
    """The sum of a loaded model's parts that is a value of its logits. Raises InspectError where it cannot be had."""
    model, stack = running.model, running.subject.architecture.main
    locating.settle(model, len(text.tokens))
    try:
        with quiet():
            inputs = running.inputs(text)
            return contributions(model, stack, inputs, running.writes, lambda rows: value(rows)[0], inside, cap(model))
    except PassError as error:
        raise InspectError(f"{running.subject.source.name!r} could not be attributed: its {error}") from error
