"""Models from strangers: damaged and hostile checkpoints, each made of a good one, and what must be said of them."""

from __future__ import annotations

from tests.making.strangers import (
    adapters,
    configs,
    deep_files,
    gguf_files,
    nasty_bytes,
    no_files,
    safetensors_headers,
    shard_indexes,
    tokenizer_configs,
    tokenizer_files,
    tokenizer_panics,
    torch_files,
)

STRANGERS = (
    *no_files.NO_FILES,
    *configs.TOO_LARGE,
    *tokenizer_configs.TOO_LARGE,
    *tokenizer_files.TOO_LARGE,
    *adapters.TOO_LARGE,
    *gguf_files.TOO_LARGE,
    *configs.CONFIGS,
    *tokenizer_configs.TOKENIZER_CONFIGS,
    *tokenizer_files.TOKENIZERS,
    *safetensors_headers.HEADERS,
    *shard_indexes.INDEXES,
    *deep_files.DEEP_FILES,
    *adapters.ADAPTERS,
    *tokenizer_panics.PANICS,
    *torch_files.TORCH_FILES,
    *nasty_bytes.BYTES,
)
"""All of them."""
