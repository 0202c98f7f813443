"""Greedy decoding by an encoder–decoder: the likeliest token each time, read from the start again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from txinspect.forward.inputs import call, logits_of

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def greedy(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], start: Sequence[int], count: int, ends: Collection[int]
) -> list[int]:
    """The ids that follow `start`, at most `count`, up to one of `ends` and without it.

    The encoder runs once; the decoder reads all ids anew each time, so that each step is the teacher-forced pass.
    """
    import torch

    ids = list(start)
    others = {name: each for name, each in inputs.items() if name not in ("input_ids", "decoder_input_ids")}
    with torch.no_grad():
        encoded = call(model.get_encoder(), inputs)
        while len(ids) < len(start) + count:
            read = torch.tensor([ids], device=inputs["input_ids"].device)
            output = call(model, {**others, "decoder_input_ids": read}, encoder_outputs=encoded)
            likeliest = int(logits_of(output)[0, -1].argmax())
            if likeliest in ends:
                break
            ids.append(likeliest)
    return ids[len(start) :]
