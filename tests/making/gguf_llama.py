"""A whole Llama of one layer in a .gguf file, with a SentencePiece vocabulary of a few pieces."""

from __future__ import annotations

from pathlib import Path

import numpy as np

HIDDEN, HEADS, MLP = 64, 4, 96
PIECES = ["<unk>", "<s>", "</s>", "▁", "h", "i", "▁hi", "hi"]


def write_gguf(file: Path) -> Path:
    """Write it."""
    from gguf import GGUFWriter

    writer = GGUFWriter(file, "llama")
    writer.add_block_count(1)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(MLP)
    writer.add_context_length(128)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(PIECES)
    writer.add_token_scores([0.0] * 3 + [float(-index) for index in range(len(PIECES) - 3)])
    writer.add_token_types([2, 3, 3] + [1] * (len(PIECES) - 3))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    rng = np.random.default_rng(0)
    shapes = {
        "token_embd.weight": (len(PIECES), HIDDEN),
        **{f"blk.0.attn_{part}.weight": (HIDDEN, HIDDEN) for part in ("q", "k", "v", "output")},
        **{f"blk.0.ffn_{part}.weight": (MLP, HIDDEN) for part in ("gate", "up")},
        "blk.0.ffn_down.weight": (HIDDEN, MLP),
        **{f"{norm}.weight": (HIDDEN,) for norm in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm")},
        "output.weight": (len(PIECES), HIDDEN),
    }
    for name, shape in shapes.items():
        writer.add_tensor(name, rng.normal(0, 0.2, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
