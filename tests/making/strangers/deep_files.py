"""Strangers' JSON that is nested a hundred thousand deep."""

from __future__ import annotations

from pathlib import Path

from tests.making.bad_input import EMBED, TREE
from tests.making.checkpoints import to_shards
from tests.making.strangers.adapters import adapter
from tests.making.strangers.command_lines import ADAPTED, RUN, TOKENIZE
from tests.making.strangers.damaging import all_of
from tests.making.strangers.shard_indexes import INDEX
from tests.making.strangers.stranger import Damage, Stranger


def nested(depth: int, inner: str = "") -> str:
    """JSON lists in one another."""
    return "[" * depth + inner + "]" * depth


DEEP = nested(100_000)


def deep_in(name: str) -> Damage:
    """A JSON file with one value that is nested a hundred thousand deep."""

    def damage(folder: Path) -> None:
        file = folder / name
        text = file.read_text().strip() if file.exists() else "{}"
        inner = text[1:] if text != "{}" else '"x": 1}'
        file.write_text('{"deep": ' + DEEP + ", " + inner)

    return damage


DEEP_FILES = tuple(
    Stranger(f"{name} 1e5 deep", arguments, (name,), before, apart=True, either=arguments is RUN)
    for name, arguments, before in (
        ("config.json", TREE, deep_in("config.json")),
        ("tokenizer.json", TOKENIZE, deep_in("tokenizer.json")),
        ("tokenizer_config.json", TOKENIZE, deep_in("tokenizer_config.json")),
        ("special_tokens_map.json", TOKENIZE, deep_in("special_tokens_map.json")),
        ("generation_config.json", RUN, deep_in("generation_config.json")),
        (INDEX, EMBED, all_of(to_shards, deep_in(INDEX))),
        ("adapter_config.json", ADAPTED, all_of(adapter(), deep_in("../adapter/adapter_config.json"))),
    )
)
