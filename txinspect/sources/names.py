"""What the files of a model are called."""

from __future__ import annotations

CONFIG_FILES = ("config.json",)

CODE_FILES = ("*.py",)

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*vocab*.json",
    "dict.txt",
    "emoji.json",
    "word_*.json",
    "byte_maps.json",
    "normalizer.json",
    "tekken.json",
    "*.model",
    "*.spm",
    "*.codes",
    "*.tiktoken",
    "*.tokenizer",
    "chat_template.*",
    "tokenizer*.py",
)
"""What the classes of transformers read (their vocab_files_names)."""

SAFETENSORS_FILES = ("model.safetensors", "model.safetensors.index.json")

TORCH_FILES = ("pytorch_model.bin", "pytorch_model.bin.index.json")

INDEX_FILES = (SAFETENSORS_FILES[1], TORCH_FILES[1])

WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin", "adapter_model.bin", "*.gguf")
"""The weights of a model or an adapter, whole or in shards."""

TAKEN_FILES = ("model*.safetensors", "pytorch_model*.bin", "adapter_model.*")
"""What would be taken for the weights of a model or an adapter if it lay in its folder."""

ADAPTER_CONFIG = "adapter_config.json"

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")

SENTENCE_FILES = (
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_*_config.json",
    "*_*/config.json",
    "*_*/sentence_*_config.json",
    *(f"*_{kind}/{file}" for kind in ("Dense", "LayerNorm") for file in ("model.safetensors", "pytorch_model.bin")),
)
"""What sentence-transformers puts beside a model, in its folder and in those of its modules."""
