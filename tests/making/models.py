"""A tiny random checkpoint of every model type that transformers registers for causal LM.

Every type is shrunk from its own config class by one table of field values, so a new transformers
release with new types is covered by itself, or fails with the type's name. Checked against
transformers 5.24.0: 196 types, of which 194 can be built and run, one of them with the package timm.

    python -m tests.making.models OUT_DIR [TYPE ...]

writes all (or the named) checkpoints to OUT_DIR/TYPE, with a byte-level tokenizer.
"""

# transformers is partly untyped: AutoModelForCausalLM.from_config, its logging, its tokenizer class.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import math
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.pytorch_utils import Conv1D

HIDDEN_SIZE = 64
HEADS = 4
KV_HEADS = 2
HEAD_DIM = 16
FFN_SIZE = 96
VOCAB_SIZE = 384
POSITIONS = 512
WINDOW = 6
TOP_K = 4

NOT_RUN: dict[str, str] = {
    **dict.fromkeys(
        ["gemma4_assistant", "gemma4_unified_assistant"],
        "it reads the keys and values of a target model, never token ids alone",
    ),
}
"""Registered types that no text alone can run, each with the reason; before transformers 5.24 they cannot be built."""

NEEDS_PACKAGE: dict[str, str] = {
    "gemma3n": "timm",  # its vision tower is a timm model, built even for text (gemma3n_text not)
}
"""Types that can only be built with a package beyond this project's test requirements."""

BUILT_FROM_PART: dict[str, str] = {
    "musicgen": "decoder",  # MusicgenForCausalLM reads fields that the composite config lacks
    "musicgen_melody": "decoder",
}
"""Types registered with a composite config whose class takes one of its sub-configs instead.

`AutoModelForCausalLM` fails on them (AttributeError: 'dropout') from a config and from a checkpoint
alike; the class itself loads what `save_tiny` writes when it is given the sub-config:
`MusicgenForCausalLM.from_pretrained(folder, config=AutoConfig.from_pretrained(folder).decoder)`.
"""


def _each(names: str, value: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), value)


TINY_VALUES: dict[str, Any] = {
    **_each(
        "hidden_size d_model n_embd emb_dim embedding_size input_embedding_size"
        " output_embedding_size embedding_dim word_embed_proj_dim hidden_size_per_layer_input"
        " lru_width pronunciation_embed_dim shape_embed_dim adapter_in_dim adapter_input_size"
        " adapter_out_dim",
        HIDDEN_SIZE,
    ),
    **_each(
        "num_attention_heads n_head n_heads num_heads attention_heads encoder_attention_heads"
        " decoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads"
        " swa_num_attention_heads linear_num_heads linear_num_value_heads index_n_heads",
        HEADS,
    ),
    **_each("num_key_value_heads num_kv_heads swa_num_key_value_heads linear_num_key_heads", KV_HEADS),
    **_each(
        "head_dim dim_head d_head d_kv attention_head_size swa_head_dim index_head_dim"
        " linear_head_dim linear_key_head_dim linear_value_head_dim kv_channels",
        HEAD_DIM,
    ),
    **_each(
        "intermediate_size intermediate_size_mlp dense_intermediate_size moe_intermediate_size"
        " shared_intermediate_size shared_expert_intermediate_size mlp_dim"
        " shared_experts_intermediate_size moe_shared_expert_intermediate_size"
        " expert_ffn_hidden_size ffn_hidden_size feed_forward_size ffn_dim encoder_ffn_dim"
        " decoder_ffn_dim d_inner n_inner dim_ff dff d_ff",
        FFN_SIZE,
    ),
    **_each(
        "vocab_size decoder_vocab_size audio_vocab_size vocab_size_per_layer_input"
        " pronunciation_vocab_size shape_vocab_size",
        VOCAB_SIZE,
    ),
    **_each(
        "max_position_embeddings n_positions n_ctx max_seq_len max_target_positions"
        " max_source_positions context_length position_bias_max_distance",
        POSITIONS,
    ),
    **_each(
        "num_hidden_layers n_layer n_layers num_layers num_blocks encoder_layers decoder_layers"
        " num_encoder_layers num_decoder_layers depth",
        2,
    ),
    **_each(
        "sliding_window sliding_window_size attention_window_size window_size local_attention"
        " keep_window_size local_attention_window_len",
        WINDOW,
    ),
    **_each("num_experts n_routed_experts num_local_experts moe_num_experts zero_expert_num", 4),
    **_each("num_experts_per_tok moe_topk moe_k top_k_experts", 2),
    **_each("index_topk attention_chunk_size floor_scale", TOP_K),
    **_each("n_group topk_group", 1),
    # Which layers are dense: the first, so that dense and sparse layers both exist.
    **_each("first_k_dense_replace num_dense_layers moe_layer_end_index", 1),
    "mlp_only_layers": [0],
    # Low-rank attention.
    **_each("kv_lora_rank q_lora_rank o_lora_rank", 32),
    **_each("qk_rope_head_dim qk_nope_head_dim rotary_dim", 8),
    "v_head_dim": 12,
    # State-space and other recurrent mixers: inner width 2 * 64 = 8 heads of 16.
    **_each("state_size mamba_d_state ssm_state_size", 16),
    **_each("mamba_n_heads n_mamba_heads mamba_num_heads", 8),
    **_each("mamba_d_head mamba_head_dim", 16),
    **_each("time_step_rank mamba_dt_rank", 4),
    **_each("n_groups o_groups", 2),
    **_each("chunk_size mamba_chunk_size block_size", 8),
    "mamba_d_ssm": 128,
    # Small parts that would dominate the parameter count.
    **_each("d_rel laurel_rank gated_norm_rank adapter_rank", 8),
    **_each("hc_lowrank router_hidden_size prompt_mid_dim rel_extent num_mel_bins", 16),
    **_each("ext_pw_out_channel depthwise_separable_out_channel nemo_conv_channels", 16),
    **_each("output_channels input_size", 16),
    "prompt_length": 4,
    "image_size": 32,
    "patch_size": 16,
    # Values that hide a missing step at their default (multipliers of 1, no truncated logits).
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.5,
    "attention_multiplier": 0.2,
    "logits_scaling": 2.0,
    "logits_mup_width_multiplier": 2.0,
    "query_pre_attn_scalar": 8,
    "dim_model_base": 32,
    "unpadded_vocab_size": VOCAB_SIZE - 4,
    # BERT-like types attend both ways unless they are told to be decoders.
    "is_decoder": True,
}
"""Field name -> tiny value, for every config class that declares the field."""

_SET_EVEN_IF_NONE = frozenset(["head_dim", "num_key_value_heads", "num_experts_per_tok", "n_routed_experts"])
"""Fields whose default None makes the model fail; every other None means 'this part is off'."""

_SLIDING_FULL = ["sliding_attention", "full_attention"]
_FULL_SLIDING = ["full_attention", "sliding_attention"]
_HYBRID = ["linear_attention", "hybrid"]
_INDEXER = {
    "indexer_n_heads": HEADS,
    "indexer_kv_heads": 1,
    "indexer_head_dim": HEAD_DIM,
    "indexer_budget": TOP_K,
    "indexer_compress_ratio": 2,
}
_GEMMA3N_SHARED = {
    "num_hidden_layers": 4,
    "layer_types": 2 * _SLIDING_FULL,
    "num_kv_shared_layers": 2,
    "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
}
_DOTS3_SLIDING = {
    "swa_num_attention_heads": 2,
    "swa_num_key_value_heads": 2,
    "swa_q_lora_rank": 32,
    "swa_kv_lora_rank": 32,
    "swa_head_dim": 24,
    "swa_qk_nope_head_dim": 16,
    "swa_v_head_dim": 12,
}

NO_DEFAULT: dict[str, dict[str, Any]] = {
    "gemma4_assistant": {"text_config": {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}},
}
"""What a config class needs, because it refuses its own default."""

OVERRIDES: dict[str, dict[str, Any]] = {
    # scaling of the embeddings is off by default, so that a missing scale would not show
    "afmoe": {"mup_enabled": True},
    # the default has no attention layer, and then the default cache raises
    "bamba": {"attn_layer_indices": [1]},
    # DynamicCache reads num_hidden_layers, which this config lacks; the local parts are narrower
    "blt": {
        "num_hidden_layers": 2,
        "encoder_hash_byte_group_vocab": 50,
        "patching_threshold": 5.5,  # the median entropy; else every byte is its own patch
        "encoder_config": {"hidden_size": 32},
        "decoder_config": {"hidden_size": 32, "hidden_size_global": HIDDEN_SIZE},
    },
    # rope_parameters have no usable default; full layers have no rotary
    "cohere_compass_text": {
        "layer_types": _SLIDING_FULL,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": None,
        },
    },
    # rope_theta and clip_qkv are read from attn_config, which has no usable default for them
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "clip_qkv": 8.0}},
    # one key/value head by design; 128 tokens per compressed entry would leave none in a test
    "deepseek_v4": {
        "num_key_value_heads": 1,
        "compress_rates": {"compressed_sparse_attention": 2, "heavily_compressed_attention": 5},
    },
    # the default runs 8 layers before and 8 after those that it loops over; scales are stored times initializer_range,
    # so that at its small default the noise of spread_weights would make them huge
    "dory": {
        "num_hidden_layers": 4,
        "layer_types": 2 * _SLIDING_FULL,
        "n_input_layers": 1,
        "n_recurrent_layers": 2,
        "n_output_layers": 1,
        "initializer_range": 1.0,
    },
    # n_shared_experts has no usable default; max_window_layers gives full layers only
    "dots1": {"n_shared_experts": 1, "layer_types": _FULL_SLIDING},
    # sliding layers have their own widths, passed as fields that are not declared
    "dots3_note": {"text_config": _DOTS3_SLIDING},
    "dots3_note_text": _DOTS3_SLIDING,
    # its default vision tower has 300 million parameters; the text part is gemma3n_text's
    "gemma3n": {"vision_config": {"architecture": "test_convnext"}, "text_config": _GEMMA3N_SHARED},
    # sharing of keys and values needs both kinds of layers before the sharing ones
    "gemma3n_text": _GEMMA3N_SHARED,
    # full layers have wider heads (an undeclared field, 512); experts are off by default
    "gemma4": {
        "text_config": {
            "global_head_dim": 2 * HEAD_DIM,
            "enable_moe_block": True,
            "num_experts": 4,
            "top_k_experts": 2,
            "moe_intermediate_size": 32,
        }
    },
    # it refuses embeddings per layer
    "gemma4_assistant": {"text_config": {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}},
    # as gemma4; here with keys and values shared between layers
    "gemma4_text": {
        "num_hidden_layers": 4,
        "layer_types": 2 * _SLIDING_FULL,
        "num_kv_shared_layers": 2,
        "global_head_dim": 2 * HEAD_DIM,
    },
    # as gemma4, dense
    "gemma4_unified": {"text_config": {"global_head_dim": 2 * HEAD_DIM}},
    # as gemma4; here full layers take their values from the keys
    "gemma4_unified_text": {
        "global_head_dim": 2 * HEAD_DIM,
        "attention_k_eq_v": True,
        "num_global_key_value_heads": 1,
    },
    # the pattern is repeated, so its count must match num_layers
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    # the default has no attention layer
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    # the default loops over layers that a tiny model does not have
    "inkling2_loop_text": {
        "num_hidden_layers": 4,
        "layer_types": 2 * ["hybrid_sliding", "hybrid"],
        "n_layers_per_attn_res_block": 1,
        "loop_layer_index_start": 1,
        "loop_layer_index_end": 3,
        "loop_num_passes": 2,
        "loop_gate_rank": 8,
    },
    # the layer kinds come from a period and an offset
    "jamba": {"num_hidden_layers": 4, "attn_layer_offset": 2},
    # the default has full layers only; the number of heads may differ by layer
    "laguna": {
        "layer_types": _FULL_SLIDING,
        "num_attention_heads_per_layer": [HEADS, 2 * HEADS],
        "sliding_window": WINDOW,
    },
    # the default has no convolution layer
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    # layer_types has no usable default
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    # by default every layer is sparse
    "llama4": {"text_config": {"interleave_moe_layer_step": 2}},
    "llama4_text": {"interleave_moe_layer_step": 2},
    # rotary dimension is head_dim: it must be qk_rope_head_dim
    "longcat_flash": {"head_dim": TINY_VALUES["qk_rope_head_dim"]},
    # num_heads * head_dim must be the inner width, 128
    "mamba2": {"head_dim": 2 * HIDDEN_SIZE // HEADS},
    # the default has full layers only
    "mellum": {"layer_types": _FULL_SLIDING, "sliding_window": WINDOW},
    # the value width is half of the key width; a third of 16 would be an odd rotary dimension
    "mimo_v2_flash": {"head_dim": 24, "swa_head_dim": 24},
    # the default has no layer that selects blocks, and no dense one
    "minimax_m3_vl_text": {
        "layer_types": ["full_attention", "minimax_m3_sparse"],
        "mlp_layer_types": ["dense", "sparse"],
        "index_block_size": 2,
        "index_topk_blocks": 2,
    },
    # the default has sliding layers only
    "ministral": {"layer_types": _SLIDING_FULL},
    # which layers attend to the image is a list of indices
    "mllama": {"text_config": {"num_hidden_layers": 3, "cross_attention_layers": [1]}},
    # indexer fields have no usable default
    "qwen4_exp": {"text_config": _INDEXER},
    "qwen4_exp_text": _INDEXER,
    # the pattern is two recurrent blocks, then one attention block
    "recurrent_gemma": {"num_hidden_layers": 3},
    # axial widths must add up to the width; chunks longer than the text hide the chunking; without
    # a seed the hashes are drawn anew in every call
    "reformer": {
        "attn_layers": ["local", "lsh"],
        "axial_pos_embds_dim": [HIDDEN_SIZE // 2, HIDDEN_SIZE // 2],
        "local_attn_chunk_length": 4,
        "lsh_attn_chunk_length": 4,
        "num_buckets": 2,
        "hash_seed": 0,
    },
    # attends both ways unless told otherwise
    "xlm": {"causal": True},
    # the query/key width is rounded up to 64 in the config but not in the layer
    "xlstm": {"qk_dim_factor": 1.0},
    # needs a language
    "xmod": {"default_language": "en_XX"},
    # two hybrid layers, because what is special is that they share one transformer block
    "zamba": {"num_hidden_layers": 4, "layers_block_type": 2 * _HYBRID},
    "zamba2": {"num_hidden_layers": 4, "layers_block_type": 2 * _HYBRID},
    # one expert per token by design; the default has no sliding layer
    "zaya": {
        "num_experts_per_tok": 1,
        "layer_types": ["hybrid", "hybrid_sliding"],
        "sliding_window": WINDOW,
    },
}
"""What the general rules get wrong for one type; a value beats every rule."""

REPRESENTATIVE = (
    *("opt", "gpt2", "llama", "gemma2", "gpt_oss"),  # the lesson's; Conv1D; rotary; soft-capping and windows; sinks
    *("deepseek_v2", "llama4_text", "jetmoe"),  # complex rotary tables, routers that return other things
    *("gptj", "bloom", "xlnet", "inkling_text"),  # attention of their own, ALiBi, relative positions of both kinds
    # Output projections beside, layers that are not modules, rotated sinusoids, modules that are swapped.
    *("bert", "xlm", "roformer", "big_bird"),
    *("gemma3n_text", "deepseek_v4", "blt", "reformer"),  # other residual streams; not rehearsed; not recordable
    *("granitemoehybrid", "qwen3_next", "lfm2", "mamba"),  # recurrent and convolutional mixers, summed MLPs
    *("musicgen", "mllama", "diffllama", "nanochat", "granite_swa"),  # codebooks, idle, twice, looped, gated attention
)
"""The types that the tests take by default, one at least of every kind; `-m conformance` takes the others."""


def buildable_types() -> list[str]:
    """The registered types that this environment can build and a text can run."""
    return [name for name in registered_types() if name not in NOT_RUN and missing_package(name) is None]


FEW = ("opt", "gpt2", "llama", "bloom", "xlnet", "deepseek_v4", "qwen3_next", "mamba", "granitemoehybrid")
"""The types that a test takes by default whose subject hardly differs between types."""


def by_type(names: Iterable[str], often: Collection[str] = REPRESENTATIVE) -> list[Any]:
    """Parameters of a test: a type that is not taken `often` belongs to the tier `conformance`."""
    return [pytest.param(name, marks=() if name in often else pytest.mark.conformance, id=name) for name in names]


def registered_types() -> list[str]:
    """Every model type that transformers registers for causal LM, sorted."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def missing_package(model_type: str) -> str | None:
    """The package that `model_type` needs and that is not installed, or None."""
    package = NEEDS_PACKAGE.get(model_type)
    return package if package and importlib.util.find_spec(package) is None else None


def tiny_config(model_type: str) -> PretrainedConfig:
    """The config of `model_type`, shrunk; two to four layers, one of each kind it mixes."""
    return _shrunk(CONFIG_MAPPING[model_type](**NO_DEFAULT.get(model_type, {})), OVERRIDES.get(model_type, {}))


def _shrunk(default: PretrainedConfig, overrides: dict[str, Any]) -> PretrainedConfig:
    config_class = type(default)
    names = config_class.attribute_map or {}
    # Only declared fields: an undeclared one is stored after __post_init__ and beats the value
    # derived there (zamba2's mamba_headdim). Values come from the instance's dict, because getattr
    # raises on per-layer fields (gemma4, dots3_note) and to_dict renames some (mellum).
    declared = {
        field.name: vars(default).get(names.get(field.name, field.name)) for field in dataclasses.fields(config_class)
    }
    values: dict[str, Any] = {}
    overrides = dict(overrides)
    for name, value in declared.items():
        if isinstance(value, PretrainedConfig):
            values[name] = _shrunk(value, overrides.pop(name, {}))
        elif name in TINY_VALUES and (value is not None or name in _SET_EVEN_IF_NONE):
            values[name] = TINY_VALUES[name]
    if "qk_nope_head_dim" in declared:  # low-rank attention rebuilds keys for every head
        values["num_key_value_heads"] = HEADS
    values |= _one_layer_of_each_kind(default, declared, values.keys() | overrides.keys())
    values |= _token_ids(declared)
    return config_class(**(values | overrides))


def _one_layer_of_each_kind(default: PretrainedConfig, declared: dict[str, Any], decided: set[str]) -> dict[str, Any]:
    """The per-layer lists of `default`, cut to the first layer of each combination of kinds."""
    depth = getattr(default, "num_hidden_layers", 0)
    lists = {
        name: value
        for name, value in declared.items()
        if name not in decided
        and isinstance(value, list)
        and len(value) == depth > 2
        and len(set(value)) <= 4  # more are indices of layers, such as llama4's moe_layers
    }
    if not lists:
        return {}
    kinds = list(dict.fromkeys(zip(*lists.values(), strict=True)))
    if len(kinds) == 1:
        kinds *= 2
    cut: dict[str, Any] = dict(zip(lists, map(list, zip(*kinds, strict=True)), strict=True))
    return {"num_hidden_layers": len(kinds)} | cut


_TEXT_ROLES = ("eos", "bos", "pad", "unk", "sep", "cls", "mask")
_SPECIAL_IDS = range(8)
_MEDIA_IDS = range(300, VOCAB_SIZE)


def _token_ids(declared: dict[str, Any]) -> dict[str, Any]:
    """Special token ids inside the vocabulary: equal where they were equal, kept where small."""
    roles = {
        name: value[0] if isinstance(value, list) else value
        for name, value in declared.items()
        if name.endswith(("_token_id", "_token_index")) and value not in (None, [])
    }
    ids: dict[int, int] = {value: value for value in roles.values() if value in _SPECIAL_IDS}
    for name, value in roles.items():
        is_text = name.split("_")[0] in (*_TEXT_ROLES, "eod", "decoder", "forced")
        pool = _SPECIAL_IDS if is_text else _MEDIA_IDS
        if value not in ids:
            ids[value] = next(i for i in pool if i not in ids.values())
    return {name: ids[value] for name, value in roles.items()}


def tiny_model(model_type: str, seed: int = 0) -> PreTrainedModel:
    """A random model of `model_type`: float32, eval mode, the same for the same `seed`."""
    config = tiny_config(model_type)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if model_type in BUILT_FROM_PART:
            part = getattr(config, BUILT_FROM_PART[model_type])
            model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
            model = model_class(part)
        else:
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    spread_weights(model, seed)
    model.eval()
    assert isinstance(model, PreTrainedModel)
    return model


def spread_weights(model: nn.Module, seed: int = 0) -> None:
    """Replace the weights by wider random ones, so that nothing in the model is nearly neutral.

    At the usual standard deviation of 0.02 attention is uniform, biases are zero and norms are
    one: a bug that forgets one of them would not show. Matrices get a standard deviation of
    1.2 / sqrt(fan in), embeddings 0.5. All else (norms, biases, sinks, A_log, time decays,
    lambdas) keeps its initial value, which has a meaning there, and is moved by 0.1.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor: torch.Tensor, std: float) -> torch.Tensor:
        return std * torch.randn(tensor.shape, generator=generator)

    seen: set[int] = set()  # tied weights, and zamba's shared blocks, are met more than once
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if id(parameter) in seen or not parameter.requires_grad:  # frozen: sinusoids
                    continue
                seen.add(id(parameter))
                std = _spread_std(module, parameter)
                if std is None:
                    parameter.add_(noise(parameter, 0.1) + _SHIFT.get(name, 0.0))
                else:
                    parameter.copy_(noise(parameter, std))
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                module.weight[module.padding_idx] = 0.0
            for name, buffer in module.named_buffers(recurse=False):
                if name in module._non_persistent_buffers_set:
                    continue  # from_pretrained computes them anew
                if name.endswith(("_bias", "_biases")) or name == "layer_scalar":
                    buffer.add_(noise(buffer, 0.1))
                elif name == "tid2eid":  # deepseek_v4 sends every token id to fixed experts
                    ranks = torch.rand(len(buffer), TINY_VALUES["n_routed_experts"], generator=generator)
                    buffer.copy_(ranks.argsort()[:, : buffer.shape[1]])


_SHIFT = {"temp": 1.0}  # zaya's scale of the keys starts at zero, where attention is uniform


def _spread_std(module: nn.Module, parameter: torch.Tensor) -> float | None:
    """The standard deviation to redraw `parameter` with, or None if it must be kept."""
    if parameter.ndim < 2:
        return None
    if isinstance(module, nn.Embedding):
        return 0.5
    if isinstance(module, nn.Linear):
        fan_in = parameter.shape[1]
    elif isinstance(module, Conv1D):
        fan_in = parameter.shape[0]
    elif isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        fan_in = parameter[0].numel()
    elif 0 < parameter.std() < 0.06 and parameter.mean().abs() < parameter.std():
        fan_in = parameter.shape[-1]  # a bare matrix freshly drawn, such as stacked experts
    else:
        return None
    return 1.2 / math.sqrt(fan_in)


def example_ids(model_type: str, length: int = 10) -> torch.Tensor:
    """Different token ids, none of them special: [1, length]; for musicgen [codebooks, length]."""
    ids = torch.arange(20, 20 + length)[None]
    if model_type in BUILT_FROM_PART:  # one row per codebook
        part = getattr(tiny_config(model_type), BUILT_FROM_PART[model_type])
        ids = ids.repeat(part.num_codebooks, 1)
    return ids


def byte_tokenizer(config: PretrainedConfig) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per byte (id = 8 + byte) and the special ids of `config`.

    It puts the beginning-of-sentence token first where `config` names one.
    """
    roles: dict[str, int] = {}
    for role in _TEXT_ROLES:
        value = getattr(config, f"{role}_token_id", None)
        value = value[0] if isinstance(value, list) else value
        if isinstance(value, int) and value in _SPECIAL_IDS:
            roles[role] = value
    names = {index: f"<{role}>" for role, index in reversed(roles.items())}
    specials = [names.get(index, f"<unused{index}>") for index in _SPECIAL_IDS]
    letters = bytes_to_unicode()
    vocabulary = {token: index for index, token in enumerate(specials)}
    vocabulary |= {letters[byte]: len(specials) + byte for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    if "bos" in roles:
        bos = specials[roles["bos"]]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, roles["bos"])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=POSITIONS,
        **{f"{role}_token": specials[index] for role, index in roles.items()},
    )


def save_tiny(model_type: str, folder: Path, *, tokenizer: bool = True) -> Path:
    """Write the checkpoint of `tiny_model(model_type)` into `folder` and return `folder`.

    `AutoModelForCausalLM.from_pretrained(folder)` loads it again with the same logits, except for
    the types in `BUILT_FROM_PART`.
    """
    model = tiny_model(model_type)
    model.save_pretrained(folder)
    config = tiny_config(model_type)
    if type(model.config) is not type(config):
        # AutoModelForCausalLM took a part of a composite config. Of emu3 and mllama the part
        # alone is not registered, and of none is it what users have on disk.
        config.architectures = [type(model).__name__]
        config.dtype = model.dtype
        config.save_pretrained(folder)
    if tokenizer:
        byte_tokenizer(model.config.get_text_config()).save_pretrained(folder)
    return folder


def main(arguments: list[str] | None = None) -> None:
    """Write tiny checkpoints into a folder, one line each."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("types", nargs="*", metavar="TYPE", help="default: all registered types")
    chosen = parser.parse_args(arguments)
    if unknown := sorted(set(chosen.types) - set(registered_types())):
        parser.error(f"not registered for causal LM: {', '.join(unknown)}")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for model_type in chosen.types or registered_types():
        package = missing_package(model_type)
        if model_type in NOT_RUN:
            print(f"{model_type}: not run: {NOT_RUN[model_type]}")
        elif package:
            print(f"{model_type}: needs the package {package!r}")
        else:
            start = time.perf_counter()
            save_tiny(model_type, chosen.out_dir / model_type)
            print(f"{model_type}: {time.perf_counter() - start:.2f} s", flush=True)


if __name__ == "__main__":
    main()
