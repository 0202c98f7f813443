"""Strangers' model.gguf: counts and lengths that cannot be true."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.making.strangers.command_lines import GGUF_PARAMS, GGUF_TREE
from tests.making.strangers.stranger import Damage, Stranger


def gguf(change: Callable[[Path], object] = lambda _: None, **settings: Any) -> Damage:
    """Write the header of a small Llama and one tensor into ./model.gguf; `__` in a setting stands for a dot."""

    def damage(folder: Path) -> None:
        from gguf import GGUFWriter

        file = folder.parent / "model.gguf"
        numbers = {
            "llama.block_count": 1,
            "llama.embedding_length": 64,
            "llama.feed_forward_length": 96,
            "llama.context_length": 128,
            "llama.attention.head_count": 4,
            "llama.attention.head_count_kv": 4,
        } | {name.replace("__", "."): value for name, value in settings.items()}
        writer = GGUFWriter(file, "llama")
        writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        writer.add_tokenizer_model("llama")
        writer.add_token_list(["<unk>", "<s>", "</s>", "▁", "h", "i"])
        writer.add_token_scores([0.0] * 6)
        writer.add_token_types([2, 3, 3, 1, 1, 1])
        for name, value in numbers.items():
            if isinstance(value, str):
                writer.add_string(name, value)
            elif isinstance(value, int):
                writer.add_uint64(name, value) if value >= 2**32 else writer.add_uint32(name, value)
            else:
                writer.add_array(name, value)
        writer.add_tensor("output_norm.weight", np.ones(64, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        change(file)

    return damage


def raw_gguf(*settings: bytes, tensors: bytes = b"", count: int = 0) -> Damage:
    """Write ./model.gguf of settings and tensors as they stand."""
    whole = b"GGUF" + struct.pack("<IQQ", 3, count, len(settings)) + b"".join(settings) + tensors + bytes(64)
    return lambda folder: (folder.parent / "model.gguf").write_bytes(whole)


def gguf_text(text: str) -> bytes:
    """A string as a GGUF file holds it."""
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


TOO_LARGE = (
    Stranger(
        "gguf block_count 1e5", GGUF_TREE, ("'./model.gguf'", "100000"), gguf(llama__block_count=10**5), apart=True
    ),
    Stranger(
        "gguf block_count 2^32 - 1, stages",
        ("stages", "./model.gguf"),
        ("'./model.gguf'", "4294967295"),
        gguf(llama__block_count=2**32 - 1),
        apart=True,
    ),
    Stranger(
        "gguf block_count 1e18, embed",
        ("embed", "hi", "-m", "./model.gguf"),
        ("'./model.gguf'",),
        gguf(llama__block_count=10**18),
        apart=True,
    ),
    Stranger(
        "gguf embedding_length 1e12", GGUF_TREE, ("'./model.gguf'",), gguf(llama__embedding_length=10**12), apart=True
    ),
    Stranger("gguf head_count 0", GGUF_TREE, ("'./model.gguf'",), gguf(llama__attention__head_count=0), apart=True),
    Stranger("gguf block_count a string", GGUF_TREE, ("'./model.gguf'",), gguf(llama__block_count="many"), apart=True),
    Stranger(
        "gguf block_count an array",
        GGUF_PARAMS,
        ("tensor",),
        gguf(llama__block_count=[1, 2, 3]),
        apart=True,
        harmless=True,
    ),
    Stranger(
        "gguf of 2^60 settings",
        GGUF_PARAMS,
        ("model.gguf",),
        lambda f: (f.parent / "model.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60)),
        apart=True,
    ),
    Stranger(
        "gguf with a string of 2^62", GGUF_PARAMS, ("model.gguf",), raw_gguf(struct.pack("<Q", 2**62)), apart=True
    ),
    Stranger(
        "gguf with an array of 2^60",
        GGUF_PARAMS,
        ("model.gguf",),
        raw_gguf(gguf_text("x") + struct.pack("<IIQ", 9, 8, 2**60)),
        apart=True,
    ),
    Stranger(
        "gguf with arrays 5000 deep",
        GGUF_PARAMS,
        ("model.gguf",),
        raw_gguf(gguf_text("x") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5000 + struct.pack("<IQ", 0, 0)),
        apart=True,
    ),
    Stranger(
        "gguf with an array of 2^40 empty arrays",
        GGUF_PARAMS,
        ("model.gguf",),
        raw_gguf(gguf_text("x") + struct.pack("<IIQ", 9, 9, 2**40) + struct.pack("<IQ", 0, 0) * 100_000),
        apart=True,
    ),
    Stranger("gguf alignment 0", GGUF_PARAMS, ("model.gguf",), gguf(general__alignment=0), apart=True),
    Stranger(
        "gguf alignment a string",
        GGUF_PARAMS,
        ("model.gguf",),
        raw_gguf(gguf_text("general.alignment") + struct.pack("<I", 8) + gguf_text("x")),
        apart=True,
    ),
    Stranger(
        "gguf tensor of 2^32 dimensions",
        GGUF_PARAMS,
        ("model.gguf",),
        raw_gguf(tensors=gguf_text("t") + struct.pack("<I", 2**32 - 1), count=1),
        apart=True,
    ),
    Stranger(
        "gguf tensor of a type that is none",
        GGUF_PARAMS,
        ("model.gguf",),
        raw_gguf(tensors=gguf_text("t") + struct.pack("<IQIQ", 1, 1, 999, 0), count=1),
    ),
)
