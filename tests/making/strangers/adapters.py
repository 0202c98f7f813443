"""Strangers' adapters: adapter_config.json and its weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.making.checkpoints import Attack, keep
from tests.making.strangers.command_lines import ADAPTED, ADAPTER_TREE
from tests.making.strangers.damaging import EFFECT, NO_OBJECTS, all_of, write
from tests.making.strangers.stranger import Damage, Stranger


def adapter(change: Callable[[Path], object] = lambda _: None, **values: Any) -> Damage:
    """Put a LoRA on the model into ./adapter, with changed values in its config."""

    def damage(folder: Path) -> None:
        made = folder.parent / "adapter"
        made.mkdir()
        told: dict[str, Any] = {
            "base_model_name_or_path": "./model",
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["q_proj"],
        }
        (made / "adapter_config.json").write_text(json.dumps(told | values))
        stem = "base_model.model.model.decoder.layers.{}.self_attn.q_proj.lora_{}.weight"
        tensors = {stem.format(layer, "A"): torch.ones(4, 64) for layer in range(3)}
        tensors |= {stem.format(layer, "B"): torch.ones(64, 4) for layer in range(3)}
        save_file(tensors, made / "adapter_model.safetensors")
        change(made)

    return damage


TOO_LARGE = (
    Stranger(
        "target_modules that backtracks for ever",
        ADAPTED,
        ("'./adapter'", "target_modules"),
        adapter(target_modules="((([a-z_.]|[0-9])+)+)+$!"),
        apart=True,
    ),
    Stranger(
        "target_modules that backtracks for ever, tree",
        ADAPTER_TREE,
        ("'./adapter'", "target_modules"),
        adapter(target_modules="(.*.*)*(.*.*)*x!"),
        apart=True,
    ),
    Stranger(
        "exclude_modules that backtracks for ever",
        ADAPTED,
        ("'./adapter'", "exclude_modules"),
        adapter(exclude_modules="(([a-z_.0-9]+)+)+!"),
        apart=True,
    ),
    Stranger(
        "target_modules that is no regex",
        ADAPTED,
        ("'./adapter'", "target_modules"),
        adapter(target_modules="((("),
        apart=True,
    ),
    Stranger("a rank of 1e12", ADAPTED, ("'./adapter'", "1000000000000"), adapter(r=10**12), apart=True),
    Stranger(
        "a rank of 1e12, tree",
        ADAPTER_TREE,
        ("'./adapter'", "1000000000000"),
        adapter(r=10**12),
        apart=True,
        either=True,
    ),
)


_ADAPTER_VALUES: tuple[tuple[tuple[str, ...], str, Any, str], ...] = (
    (ADAPTED, "peft_type", 5, "peft_type"),
    (ADAPTED, "peft_type", None, "peft_type"),
    (ADAPTED, "peft_type", "FROBNICATE", "FROBNICATE"),
    (ADAPTER_TREE, "peft_type", [], "peft_type"),
    (ADAPTED, "target_modules", 5, "target_modules"),
    (ADAPTED, "target_modules", [5], "target_modules"),
    (ADAPTED, "target_modules", {"a": 1}, "target_modules"),
    (ADAPTED, "target_modules", [], "target_modules"),
    (ADAPTED, "r", "x", "r"),
    (ADAPTED, "r", 0, "0"),
    (ADAPTER_TREE, "r", -4, "-4"),
    (ADAPTED, "lora_alpha", "x", "lora_alpha"),
    (ADAPTED, "lora_alpha", None, "lora_alpha"),
    (ADAPTED, "lora_dropout", "x", "lora_dropout"),
    (ADAPTED, "rank_pattern", 5, "rank_pattern"),
    (ADAPTED, "layers_to_transform", "x", "layers_to_transform"),
    (ADAPTED, "modules_to_save", 5, "modules_to_save"),
    (ADAPTED, "bias", "x", "bias"),
    (ADAPTED, "init_lora_weights", "pissa", "base"),
    (ADAPTER_TREE, "use_dora", "x", "use_dora"),
)


ADAPTERS = (
    *(
        Stranger(
            f"adapter: {key} {str(value)[:40]!r}",
            arguments,
            ("'./adapter'", *more),
            adapter(**{key: value}),
            either=key == "use_dora",
        )
        for arguments, key, value, *more in _ADAPTER_VALUES
    ),
    *(
        Stranger(
            f"adapter: base {value!r}",
            ADAPTED,
            ("base_model_name_or_path", *more),
            adapter(base_model_name_or_path=value),
        )
        for value, *more in (
            (5,),
            (["./model"],),
            ("",),
            ("\0",),
            ("a" * 5000,),
            ("/dev/zero", "/dev/zero"),
            ("\ud800",),
        )
    ),
    *(
        Stranger(
            f"adapter_config.json is {what}",
            ADAPTED,
            ("adapter_config.json",),
            all_of(adapter(), write("../adapter/adapter_config.json", text)),
        )
        for what, text in NO_OBJECTS
    ),
    Stranger(
        "adapter: odd keys",
        ADAPTED,
        ("hi",),
        adapter(frobnicate=5, auto_mapping={"base_model_class": 5}),
        harmless=True,
    ),
    Stranger(
        "adapter_model.safetensors truncated",
        ADAPTED,
        ("adapter_model.safetensors",),
        adapter(lambda made: keep(made / "adapter_model.safetensors", 0.5)),
    ),
    Stranger(
        "adapter_model.safetensors truncated, params",
        ("params", "./adapter"),
        ("adapter_model.safetensors",),
        adapter(lambda made: keep(made / "adapter_model.safetensors", 0.5)),
    ),
    Stranger(
        "adapter_model.bin of code",
        ADAPTED,
        ("adapter_model.bin", "code"),
        adapter(lambda made: _pickled_code(made / "adapter_model.safetensors", made / "adapter_model.bin")),
        apart=True,
    ),
)


def _pickled_code(before: Path, file: Path) -> None:
    before.unlink()
    torch.save({"attack": Attack(EFFECT)}, file)
