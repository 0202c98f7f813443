"""A decoder, an encoder and an encoder–decoder of a few words, with tokenizers of their own making: byte-level BPE with
<s> in front, WordPiece with segments, SentencePiece with languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    NllbTokenizer,
    PreTrainedTokenizerFast,
)

from tests.making.models import spread_weights, tiny_model

LONG = " ".join(["a bad cab fed a big face"] * 5)
"""What the decoder's tokens are learnt from, and more than it has positions."""

SHAPE: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}

WINDOW = 24
"""Positions that the decoder was made for."""

TEMPLATE = (
    "{% for m in messages %}{{ 'fed' if m.role == 'system' else 'a' }} {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}face{% endif %}"
)


def decoder_in(folder: Path, around: str = "<s> $A") -> Path:
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    specials = ["<s>", "</s>", "<unk>", "<mask>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([f" {LONG}"] * 3, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single=around, pair=f"{around} <s> $B", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, chat_template="<s>" + TEMPLATE, **named).save_pretrained(folder)
    ids: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1, "vocab_size": len(backend.get_vocab())}
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, **ids, max_position_embeddings=WINDOW))
    spread_weights(model)
    model.save_pretrained(folder)
    return folder


def encoder_in(folder: Path) -> Path:
    words = [*"我爱北京", "a", "bad", "cab", "fed", "big", "face", "##s", "##d", "c", "f"]
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    around = [("[CLS]", 2), ("[SEP]", 3)]
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=around
    )
    named = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=TEMPLATE,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **named,
    ).save_pretrained(folder)
    model = BertForMaskedLM(BertConfig(**SHAPE, vocab_size=len(vocabulary), max_position_embeddings=40))
    spread_weights(model)
    model.save_pretrained(folder)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    return folder


def both_in(folder: Path) -> Path:
    model = tiny_model("m2m_100", task="seq2seq-lm")
    with torch.no_grad():
        model.get_parameter("model.shared.weight")[model.config.eos_token_id] = 0.0  # else it ends before it begins
    model.save_pretrained(folder)
    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "▁", *"abcdefghij"])}
    languages = ["eng_Latn", "fra_Latn", "deu_Latn"]
    NllbTokenizer(vocab=vocabulary, extra_special_tokens=languages, chat_template=TEMPLATE).save_pretrained(folder)
    return folder
