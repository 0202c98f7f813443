"""Positions that no module's output holds: ALiBi slopes, and tables in buffers or made by functions.

Each is taken from the model's own file or buffers, as the model's forward has it; nothing is computed anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

Tables = dict[str, "Tensor"]
"""By the end of the stage's name: "" for position_embeddings itself, "cos" for position_embeddings.cos."""

ROTARY_AXES = ("batch", "seq", "rotary_dim")


@dataclass(frozen=True)
class Table:
    """What a stack has for positions that no module's output holds."""

    axes: Mapping[str, tuple[str, ...]]
    """By the end of the stage's name."""
    note: str


_ALIBI = Table({"": ("head",)}, "ALiBi: each head's slope times the key's position is added to its scores")

_ROTARY = Table(
    {"cos": ROTARY_AXES, "sin": ROTARY_AXES},
    "rotary: cos and sin act on q and k inside attention, nothing is added to the embeddings",
)

_TABLES = {
    "bloom": _ALIBI,
    "mpt": _ALIBI,
    "falcon": _ALIBI,
    "gptj": _ROTARY,
    "codegen": _ROTARY,
    "ctrl": Table({"": ("batch", "seq", "hidden")}, "a sinusoidal table in a buffer, added to the embeddings"),
    "xlnet": Table(
        {"": ("distance", "batch", "hidden")},
        "sinusoids of the distance between query and key, from 2·seq distances down; they enter the scores",
    ),
}
"""The tables of each model type."""

_BUCKETS = Table(
    {"buckets": ("bucket", "head"), "bias": ("head", "query", "key")},
    "buckets of distances: a number per bucket and head is added to the scores, the same in every layer",
)

_LOCAL_BUCKETS = Table(
    {"buckets": ("bucket", "head")},
    "buckets of distances: a number per bucket and head is added to the scores within a window, in every layer",
)

_BUCKETS_OF_LAYERS = Table(
    {"buckets": ("layer", "bucket", "head"), "bias": ("layer", "head", "query", "key")},
    "buckets of distances: each layer adds a number of its own per bucket and head to its scores",
)


def table(model: PreTrainedModel, stack: nn.Module) -> Table | None:
    """The position table or bias of a stack; None where a module's output holds its positions, or there are none."""
    kind = model.config.model_type
    if kind in ("gptj", "codegen"):  # from transformers 5.24 a module of its own passes the tables on
        return _TABLES[kind] if hasattr(model.get_submodule("transformer.h.0.attn"), "embed_positions") else None
    if kind in _TABLES:
        return _TABLES[kind] if kind != "falcon" or model.config.alibi else None
    bucketed = _bucketed(stack)
    if not bucketed:
        return None
    if not _has_bias(bucketed[0]):
        return _LOCAL_BUCKETS
    return _BUCKETS if len(bucketed) == 1 else _BUCKETS_OF_LAYERS


def tables(model: PreTrainedModel, stack: nn.Module, length: int) -> Tables:
    """A stack's position tables or biases for a text of that many tokens."""
    make = _MAKERS.get(model.config.model_type)
    return make(model, length) if make else _buckets(stack, length)


def _bucketed(stack: nn.Module) -> list[Any]:
    """The modules in a stack that make a position bias from a table of buckets."""
    having = (each for each in stack.modules() if hasattr(each, "relative_attention_bias"))
    return [each for each in having if hasattr(each, "compute_bias") or hasattr(each, "compute_position_bias")]


def _has_bias(bucketed: Any) -> bool:
    """Whether a module makes a position bias of all queries and keys: LongT5's local attention makes it in blocks."""
    return hasattr(bucketed, "compute_position_bias") or "key_length" in signature(bucketed.compute_bias).parameters


def _bias(bucketed: Any, length: int) -> Tensor:
    """A module's position bias (head, query, key): T5Attention of modeling_t5.py, MPNetEncoder of modeling_mpnet.py."""
    table: Tensor = bucketed.relative_attention_bias.weight
    if hasattr(bucketed, "compute_position_bias"):
        found: Tensor = bucketed.compute_position_bias(table.new_empty(1, length, 1))[0]
    else:
        found = bucketed.compute_bias(length, length)[0]
    return found


def _buckets(stack: nn.Module, length: int) -> Tables:
    import torch

    bucketed = _bucketed(stack)
    # A copy is an operation, by which a rehearsal sees that the weight is used.
    found = {"buckets": [each.relative_attention_bias.weight.clone() for each in bucketed]}
    if _has_bias(bucketed[0]):
        found["bias"] = [_bias(each, length) for each in bucketed]
    return {end: each[0] if len(each) == 1 else torch.stack(each) for end, each in found.items()}


def _bloom_slopes(model: PreTrainedModel, _length: int) -> Tables:
    """ALiBi: a key's bias at position 1 is the slope (build_alibi_tensor of modeling_bloom.py, modeling_falcon.py)."""
    import torch

    mask = torch.ones(1, 2, device=model.device)
    heads = model.config.num_attention_heads
    return {"": _file_of(model).build_alibi_tensor(mask, heads, model.dtype)[:, 0, 1]}


def _mpt_slopes(model: PreTrainedModel, _length: int) -> Tables:
    """ALiBi: the slope is the step from key to key (build_mpt_alibi_tensor of modeling_mpt.py)."""
    bias = _file_of(model).build_mpt_alibi_tensor(model.config.num_attention_heads, 2, device=model.device)
    return {"": bias[:, 0, 1] - bias[:, 0, 0]}


def _rotary_buffer(model: PreTrainedModel, length: int) -> Tables:
    """Rotary sines, then cosines, in a buffer of every attention (create_sinusoidal_positions of modeling_gptj.py)."""
    blocks: Any = model.get_submodule("transformer.h.0.attn")
    rows = blocks.embed_positions[None, :length]
    if model.config.model_type == "gptj":  # where the table acts, GPT-J casts it and CodeGen does not
        rows = rows.to(model.dtype)
    half = rows.shape[-1] // 2
    return {"cos": rows[..., half:], "sin": rows[..., :half]}


def _ctrl_table(model: PreTrainedModel, length: int) -> Tables:
    """Rows of the table pos_encoding, in the type in which they are added (CTRLModel.forward of modeling_ctrl.py)."""
    transformer: Any = model.get_submodule("transformer")
    return {"": transformer.pos_encoding[None, :length].to(model.dtype)}


def _xlnet_distances(model: PreTrainedModel, length: int) -> Tables:
    """Sinusoids of the distances between positions (relative_positional_encoding of modeling_xlnet.py)."""
    transformer: Any = model.get_submodule("transformer")
    return {"": transformer.relative_positional_encoding(length, length, bsz=1)}


def _file_of(model: PreTrainedModel) -> Any:
    """The transformers file that defines the class of a model that makes its own position table."""
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
