"""Greedy decoding by an encoder–decoder: the likeliest token each time, of those that its settings leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from txinspect.guards.patching import patched
from txinspect.loading.generation import LEFT_OUT

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import GenerationConfig, PreTrainedModel


def greedy(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    start: Sequence[int],
    count: int,
    settings: GenerationConfig,
) -> list[int]:
    """Greedy decoding: the ids that follow `start`, at most `count`, up to the one that ends the text, without it.

    They are those of generate(num_beams=1, do_sample=False) with these settings.
    """
    import torch

    given = {name: each for name, each in inputs.items() if name in ("input_ids", "attention_mask")}
    read = torch.tensor([list(start)], device=inputs["input_ids"].device)
    generate: Any = model.generate
    own = deepcopy(settings)
    own.decoder_start_token_id = start[0]  # else it puts its own before a language that a decoder begins with
    with torch.no_grad(), patched(model, "generation_config", own):
        found = generate(
            **given,
            **dict.fromkeys(LEFT_OUT),
            decoder_input_ids=read,
            max_new_tokens=count,
            num_beams=1,
            num_return_sequences=1,
            do_sample=False,
            return_dict_in_generate=False,
        )
    ids = [int(each) for each in found[0][len(start) :]]
    ends = settings.eos_token_id
    return ids[:-1] if ids and ids[-1] in (ends if isinstance(ends, list) else [ends]) else ids
