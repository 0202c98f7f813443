"""What families call the numbers of a config.json, without torch."""

from __future__ import annotations

from typing import Any

FIELD_NAMES: dict[str, tuple[str, ...]] = {
    "num_hidden_layers": (
        "num_hidden_layers",
        "n_layer",
        "n_layers",
        "num_layers",
        "num_blocks",
        "decoder_layers",
        "num_decoder_layers",
        "encoder_layers",
    ),
    "num_encoder_layers": ("num_encoder_layers", "encoder_layers", "num_layers"),
    "num_attention_heads": (
        "num_attention_heads",
        "n_head",
        "n_heads",
        "num_heads",
        "attention_heads",
        "decoder_attention_heads",
        "num_decoder_attention_heads",
        "encoder_attention_heads",
    ),
    "num_key_value_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv"),
    "hidden_size": ("hidden_size", "n_embd", "d_model", "emb_dim"),
    "vocab_size": ("vocab_size",),
    "max_position_embeddings": (
        "max_position_embeddings",
        "n_positions",
        "n_ctx",
        "max_seq_len",
        "max_sequence_length",
        "seq_length",
        "max_target_positions",
    ),
}
"""What config.json calls a number, in the families of transformers (the `attribute_map` of its config classes); the
decoder's where a model has an encoder, too."""

WITHOUT_ATTENTION = ("mamba2", "xlstm")
"""Types whose num_heads are those of a recurrent mixer."""

TEXT_PARTS = ("text_config", "decoder", "llm_config")
"""Where the config of the language model stands in that of a larger model."""


COUNTED_OTHERWISE = ("dory", "hrm_text", "nemotron_h")
"""Types whose model has another number of layers than its config.json says, where attention and MLP count as two, each
cycle through a layer counts, or the letters of a pattern are the layers."""


def number(config: dict[str, Any], field: str) -> int | None:
    """A number of config.json that families name differently, such as num_hidden_layers; None if it has none.

    A model of several parts has it in the part that is the language model.
    """
    if field == "num_attention_heads" and config.get("model_type") in WITHOUT_ATTENTION:
        return None
    for part in (config, *(config.get(name) for name in TEXT_PARTS)):
        if not isinstance(part, dict):
            continue
        for name in FIELD_NAMES[field]:
            value = part.get(name)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
    return None


def layer_count(config: dict[str, Any]) -> int | None:
    """The number of layers that a model has by config.json, without torch; None where that alone does not tell."""
    count = None if config.get("model_type") in COUNTED_OTHERWISE else number(config, "num_hidden_layers")
    return count if count and count > 0 else None
