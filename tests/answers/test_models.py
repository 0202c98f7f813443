"""The list of models that need no network, of a cache made as the Hub makes it: files are links to blobs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from huggingface_hub import constants, scan_cache_dir

from txinspect.commands.models import AvailableModelRecord, ModelsQuery
from txinspect.inspecting import inspect
from txinspect.sources.bundled_models import BUNDLED


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


def fetch(cache: Path, name: str, files: Mapping[str, bytes], commit: str = "abc", *, main: bool = True) -> Path:
    """A snapshot in the cache, equal files as one blob; returns its folder."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    for folder in (snapshot, repository / "blobs", repository / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        blob = repository / "blobs" / content.hex()[:64]
        blob.write_bytes(content)
        (snapshot / file).symlink_to(os.path.relpath(blob, snapshot))
    if main:
        (repository / "refs" / "main").write_text(commit)
    return snapshot


def config(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def listed() -> dict[str, AvailableModelRecord]:
    return {model.name: model for model in inspect(ModelsQuery()).models}


def test_the_bundled_model(hub_cache: Path) -> None:
    model, other = inspect(ModelsQuery()).models
    assert (other.name, other.origin, other.model_type, other.layers) == ("transformer-mini", "bundled", "marian", 2)
    assert (model.name, model.origin, model.model_type, model.layers) == ("opt-mini", "bundled", "opt", 4)
    assert model.bytes == (BUNDLED / "opt-mini" / "model.safetensors").stat().st_size
    assert Path(model.path) == BUNDLED / "opt-mini"


def test_a_cached_model_is_as_large_as_its_weight_files_that_are_here(hub_cache: Path) -> None:
    folder = fetch(
        hub_cache,
        "a/b",
        {
            "config.json": config(model_type="gpt2", n_layer=12),
            "model-00001-of-00002.safetensors": b"x" * 100,
            "model-00002-of-00002.safetensors": b"y" * 30,
            "pytorch_model.bin": b"z" * 7,
            "training_args.bin": b"not weights",
            "tokenizer.json": b"nor these",
        },
    )
    model = listed()["a/b"]
    assert (model.origin, model.model_type, model.layers, model.bytes) == ("cache", "gpt2", 12, 137)
    assert Path(model.path) == folder
    (repository,) = scan_cache_dir(hub_cache).repos
    weights = [file for file in repository.refs["main"].files if file.file_name.startswith(("model", "pytorch"))]
    assert sum(file.size_on_disk for file in weights) == 137


def test_two_names_of_one_file_count_once_and_a_link_to_nothing_not_at_all(hub_cache: Path) -> None:
    folder = fetch(hub_cache, "a/b", {"model.safetensors": b"x" * 9, "copy.safetensors": b"x" * 9})
    (folder / "gone.safetensors").symlink_to("../../blobs/gone")
    assert listed()["a/b"].bytes == 9


def test_the_snapshot_is_that_of_main_or_else_the_newest(hub_cache: Path) -> None:
    new = fetch(hub_cache, "a/b", {"config.json": config(num_hidden_layers=2)}, "new", main=False)
    old = fetch(hub_cache, "a/b", {"config.json": config(num_hidden_layers=1)}, "old", main=False)
    os.utime(old, (1, 1))
    assert listed()["a/b"].layers == 2
    (hub_cache / "models--a--b" / "refs" / "main").write_text("old")
    assert listed()["a/b"].layers == 1
    assert listed()["a/b"].bytes == 0
    assert new != old


def test_what_is_broken_is_listed_with_nulls(hub_cache: Path) -> None:
    (hub_cache / "models--a--empty").mkdir()
    (hub_cache / "models--a--file").write_text("no folder")
    fetch(hub_cache, "a/adapter", {"adapter_config.json": b"{}", "adapter_model.safetensors": b"1234"})
    fetch(hub_cache, "a/damaged", {"config.json": b"{", "model.safetensors": b"12"})
    fetch(hub_cache, "a/list", {"config.json": b"[]"})
    fetch(hub_cache, "a/odd", {"config.json": config(model_type=3, num_hidden_layers="many")})
    found = {name: model for name, model in listed().items() if model.origin != "bundled"}
    assert {(model.model_type, model.layers) for model in found.values()} == {(None, None)}
    sizes = {"a/empty": 0, "a/file": None, "a/adapter": 4, "a/damaged": 2, "a/list": 0, "a/odd": 0}
    assert {name: model.bytes for name, model in found.items()} == sizes
    assert found["a/empty"].path == str(hub_cache / "models--a--empty")


def test_no_cache_is_no_error(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub_cache / "none"))
    assert list(listed()) == ["opt-mini", "transformer-mini"]
