"""Positions that no module's output holds: ALiBi slopes, and tables in buffers or made by functions.

Each is taken from the model's own file or buffers, as the model's forward has it; nothing is computed anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Tables = dict[str, "Tensor"]
"""By the end of the stage's name: "" for position_embeddings itself, "cos" for position_embeddings.cos."""

ROTARY_AXES = ("batch", "seq", "rotary_dim")

AXES: dict[str, dict[str, tuple[str, ...]]] = {
    "bloom": {"": ("head",)},
    "mpt": {"": ("head",)},
    "falcon": {"": ("head",)},
    "gptj": {"cos": ROTARY_AXES, "sin": ROTARY_AXES},
    "codegen": {"cos": ROTARY_AXES, "sin": ROTARY_AXES},
    "ctrl": {"": ("batch", "seq", "hidden")},
    "xlnet": {"": ("distance", "batch", "hidden")},
}
"""The tables of each model type, and their axes."""

NOTES = {
    "bloom": "ALiBi: each head's slope times the key's position is added to its scores",
    "mpt": "ALiBi: each head's slope times the key's position is added to its scores",
    "falcon": "ALiBi: each head's slope times the key's position is added to its scores",
    "gptj": "rotary: cos and sin act on q and k inside attention, nothing is added to the embeddings",
    "codegen": "rotary: cos and sin act on q and k inside attention, nothing is added to the embeddings",
    "ctrl": "a sinusoidal table in a buffer, added to the embeddings",
    "xlnet": "sinusoids of the distance between query and key, from 2·seq distances down; they enter the scores",
}


def has_tables(model: PreTrainedModel) -> bool:
    """Whether a model's positions are had here."""
    kind = model.config.model_type
    if kind in ("gptj", "codegen"):  # from transformers 5.24 a module of its own passes the tables on
        return hasattr(model.get_submodule("transformer.h.0.attn"), "embed_positions")
    return kind in AXES and (kind != "falcon" or model.config.alibi)


def tables(model: PreTrainedModel, length: int) -> Tables:
    """The tables for a text of that many tokens; their axes are in AXES."""
    return _MAKERS[model.config.model_type](model, length)


def _bloom_slopes(model: PreTrainedModel, _length: int) -> Tables:
    """The bias of a key at position 1 is the slope (build_alibi_tensor of modeling_bloom.py, modeling_falcon.py)."""
    import torch

    mask = torch.ones(1, 2, device=model.device)
    heads = model.config.num_attention_heads
    return {"": _file_of(model).build_alibi_tensor(mask, heads, model.dtype)[:, 0, 1]}


def _mpt_slopes(model: PreTrainedModel, _length: int) -> Tables:
    """The slope is the step from key to key (build_mpt_alibi_tensor of modeling_mpt.py)."""
    bias = _file_of(model).build_mpt_alibi_tensor(model.config.num_attention_heads, 2, device=model.device)
    return {"": bias[:, 0, 1] - bias[:, 0, 0]}


def _rotary_buffer(model: PreTrainedModel, length: int) -> Tables:
    """Sines, then cosines, in one buffer of every attention (create_sinusoidal_positions of modeling_gptj.py)."""
    blocks: Any = model.get_submodule("transformer.h.0.attn")
    rows = blocks.embed_positions[None, :length]
    if model.config.model_type == "gptj":  # where the table acts, GPT-J casts it and CodeGen does not
        rows = rows.to(model.dtype)
    half = rows.shape[-1] // 2
    return {"cos": rows[..., half:], "sin": rows[..., :half]}


def _ctrl_table(model: PreTrainedModel, length: int) -> Tables:
    """Rows of pos_encoding, in the type in which they are added (CTRLModel.forward of modeling_ctrl.py)."""
    transformer: Any = model.get_submodule("transformer")
    return {"": transformer.pos_encoding[None, :length].to(model.dtype)}


def _xlnet_distances(model: PreTrainedModel, length: int) -> Tables:
    """Sinusoids of the distances (relative_positional_encoding of modeling_xlnet.py)."""
    transformer: Any = model.get_submodule("transformer")
    return {"": transformer.relative_positional_encoding(length, length, bsz=1)}


def _file_of(model: PreTrainedModel) -> Any:
    """The transformers file that defines a model's class."""
    return sys.modules[type(model).__module__]


_MAKERS: dict[str, Callable[[PreTrainedModel, int], Tables]] = {
    "bloom": _bloom_slopes,
    "falcon": _bloom_slopes,
    "mpt": _mpt_slopes,
    "gptj": _rotary_buffer,
    "codegen": _rotary_buffer,
    "ctrl": _ctrl_table,
    "xlnet": _xlnet_distances,
}
