"""Stages that are written in a pass, and what the pass makes of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from txinspect.anatomy import locating
from txinspect.anatomy.architecture import Supply
from txinspect.forward import capture, taps
from txinspect.forward.capture import CaughtTensor
from txinspect.forward.edits import Write
from txinspect.forward.wants import Plan, Want


def writable(model: PreTrainedModel) -> list[Supply]:
    """Every stage and module of a model that can be written."""
    found = locating.locate(model)
    return [each for each in found.supplies() + found.module_supplies() if taps.refusal(model, each) is None]


def written(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    stages: Iterable[Supply],
    change: Callable[[Tensor], Tensor],
) -> tuple[Tensor, dict[Supply, list[Tensor]], dict[Supply, list[Tensor]]]:
    """The logits where stages are changed; what was written of each, and what was recorded there."""
    made: dict[Supply, list[Tensor]] = defaultdict(list)
    came: dict[Supply, list[Tensor]] = defaultdict(list)

    def write(supply: Supply) -> Write:
        def changed(own: Tensor) -> Tensor:
            new = change(own)
            made[supply].append(new.clone())
            return new

        return Write(supply, changed)

    def receive(caught: CaughtTensor) -> None:
        came[caught.want.supply].append(caught.tensor.whole().clone())

    stages = list(stages)
    logits = next(each for each in locating.locate(model).supplies() if each.name == "logits")
    wants = [Want(each, by_glob=True) for each in (*stages, logits)]
    capture.run(model, inputs, Plan(wants, until=None, writes=tuple(map(write, stages))), receive)
    return came.pop(logits)[0], made, came


def assert_own_values_leave_every_bit(model: PreTrainedModel, inputs: Mapping[str, Tensor], plain: Tensor) -> None:
    """Every stage and module that can be written is, with a copy of what it had."""
    logits, made, came = written(model, inputs, writable(model), lambda own: own.clone())
    assert torch.equal(logits, plain)
    assert len(made) > 10
    for supply, tensors in made.items():
        assert all(torch.equal(mine, seen) for mine, seen in zip(tensors, came[supply], strict=True)), supply.name


def assert_what_is_recorded_is_what_was_written(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], plain: Tensor
) -> None:
    """Parts of the first layers, each vector turned round, are what is recorded there, and the logits are others."""
    parts = ("input", "attention.q", "attention.k", "attention.v", "attention.context", "mlp.output", "output")
    for supply in writable(model):
        if supply.layer == 0 and supply.within in parts:
            logits, made, came = written(model, inputs, [supply], lambda own: own.flip(-1))
            if made:
                assert all(map(torch.equal, made[supply], came[supply])), supply.name
                assert not torch.equal(logits, plain), supply.name
