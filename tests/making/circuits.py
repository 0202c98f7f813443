"""A copying circuit written by hand into an OPT: a head that looks at the token before, and an induction head.

The residual stream holds one-hot vectors in spaces of their own, so that every norm divides by a constant, which its
weight and bias undo. Nothing but the two heads moves anything between tokens.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast
from transformers.models.opt.modeling_opt import OPTAttention

WORDS = ["?", *"abcdefg"]
POSITIONS = 10
SIZE = 16
"""Of a head; no space is larger."""

TOKEN, PLACE, BEFORE, NEXT = 0, 8, 20, 28
"""Where in the stream the spaces begin: the token, its position, the token before, what comes next."""

HIDDEN = 48

PREVIOUS, INDUCTION = (0, 1), (1, 2)
"""Layer and head."""

SHARP = 100.0
"""What scores are where a head looks, beside 0: the softmax is exact in float32."""


def save_circuit(folder: Path) -> Path:
    """Write the model with its tokenizer of words, and return the folder."""
    config = OPTConfig(
        vocab_size=len(WORDS),
        hidden_size=HIDDEN,
        ffn_dim=8,
        num_hidden_layers=2,
        num_attention_heads=HIDDEN // SIZE,
        max_position_embeddings=POSITIONS,
        word_embed_proj_dim=HIDDEN,
        tie_word_embeddings=False,
        dropout=0.0,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    model = OPTForCausalLM(config).eval()
    with torch.no_grad():
        _plant(model)
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(folder)
    return folder


def _plant(model: OPTForCausalLM) -> None:
    decoder = model.model.decoder
    tokens, places, following = len(WORDS), range(POSITIONS), torch.eye(len(WORDS))
    decoder.embed_tokens.weight.zero_()[:, TOKEN : TOKEN + tokens] = following
    decoder.embed_positions.weight.zero_()[2:, PLACE : PLACE + POSITIONS] = torch.eye(POSITIONS)
    for index, layer in enumerate(decoder.layers):
        layer.fc2.weight.zero_()
        layer.fc2.bias.zero_()
        attention = layer.self_attn
        attention.out_proj.weight.zero_()  # other heads compute something, and write nothing
        attention.out_proj.bias.zero_()
        _undo(layer.self_attn_layer_norm, 2 + index)
    first, second = (layer.self_attn for layer in decoder.layers)
    _clear(first, PREVIOUS[1])
    _clear(second, INDUCTION[1])
    for query in places[1:]:
        _look(first, PREVIOUS[1], PLACE + query, PLACE + query - 1, query)
    _look(first, PREVIOUS[1], PLACE, PLACE, 0)
    for token in range(tokens):
        _look(second, INDUCTION[1], TOKEN + token, BEFORE + token, token)
        _write(first, PREVIOUS[1], TOKEN + token, BEFORE + token, token)
        _write(second, INDUCTION[1], TOKEN + token, NEXT + token, token)
    _undo(decoder.final_layer_norm, 4)
    model.lm_head.weight.zero_()[:, NEXT : NEXT + tokens] = 5 * following


def _undo(norm: nn.LayerNorm, ones: int) -> None:
    """Make a norm give back what it reads: so many ones among zeros."""
    mean = ones / HIDDEN
    deviation = (mean - mean**2 + norm.eps) ** 0.5
    norm.weight.fill_(deviation)
    norm.bias.fill_(mean)


def _look(attention: OPTAttention, head: int, query: int, key: int, through: int) -> None:
    """Make a head whose query has `query` look at keys that have `key`."""
    attention.q_proj.weight[head * SIZE + through, query] = SHARP * SIZE**0.5
    attention.k_proj.weight[head * SIZE + through, key] = 1.0


def _write(attention: OPTAttention, head: int, read: int, write: int, through: int) -> None:
    """Make a head write at `write` what it finds at `read`."""
    attention.v_proj.weight[head * SIZE + through, read] = 1.0
    attention.out_proj.weight[write, head * SIZE + through] = 1.0


def _clear(attention: OPTAttention, head: int) -> None:
    """Make a head look nowhere, and write nothing."""
    rows = slice(head * SIZE, (head + 1) * SIZE)
    for each in (attention.q_proj, attention.k_proj, attention.v_proj):
        each.weight[rows] = 0
        each.bias[rows] = 0
