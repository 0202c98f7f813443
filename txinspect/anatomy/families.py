"""What families call their modules, and the true exceptions: all that is known about families, as data.

A new family needs at most a name here.
"""

from __future__ import annotations

import re
from typing import Any

# --- What families call their modules -------------------------------------------------------------------------------

LAYER_LISTS = ("layers", "h", "blocks", "block", "layer", "attentions", "albert_layer_groups", "self_attends")

OTHER_STACKS = re.compile(r"vision|image|audio|embed_tokens_extend|patcher|local_encoder|local_decoder")
"""Stacks that do not read the text's residual stream: other modalities, and blt's byte-level parts."""

ATTENTIONS = (
    "self_attn.longformer_self_attn",
    "self_attn",
    "attention.self_attention",
    "attention.self",
    "attention.attn",
    "attn.attention",
    "attn",
    "attention",
    "self_attention",
    "multi_head_attention",
    "norm_attn_norm.attn",
    "self_att.self_attention",
    "rel_attn",
    "temporal_block",
    "mixer",
    "shared_transf.self_attn",
    "shared_transformer.self_attn",
    "cross_attn",
    "layer.0.SelfAttention",
    "layer.0.LocalSelfAttention",
    "layer.0.TransientGlobalSelfAttention",
)

CROSS_ATTENTIONS = (
    "encoder_attn",
    "cross_attn",
    "cross_attention",
    "crossattention.self",
    "layer.1.EncDecAttention",
)
"""What a decoder's layer calls its attention to the encoder's output."""

ATTENTION_CLASS = re.compile(r"Attention|MLA|LSH")

LINEAR_ATTENTION_CLASS = re.compile(r"Delta|Lightning|Rwkv|Block$")
"""Recurrent mixers that are called attention but have no softmax."""

MIXERS = (
    "mixer",
    "mamba",
    "linear_attn",
    "conv",
    "mlstm_layer",
    "mamba_decoder.mamba",
    "self_attn",
    "attention",
    "temporal_block",
    "fourier.self",
)

MLPS = (
    "mlps",
    "mlp",
    "feed_forward",
    "ffn.ffn",
    "ffn",
    "block_sparse_moe",
    "mlp_block",
    "ff",
    "shared_transf.feed_forward",
    "shared_transformer.feed_forward",
    "layer.1.DenseReluDense",
    "layer.2.DenseReluDense",
    "layer.1.mlp",
    "layer.2.mlp",
    "mixer",
)

MLP_CLASS = re.compile(r"(MLP|MoE)$")
"""What a layer that has one module of any kind, such as Nemotron-H's mixer, calls an MLP."""

MLP_PAIRS = (("fc1", "fc2"), ("intermediate", "output.dense"), ("intermediate", "output.conv1d"), ("ffn", "ffn_output"))
"""Layers without an MLP module: the first and the last of the modules that make it."""

ROUTERS = ("router", "gate")

POSITION_EMBEDDINGS = (
    "embed_positions",
    "position_embeddings",
    "wpe",
    "positions_embed",
    "position_bias",
    "input_preprocessor.position_embeddings",
)

TOKEN_TYPE_EMBEDDINGS = ("token_type_embeddings", "segment_embeddings")

EMBEDDINGS = ("embeddings", "layernorm_embedding", "layer_norm_emb", "embeddings_layer_norm")
"""What passes on the sum of all embeddings, after its norm: a module that holds WORDS, or the norm itself."""

WORDS = ("word_embeddings", "tok_embeddings", "word_emb")

POOLERS = ("pooler",)

HEAD_TRANSFORMS = (
    "cls.predictions.transform",
    "lm_head.layer_norm",
    "vocab_layer_norm",
    "predictions.LayerNorm",
    "cls.predictions.LayerNorm",
    "generator_predictions",
    "head.norm",
    "projection_head.norm",
)
"""What transforms the last hidden states before the head's matrix reads them."""

RELATIVE_BIASES = ("rel_logits_proj", "relative_position_bias")
"""What makes a bias of each layer's scores out of the distance between query and key."""

ROTATED_SINUSOIDS = ("roformer",)
"""Models whose position embeddings rotate q and k instead of being added."""

COMPLEX_ROTARY = ("DeepseekV2RotaryEmbedding", "Llama4TextRotaryEmbedding")
"""Rotary modules that pass on one complex table instead of cos and sin."""

SWAPS_MODULES = ("big_bird", "bigbird_pegasus")
"""Types whose modules depend on the length of the text."""

SINE_FIRST = ("CodeGenRotaryEmbedding", "GPTJRotaryEmbedding")
"""Rotary modules that pass on sin and cos, in this order."""

FINAL_NORMS = (
    "final_layer_norm",
    "norm",
    "final_layernorm",
    "ln_f",
    "norm_f",
    "layer_norm",
    "final_norm",
    "embedding_norm",
    "ln_out",
    "out_norm",
    "layernorm",
    "output_layernorm",
    "LayerNorm",
    "ln",
    "hyper_connection_mixer.hc_norm",
    "emb_layer_norm_after",
)

INPUT_PROJECTIONS = ("project_in", "embedding_hidden_mapping_in", "embeddings_project")

OUTPUT_PROJECTIONS = ("project_out",)


# --- True exceptions, a line each -------------------------------------------------------------------------------------

OUTPUT_PROJECTION_BESIDE = {
    "attention.self": "attention.output.dense",
    "attention.self_attention": "attention.output.dense",
    "crossattention.self": "crossattention.output.dense",
    "attention": "post_attention.conv1d",
    "self_attn.longformer_self_attn": "self_attn.output",
}
"""Attention modules that end before their output projection: where that is, in the layer."""

OUTPUT_INSIDE = {
    "BloomAttention": "dense",
    "BloomMLP": "dense_4h_to_h",
    "MptMLP": "down_proj",
    "XLNetFeedForward": "layer_2",
    "ChunkReformerFeedForward": "output.dense",
    "AlbertAttention": "dense",
}
"""Modules that add the residual stream themselves: the module inside whose output is what they add."""

ADDS_RESIDUAL = {"XLNetRelativeAttention": "the module adds the residual stream and normalises: its output has both"}
"""Modules that add the residual stream to something no module supplies."""

SUMMED_MLPS = (("block_sparse_moe", "shared_mlp"), ("mlp", "experts"), ("mlps", "mlp"))
"""Layers that add the outputs of two MLPs, so that no module supplies the sum."""

RESIDUAL_AXES = {
    "gemma3n": ("stream", "batch", "seq", "hidden"),
    "gemma3n_text": ("stream", "batch", "seq", "hidden"),
    "deepseek_v4": ("batch", "seq", "stream", "hidden"),
    "hy_v4": ("batch", "seq", "stream", "hidden"),
    "qwen4_exp": ("batch", "seq", "stream_hidden"),
    "qwen4_exp_text": ("batch", "seq", "stream_hidden"),
    "xlnet": ("seq", "batch", "hidden"),
    "prophetnet": ("batch", "ngram_seq", "hidden"),
    "cpmant": ("batch", "prompt_seq", "hidden"),
    "blt": ("batch", "patch", "hidden"),
    "reformer": ("batch", "padded_seq", "hidden"),
    "squeezebert": ("batch", "hidden", "seq"),
    "fsmt": ("seq", "batch", "hidden"),
}
"""Residual streams that are not (batch, seq, hidden)."""

NO_SOFTMAX = {
    "LSHSelfAttention": "hashed attention sorts queries into buckets: it has no matrix of weights",
    "LocalSelfAttention": "chunked attention normalises by a log-sum: it has no softmax to watch",
    "BigBirdBlockSparseAttention": "block-sparse attention, used for long texts, has no matrix of weights",
    **dict.fromkeys(
        ["LongformerSelfAttention", "LEDEncoderSelfAttention", "PegasusXGlobalLocalAttention"],
        "it attends in windows of a padded text, and to a few tokens of all: its weights are no matrix of tokens",
    ),
    "YosoSelfAttention": "it estimates by hashing how alike queries and keys are: it has no softmax",
    "MllamaTextCrossAttention": "cross-attention runs only where there is an image",
}
"""Attention modules inside of which nothing can be recorded."""

GATED_CONTEXTS = ("GraniteSWAAttention", "GraniteMoeSWAAttention", "NystromformerSelfAttention")
"""Attention modules that scale weights·v by a gate, or add a convolution of v, before they pass it on."""

CODEBOOK_READERS = ("musicgen_decoder", "musicgen_melody_decoder")
"""Models that read a row of ids for each of several codebooks and sum their embeddings."""

FINAL_NORMS_OF: dict[str, tuple[str, ...]] = {
    "bigbird_pegasus": ("layernorm_embedding",),
    "deberta-v2": (),  # its encoder.LayerNorm is that of the relative positions
}
"""Types whose norm after the last layer has the name that others give to another one."""

CALLED_DIRECTLY = ("SqueezeBertModule",)
"""Layers whose forward is called as a function, so that no hook of theirs runs: their first and last parts stand for
them."""

POSITION_SCORES = {
    "DisentangledSelfAttention": ("disentangled_att_bias", "disentangled_attention_bias"),
}
"""Attention modules that score positions apart from contents: the method that does, by the names it has."""

IN_BLOCKS = ("LongT5LocalAttention", "LongT5TransientGlobalAttention")
"""Attention modules that cut the text into blocks: a query sees the keys of its own block and of those beside it."""

ASKS_DECODER_EMBEDDINGS = ("fsmt",)
"""Types whose code reads the type of the decoder's embedding weights before anything runs."""

LOOPED = ("dory", "hrm_text", "inkling2_loop_text", "nanochat")
"""Models that run a stage's module several times in a pass: their layers, or one norm at both ends."""

ROUTER_OUTPUTS = {
    "JetMoeTopKGating": (4, None, None),
    "Llama4Router": (1, 0, None),
    "DbrxRouter": (0, None, None),
}
"""Routers that do not return (logits, weights of the chosen, the chosen): where these stand, None for nowhere."""

NO_POSITIONS = "the model has no positions: the order of the tokens enters through its recurrent layers"

POSITIONS_IN_ATTENTION = {
    "deberta-v2": "distances enter the scores of each layer: see layers.{i}.attention.scores.position",
    "funnel": "distances enter the scores within each attention, and no module passes them on",
}
"""Types whose positions are nowhere but in the attention."""

CONTAINERS = {
    "ModuleList": "it is a list of modules, which never runs itself: ask for one of them",
    "ModuleDict": "it is a dictionary of modules, which never runs itself: ask for one of them",
}

ADDS_UP = frozenset(
    """
    apertus apertus1p5_text arcee aria_text axk1 axk2 bailing_hybrid bamba bigbird_pegasus biogpt bitnet blenderbot
    bloom blt codegen cohere cohere2 cohere2_moe cohere_compass_text cpmant ctrl cwm dbrx deepseek_v2 deepseek_v3
    deepseek_v32 diffllama dots1 dots3_note dots3_note_text emu3 ernie4_5 ernie4_5_moe exaone exaone_moe falcon
    falcon_h1 falcon_mamba flint fuyu gemma glm glm4_moe glm4_moe_lite glm_moe_dsa got_ocr2 gpt-sw3 gpt2 gpt_bigcode
    gpt_neo gpt_neox gpt_oss gptj helium hrm_text hunyuan_v1_dense hunyuan_v1_moe hy_v3 internlm3 iquestcoder jais2
    jamba jetmoe kimi_linear laguna lara_mini lfm2 lfm2_moe llama llama4 llama4_text mamba mamba2 mbart
    megatron-bert mellum mimo_v2_flash minimax_m2 minimax_m3_vl_text ministral ministral3 mistral mixtral
    modernbert-decoder moshi moss_transcribe_diarize mpt musicgen musicgen_melody nanochat nemotron nemotron_h olmo
    olmoe opt pegasus persimmon phi phi3 phi4_multimodal phimoe qwen2 qwen2_moe qwen3 qwen3_5 qwen3_5_moe
    qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next recurrent_gemma roberta-prelayernorm sarvam_mla sarvam_moe
    seed_oss smollm3 solar_open stablelm starcoder2 vaultgemma whisper xglm xlm-roberta-xl xlstm youtu
    """.split()  # noqa: SIM905 - a list of 125 strings is no easier to read
)
"""Types in which every layer's output is its input plus what its attention or mixer and its MLP pass on, unscaled."""

ADDS_UP_IF = {
    "bloom": ("apply_residual_connection_post_layernorm", False),
    "opt": ("do_layer_norm_before", True),
}
"""Of those, the ones whose config decides: the field, and the value that it takes."""


def adds_up(config: Any) -> bool:
    """Whether a family's layers are known to add attention and MLP to their input as they are."""
    if config.model_type not in ADDS_UP:
        return False
    field, value = ADDS_UP_IF.get(config.model_type, ("model_type", config.model_type))
    return bool(getattr(config, field) == value)


NO_SUM = {
    "blt": "its last stack reads patches of bytes that another one made, and what that adds reaches no logit as a sum",
    "hrm_text": "its code lets no gradient through all but the last of its cycles",
    "perceiver": "its latents are read by a decoder whose stream is another one",
    "reformer": "its layers keep two streams, and its code gives gradients in training alone",
}
"""Types whose logits are no sum of what parts write to one stream, or whose code keeps that from being seen."""

READS_AGAIN = frozenset(
    {
        *("deepseek_v4", "gemma3n_text", "gemma4", "gemma4_text", "hrm_text", "inkling2_loop_text", "inkling2_text"),
        *("reformer", "zamba", "zamba2"),
    }
)
"""Types whose later layers read ids, embeddings, a second stream or the first layer's input again: what stands at the
input of layer 0 is not all that they see (tests/answers/test_edits_of_every_type.py finds them)."""
