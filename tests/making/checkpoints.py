"""Checkpoints: OPT in every variant, tiny; and ways to damage one."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.making.models import byte_tokenizer, spread_weights

VARIANTS: dict[str, dict[str, Any]] = {
    "pre_norm": {},
    "post_norm": {"do_layer_norm_before": False},
    "projected": {"word_embed_proj_dim": 32},
    "opt_350m": {"do_layer_norm_before": False, "word_embed_proj_dim": 32},
    "no_bias": {"enable_bias": False},
    "plain_norms": {"layer_norm_elementwise_affine": False},
    "untied": {"tie_word_embeddings": False},
    "no_final_norm": {"_remove_final_layer_norm": True},
}
"""OPT's variants, by what they change in the config."""


def write_opt(folder: Path, **changes: Any) -> Path:
    """Write a tiny OPT with weights spread so that nothing is uniform, in float32, with a byte-level tokenizer."""
    from transformers import OPTConfig, OPTForCausalLM

    values: dict[str, Any] = {
        "hidden_size": 64,
        "word_embed_proj_dim": 64,
        "ffn_dim": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "vocab_size": 384,
        "bos_token_id": 2,
        "eos_token_id": 2,
        "pad_token_id": 1,
        "dtype": torch.float32,
    }
    torch.manual_seed(0)
    model = OPTForCausalLM(OPTConfig(**(values | changes))).eval()
    spread_weights(model)
    model.save_pretrained(folder)
    byte_tokenizer(model.config).save_pretrained(folder)
    return folder


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 489776\n"


class Attack:
    """An object whose unpickling makes a folder."""

    def __init__(self, effect: Path) -> None:
        self.effect = effect

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.effect),)


def legacy(value: object, file: Path) -> None:
    """Save in torch's format of before 1.6, which is no zip."""
    torch.save(value, file, _use_new_zipfile_serialization=False)


def rewrite_header(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the header of a safetensors file and leave its data alone."""
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    changed = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(changed)) + changed + content[8 + length :])


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the tensors of a checkpoint."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def change_config(folder: Path, **values: Any) -> None:
    """Set values of a checkpoint's config."""
    _change(folder / "config.json", values)


def change_tokenizer(folder: Path, **values: Any) -> None:
    """Set values of what a checkpoint says of its tokenizer."""
    _change(folder / "tokenizer_config.json", values)


def _change(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def to_torch(folder: Path, store: Callable[..., object] = torch.save) -> None:
    """Turn a checkpoint's safetensors into a pytorch_model.bin."""
    store(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def to_shards(folder: Path) -> None:
    """Turn a checkpoint's safetensors into two shards with an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    _write_shards(folder, "model", ".safetensors", [{name: tensors[name] for name in half} for half in halves])


def keep(file: Path, share: float) -> None:
    """Cut a file off after a share of it."""
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])


def sharded(folder: Path, out: Path) -> Path:
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(out, max_shard_size="200KB")
    assert len(list(out.glob("*.safetensors"))) > 3
    return out


def in_bin(folder: Path, out: Path) -> Path:
    out.mkdir()
    torch.save(load_file(folder / "model.safetensors"), out / "pytorch_model.bin")
    return out


def sharded_bin(folder: Path, out: Path) -> Path:
    out.mkdir()
    tensors = load_file(folder / "model.safetensors")
    shards = [{name: tensors[name] for name in list(tensors)[part::2]} for part in range(2)]
    _write_shards(out, "pytorch_model", ".bin", shards)
    return out


def _write_shards(folder: Path, stem: str, suffix: str, shards: list[dict[str, torch.Tensor]]) -> None:
    """Write tensors into several files, and the index that tells which is where."""
    weight_map: dict[str, str] = {}
    for number, tensors in enumerate(shards, 1):
        file = f"{stem}-{number:05}-of-{len(shards):05}{suffix}"
        if suffix == ".safetensors":
            save_file(tensors, folder / file, {"format": "pt"})
        else:
            torch.save(tensors, folder / file)
        weight_map |= dict.fromkeys(tensors, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / f"{stem}{suffix}.index.json").write_text(json.dumps(index))
