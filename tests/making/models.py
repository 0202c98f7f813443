"""A tiny random checkpoint of every text model type that transformers registers, by task.

The tasks are causal LM, masked LM and sequence-to-sequence LM. Every type is shrunk from its own
config class by one table of field values, so a new transformers release with new types is covered
by itself, or fails with the type's name. Checked against transformers 5.24.0: 196 types for causal
LM, of which 194 can be built and run, one of them with the package timm; 51 for masked LM, of which
50 can be run on a CPU; 25 for sequence-to-sequence LM from text, all of which can be run.

    python -m tests.making.models [--task TASK] OUT_DIR [TYPE ...]

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
from typing import Any, Literal

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)
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

Task = Literal["causal-lm", "masked-lm", "seq2seq-lm"]

AUTO_CLASS: dict[Task, Any] = {
    "causal-lm": AutoModelForCausalLM,
    "masked-lm": AutoModelForMaskedLM,
    "seq2seq-lm": AutoModelForSeq2SeqLM,
}
"""The class that builds and loads the models of a task."""

NOT_TEXT: dict[str, str] = {
    "audioflamingo3": "an audio tower before a causal language model",
    "glmasr": "an audio tower before a causal language model",
    "granite_speech": "a speech encoder before a causal language model",
    "granite_speech_plus": "a speech encoder before a causal language model",
    "moss_transcribe_diarize": "an audio encoder before a causal language model",
    "musicflamingo": "an audio tower before a causal language model",
    "nemo_speechlm": "a speech encoder before a causal language model",
    "omniasr": "a speech encoder before a causal language model",
    "qwen2_audio": "an audio tower before a causal language model",
    "qwen3_asr": "an audio tower before a causal language model",
    "vibevoice_asr": "speech tokenizers before a causal language model",
    "voxtral": "an audio tower before a causal language model",
    "voxtral_realtime": "an audio tower before a causal language model",
}
"""Types registered for sequence-to-sequence LM that read audio, each with what reads it."""

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

MASKED_OVERRIDES: dict[str, dict[str, Any]] = {
    # embeddings are narrower than the layers, and projected
    "albert": {"embedding_size": HIDDEN_SIZE // 2},
    "convbert": {"embedding_size": HIDDEN_SIZE // 2},
    # attention by relative positions, which the default leaves out and every published checkpoint has
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 8},
    # as deberta, in the form of version 3: positions in buckets, keys shared, none added to the embeddings
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "position_buckets": 4,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
    },
    # its own names for the widths
    "distilbert": {"dim": HIDDEN_SIZE, "hidden_dim": FFN_SIZE},
    # as albert
    "electra": {"embedding_size": HIDDEN_SIZE // 2},
    # the vocabulary and two ids have no default; the rest as in every checkpoint of version 2
    "esm": {
        "vocab_size": VOCAB_SIZE,
        "pad_token_id": 1,
        "mask_token_id": 4,
        "position_embedding_type": "rotary",
        "token_dropout": True,
    },
    # it refuses grouped queries
    "esmc": {"num_key_value_heads": HEADS},
    # the number of layers comes from blocks; the second block halves the sequence
    "funnel": {"block_sizes": [1, 2], "num_decoder_layers": 2},
    # a window longer than the text hides the windows
    "longformer": {"attention_window": [4, 4]},
    # half a million entities
    "luke": {"entity_vocab_size": 16, "entity_emb_size": HIDDEN_SIZE // 2},
    # layers work inside a bottleneck
    "mobilebert": {"embedding_size": HIDDEN_SIZE // 2, "intra_bottleneck_size": HIDDEN_SIZE // 2},
    # embeddings of low rank
    "neomme": {"embedding_rank": HIDDEN_SIZE // 2},
    # its own names for everything; latents are wider than the text and fewer
    "perceiver": {
        "num_latents": 8,
        "d_latents": 96,
        "num_self_attends_per_block": 2,
        "num_self_attention_heads": HEADS,
        "num_cross_attention_heads": HEADS,
        "qk_channels": 2 * HEAD_DIM,
        "v_channels": 96,
    },
    # as for causal LM
    "reformer": OVERRIDES["reformer"],
    # as albert, and the output embeddings have a third width
    "rembert": {"input_embedding_size": HIDDEN_SIZE // 2, "output_embedding_size": 48},
    # the transform before the output embeddings has a width of its own
    "ultrabert": {"prediction_head_size": 48},
    "ultravbert": {"text_config": {"prediction_head_size": 48}},
    # needs a language
    "xmod": {"default_language": "en_XX"},
}
"""As `OVERRIDES`, for masked LM."""

SEQ2SEQ_OVERRIDES: dict[str, dict[str, Any]] = {
    # two configs of bert by default, of which the second must be told that it decodes; ids have no default
    "encoder-decoder": {
        "decoder": {"is_decoder": True, "add_cross_attention": True},
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    },
    # its own names for the sizes of two vocabularies
    "fsmt": {"src_vocab_size": VOCAB_SIZE, "tgt_vocab_size": VOCAB_SIZE},
    # its own names for the positions; a window longer than the text hides the windows
    "led": {
        "max_encoder_position_embeddings": POSITIONS,
        "max_decoder_position_embeddings": POSITIONS,
        "attention_window": [4, 4],
    },
    # as led; the first token of the decoder is declared nowhere, and padding in every checkpoint
    "longt5": {"local_radius": 3, "global_block_size": 4, "decoder_start_token_id": 0},
    # the first token of the decoder is a language
    "mbart": {"decoder_start_token_id": 4},
    # by default every fourth layer is sparse
    "nllb-moe": {"encoder_sparse_step": 2, "decoder_sparse_step": 2},
    # global tokens would outnumber the text
    "pegasus_x": {"num_global_tokens": 4},
    # as mbart
    "plbart": {"decoder_start_token_id": 4},
    # by default so few layers are sparse that none of two is; and as longt5
    "switch_transformers": {
        "num_sparse_encoder_layers": 1,
        "num_sparse_decoder_layers": 1,
        "decoder_start_token_id": 0,
    },
    # as longt5
    "t5": {"decoder_start_token_id": 0},
    # as longt5, where it is the beginning of a sentence
    "t5gemma": {"decoder_start_token_id": 2},
    "t5gemma2": {"decoder_start_token_id": 2},
}
"""As `OVERRIDES`, for sequence-to-sequence LM."""

_OVERRIDES: dict[Task, dict[str, dict[str, Any]]] = {
    "causal-lm": OVERRIDES,
    "masked-lm": MASKED_OVERRIDES,
    "seq2seq-lm": SEQ2SEQ_OVERRIDES,
}

MASKED_NOT_RUN: dict[str, str] = {
    "mra": "its attention is a CUDA kernel, and without one transformers 5.24 puts zeros in its place",
}
"""As `NOT_RUN`, for masked LM."""

SEQ2SEQ_NOT_RUN: dict[str, str] = {}
"""As `NOT_RUN`, for sequence-to-sequence LM."""

_NOT_RUN: dict[Task, dict[str, str]] = {
    "causal-lm": NOT_RUN,
    "masked-lm": MASKED_NOT_RUN,
    "seq2seq-lm": SEQ2SEQ_NOT_RUN,
}

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


def buildable_types(task: Task = "causal-lm") -> list[str]:
    """The types registered for `task` that this environment can build and a text can run."""
    return [name for name in registered_types(task) if name not in _NOT_RUN[task] and missing_package(name) is None]


FEW = ("opt", "gpt2", "llama", "bloom", "xlnet", "deepseek_v4", "qwen3_next", "mamba", "granitemoehybrid")
"""The types that a test takes by default whose subject hardly differs between types."""


def by_type(
    names: Iterable[str], often: Collection[str] = REPRESENTATIVE, tier: pytest.MarkDecorator = pytest.mark.conformance
) -> list[Any]:
    """Parameters of a test: a type that is not taken `often` belongs to the tier `conformance`, or to another one."""
    return [pytest.param(name, marks=() if name in often else tier, id=name) for name in names]


def registered_types(task: Task = "causal-lm") -> list[str]:
    """Every model type that transformers registers for `task` and that reads text, sorted."""
    if task == "causal-lm":
        return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    if task == "masked-lm":
        return sorted(MODEL_FOR_MASKED_LM_MAPPING_NAMES)
    return sorted(MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.keys() - NOT_TEXT.keys())


def missing_package(model_type: str) -> str | None:
    """The package that `model_type` needs and that is not installed, or None."""
    package = NEEDS_PACKAGE.get(model_type)
    return package if package and importlib.util.find_spec(package) is None else None


def tiny_config(model_type: str, task: Task = "causal-lm") -> PretrainedConfig:
    """The config of `model_type`, shrunk; two to four layers, one of each kind it mixes."""
    default = CONFIG_MAPPING[model_type](**NO_DEFAULT.get(model_type, {}))
    return _shrunk(default, _OVERRIDES[task].get(model_type, {}), task)


def _shrunk(default: PretrainedConfig, overrides: dict[str, Any], task: Task) -> PretrainedConfig:
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
            values[name] = _shrunk(value, overrides.pop(name, {}), task)
        elif name == "is_decoder" and task != "causal-lm":
            continue  # both ways, as by default
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


def tiny_model(model_type: str, seed: int = 0, task: Task = "causal-lm") -> PreTrainedModel:
    """A random model of `model_type`: float32, eval mode, the same for the same `seed`."""
    config = tiny_config(model_type, task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if task == "causal-lm" and model_type in BUILT_FROM_PART:
            part = getattr(config, BUILT_FROM_PART[model_type])
            model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
            model = model_class(part)
        else:
            model = AUTO_CLASS[task].from_config(config, dtype=torch.float32)
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


def byte_tokenizer(config: PretrainedConfig, task: Task = "causal-lm") -> PreTrainedTokenizerFast:
    """A tokenizer with one token per byte (id = 8 + byte) and the special ids of `config`.

    For causal LM it puts the beginning-of-sentence token first where `config` names one; for masked
    LM it makes `[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]`, where the type ids of the second text
    are 1; for sequence-to-sequence LM it puts the end-of-sentence token last.
    """
    roles: dict[str, int] = {}
    for role in _TEXT_ROLES:
        value = getattr(config, f"{role}_token_id", None)
        value = value[0] if isinstance(value, list) else value
        if isinstance(value, int) and value in _SPECIAL_IDS:
            roles[role] = value
    names = {index: f"<{role}>" for role, index in reversed(roles.items())}
    if task == "masked-lm":
        around = _ids_around(roles)
        roles |= around
        names |= {index: f"[{role.upper()}]" for role, index in around.items()}
    specials = [names.get(index, f"<unused{index}>") for index in _SPECIAL_IDS]
    tokens = {role: specials[index] for role, index in roles.items()}
    letters = bytes_to_unicode()
    vocabulary = {token: index for index, token in enumerate(specials)}
    vocabulary |= {letters[byte]: len(specials) + byte for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    inputs = _tokenizer_outputs(config)
    if task == "masked-lm":
        second = int("token_type_ids" in inputs)
        single = f"{tokens['cls']} $A {tokens['sep']}"
        pair = f"{single} $B:{second} {tokens['sep']}:{second}"
    elif task == "seq2seq-lm":
        single, pair = f"$A {tokens['eos']}", f"$A $B {tokens['eos']}"
    elif "bos" in roles:
        single, pair = f"{tokens['bos']} $A", f"{tokens['bos']} $A $B"
    else:
        single = pair = ""
    if single:
        used = [(specials[index], index) for index in sorted({*roles.values()}) if specials[index] in pair]
        tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=used)
    named: dict[str, Any] = {f"{role}_token": token for role, token in tokens.items()}
    if task != "causal-lm":
        named["model_input_names"] = inputs
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=POSITIONS, **named)


def _ids_around(roles: dict[str, int]) -> dict[str, int]:
    """Different ids for what BERT-like models read: of the same role, of a sentence as in roberta, else free ones."""
    around: dict[str, int] = {}
    for role, same in {"pad": "pad", "cls": "bos", "sep": "eos", "mask": "mask", "unk": "unk"}.items():
        named = [roles[name] for name in (role, same) if name in roles and roles[name] not in around.values()]
        free = (index for index in _SPECIAL_IDS if index not in (*roles.values(), *around.values()))
        around[role] = named[0] if named else next(free)
    return around


def _tokenizer_outputs(config: PretrainedConfig) -> list[str]:
    """What a tokenizer returns for the model of `config`: token types only where it tells two of them apart."""
    types = ["token_type_ids"] if (getattr(config, "type_vocab_size", None) or 0) >= 2 else []
    return ["input_ids", *types, *([] if config.model_type in _NO_MASK else ["attention_mask"])]


_NO_MASK = frozenset(["fnet"])  # Fourier transforms mix all tokens, and its forward has no such argument


def save_tiny(model_type: str, folder: Path, *, tokenizer: bool = True, task: Task = "causal-lm") -> Path:
    """Write the checkpoint of `tiny_model(model_type, task=task)` into `folder` and return `folder`.

    `AUTO_CLASS[task].from_pretrained(folder)` loads it again with the same logits, except for the
    types of causal LM in `BUILT_FROM_PART`.
    """
    model = tiny_model(model_type, task=task)
    model.save_pretrained(folder)
    config = tiny_config(model_type, task)
    if type(model.config) is not type(config):
        # AutoModelForCausalLM took a part of a composite config. Of emu3 and mllama the part
        # alone is not registered, and of none is it what users have on disk.
        config.architectures = [type(model).__name__]
        config.dtype = model.dtype
        config.save_pretrained(folder)
    if tokenizer:
        with_ids = model.config if task == "seq2seq-lm" else model.config.get_text_config()
        byte_tokenizer(with_ids, task).save_pretrained(folder)
    return folder


def main(arguments: list[str] | None = None) -> None:
    """Write tiny checkpoints into a folder, one line each."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--task", choices=list(AUTO_CLASS), default="causal-lm", help="default: %(default)s")
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("types", nargs="*", metavar="TYPE", help="default: all registered types")
    chosen = parser.parse_args(arguments)
    task: Task = chosen.task
    if unknown := sorted(set(chosen.types) - set(registered_types(task))):
        parser.error(f"not registered for {task}: {', '.join(unknown)}")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for model_type in chosen.types or registered_types(task):
        package = missing_package(model_type)
        if reason := _NOT_RUN[task].get(model_type):
            print(f"{model_type}: not run: {reason}")
        elif package:
            print(f"{model_type}: needs the package {package!r}")
        else:
            start = time.perf_counter()
            save_tiny(model_type, chosen.out_dir / model_type, task=task)
            print(f"{model_type}: {time.perf_counter() - start:.2f} s", flush=True)


if __name__ == "__main__":
    main()
