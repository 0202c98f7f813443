"""Tokens → what a model is called with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from txinspect.records import InputRecord

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def model_inputs(model: PreTrainedModel, text: InputRecord) -> dict[str, Tensor]:
    """What the model is called with; (batch, seq) each, on the CPU."""
    import torch

    from txinspect.anatomy import locating

    ids = torch.tensor(text.input_ids)
    mask = torch.tensor(text.attention_mask)
    # A model that reads several rows of ids is given the text's in each.
    return {"input_ids": ids.repeat(locating.rows_of_ids(model), 1), "attention_mask": mask}
