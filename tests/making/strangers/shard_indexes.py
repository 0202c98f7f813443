"""Strangers' model.safetensors.index.json: which shard a tensor is in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.making.bad_input import EMBED, EMBEDDING, FC1
from tests.making.checkpoints import to_shards
from tests.making.strangers.command_lines import PARAMS, PLAN, RUN
from tests.making.strangers.damaging import all_of, change_json, recoded
from tests.making.strangers.stranger import Damage, Stranger

INDEX = "model.safetensors.index.json"


def index(content: Any) -> Damage:
    """Give the model an index in the place of its weights."""

    def damage(folder: Path) -> None:
        to_shards(folder)
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / "model.safetensors.index.json").write_text(text)

    return damage


def index_changed(change: Callable[[Any], object]) -> Damage:
    """Turn the weights into shards and change their index."""

    def damage(folder: Path) -> None:
        to_shards(folder)
        change_json("model.safetensors.index.json", change)(folder)

    return damage


def mapped(target: Any) -> Damage:
    """An index that says that one tensor is in another place."""
    return index_changed(lambda content: content["weight_map"].update({FC1: target}))


INDEXES = (
    Stranger("index: weight_map of numbers", EMBED, (INDEX, FC1, "5"), mapped(5)),
    Stranger("index: weight_map of null", PARAMS, (INDEX, FC1), mapped(None)),
    Stranger("index: weight_map of lists", PLAN, (INDEX, FC1), mapped(["model-00001-of-00002.safetensors"])),
    Stranger(
        "index: a path that climbs out",
        EMBED,
        (INDEX, FC1, "../secret.safetensors"),
        all_of(
            lambda f: shutil.copy(f / "model.safetensors", f.parent / "secret.safetensors"),
            mapped("../secret.safetensors"),
        ),
    ),
    Stranger(
        "index: a path that climbs out, params",
        PARAMS,
        (INDEX, FC1, "../secret.safetensors"),
        all_of(
            lambda f: shutil.copy(f / "model.safetensors", f.parent / "secret.safetensors"),
            mapped("../secret.safetensors"),
        ),
    ),
    Stranger("index: an absolute path", PARAMS, (INDEX, FC1, "/etc/passwd"), mapped("/etc/passwd")),
    Stranger("index: an absolute path, run", RUN, (INDEX, FC1, "/dev/zero"), mapped("/dev/zero"), apart=True),
    Stranger("index: the folder itself", EMBED, (INDEX, FC1, "'.'"), mapped(".")),
    Stranger("index: an empty name", EMBED, (INDEX, FC1, "''"), mapped("")),
    Stranger("index: a NUL in a name", EMBED, (INDEX,), mapped("a\0b")),
    Stranger("index: a name of 5000 characters", EMBED, (INDEX,), mapped("x" * 5000)),
    Stranger("index: a lone surrogate in a name", EMBED, (INDEX,), mapped("\ud800.safetensors")),
    Stranger("index: config.json as a shard", EMBED, ("config.json",), mapped("config.json")),
    Stranger("index: itself as a shard", PARAMS, (INDEX,), mapped(INDEX)),
    Stranger("index: weight_map a list", EMBED, (INDEX,), index({"weight_map": []})),
    Stranger("index: weight_map a string", PARAMS, (INDEX,), index({"weight_map": "x"})),
    Stranger("index: no weight_map", PLAN, (INDEX,), index({"metadata": {}})),
    Stranger("index: null", PARAMS, (INDEX,), index("null")),
    Stranger("index: metadata null", EMBED, ("hi",), index_changed(lambda c: c.update(metadata=None)), harmless=True),
    Stranger(
        "index: metadata a list", RUN, ("logits",), index_changed(lambda c: c.update(metadata=[1])), harmless=True
    ),
    Stranger("index: no metadata", RUN, ("logits",), index_changed(lambda c: c.pop("metadata")), harmless=True),
    Stranger(
        "index: total_size a string",
        PLAN,
        ("model-00001",),
        index_changed(lambda c: c.update(metadata={"total_size": "x"})),
        harmless=True,
    ),
    Stranger(
        "index: NaN in metadata",
        EMBED,
        ("hi",),
        index_changed(lambda c: c.update(metadata={"x": float("nan")})),
        harmless=True,
    ),
    Stranger(
        "index: tensors in the wrong shard",
        RUN,
        ("'./model'",),
        index_changed(lambda c: c["weight_map"].update({EMBEDDING: "model-00002-of-00002.safetensors"})),
        either=True,
    ),
    Stranger(
        "index: a tensor that is in no shard",
        EMBED,
        ("hi",),
        index_changed(lambda c: c["weight_map"].update(ghost="model-00001-of-00002.safetensors")),
        harmless=True,
    ),
    Stranger(
        "index: 100,000 shards",
        EMBED,
        (INDEX,),
        index_changed(lambda c: c["weight_map"].update({f"t{n}": f"s{n}.safetensors" for n in range(100_000)})),
        apart=True,
    ),
    Stranger("index in UTF-16", EMBED, (INDEX,), all_of(to_shards, lambda f: recoded(f / INDEX, "utf-16"))),
    Stranger(
        "index with a byte order mark", EMBED, (INDEX,), all_of(to_shards, lambda f: recoded(f / INDEX, "utf-8-sig"))
    ),
)
