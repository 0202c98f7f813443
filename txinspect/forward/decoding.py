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
    from transformers.modeling_outputs import BaseModelOutput

    ids, encoded = list(start), dict[str, BaseModelOutput]()
    with torch.no_grad():
        while len(ids) < len(start) + count:
            read = torch.tensor([ids], device=inputs["input_ids"].device)
            given = {**inputs, "decoder_input_ids": read}
            output = call(
                model, {name: each for name, each in given.items() if not encoded or name != "input_ids"}, **encoded
            )
            states = getattr(output, "encoder_last_hidden_state", None)
            encoded = {} if states is None else {"encoder_outputs": BaseModelOutput(last_hidden_state=states)}
            likeliest = int(logits_of(output)[0, -1].argmax())
            if likeliest in ends:
                break
            ids.append(likeliest)
    return ids[len(start) :]
