"""Greedy decoding: the likeliest token each time; by an encoder–decoder of those that its settings leave."""

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
    return _before_the_end([int(each) for each in found[0][len(start) :]], settings)


def continued(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], count: int, settings: GenerationConfig
) -> list[int]:
    """Greedy decoding by a model that reads one text onwards: the ids of the likeliest tokens, at most `count`.

    The text ends where the settings say which token ends it, which is left out; nothing else of them is followed.
    """
    import torch
    from transformers import GenerationConfig

    given = {name: each for name, each in inputs.items() if name in ("input_ids", "attention_mask")}
    ends = settings.eos_token_id
    padding = (
        settings.pad_token_id if settings.pad_token_id is not None else (ends[0] if isinstance(ends, list) else ends)
    )
    plain = GenerationConfig(eos_token_id=ends, pad_token_id=padding, bos_token_id=settings.bos_token_id)
    generate: Any = model.generate
    with torch.no_grad(), patched(model, "generation_config", plain):
        found = generate(**given, max_new_tokens=count, num_beams=1, do_sample=False, return_dict_in_generate=False)
    return _before_the_end([int(each) for each in found[0][given["input_ids"].shape[1] :]], settings)


def _before_the_end(ids: list[int], settings: GenerationConfig) -> list[int]:
    """Decoded ids without the one that ends the text."""
    ends = settings.eos_token_id
    return ids[:-1] if ids and ids[-1] in (ends if isinstance(ends, list) else [ends]) else ids
