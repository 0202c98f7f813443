"""Weight files: found in transformers' order, refused where they are damaged, and never run as code.

The ways to damage a checkpoint come first; test_errors.py uses them too.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.making.checkpoints import (
    LFS_POINTER,
    Attack,
    legacy,
    rewrite_header,
)
from txinspect.errors import SourceError
from txinspect.sources.checkpoint import weight_files
from txinspect.sources.headers import stored_dtype

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.weight": torch.ones(4)}


@pytest.fixture
def safetensors(tmp_path: Path) -> Path:
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    return tmp_path


@pytest.fixture
def torch_bin(tmp_path: Path) -> Path:
    torch.save(WEIGHTS, tmp_path / "pytorch_model.bin")
    return tmp_path


def refused(folder: Path) -> str:
    """The sentence of a checkpoint that is refused."""
    with pytest.raises(SourceError) as caught:
        weight_files(folder, "the model")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def shards(folder: Path, index: str = "model.safetensors.index.json") -> Path:
    """A checkpoint of two shards."""
    suffix = ".safetensors" if "safetensors" in index else ".bin"
    stem = "model" if "safetensors" in index else "pytorch_model"
    names = [f"{stem}-0000{number}-of-00002{suffix}" for number in (1, 2)]
    for name, (key, tensor) in zip(names, WEIGHTS.items(), strict=True):
        save_file({key: tensor}, folder / name) if suffix == ".safetensors" else torch.save(
            {key: tensor}, folder / name
        )
    weight_map = dict(zip(WEIGHTS, names, strict=True))
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def test_a_single_file(safetensors: Path) -> None:
    assert weight_files(safetensors, "the model") == [safetensors / "model.safetensors"]


def test_a_torch_file(torch_bin: Path) -> None:
    assert weight_files(torch_bin, "the model") == [torch_bin / "pytorch_model.bin"]


def test_a_torch_file_of_before_1_6(tmp_path: Path) -> None:
    legacy(WEIGHTS, tmp_path / "pytorch_model.bin")
    assert weight_files(tmp_path, "the model") == [tmp_path / "pytorch_model.bin"]


@pytest.mark.parametrize("index", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
def test_shards_are_listed_once_each(index: str, tmp_path: Path) -> None:
    found = weight_files(shards(tmp_path, index), "the model")
    assert [file.name.split(".")[0].partition("-")[2] for file in found] == ["00001-of-00002", "00002-of-00002"]


def test_safetensors_come_before_a_torch_file(safetensors: Path) -> None:
    (safetensors / "pytorch_model.bin").write_bytes(b"never looked at")
    assert weight_files(safetensors, "the model") == [safetensors / "model.safetensors"]


def test_one_file_comes_before_shards(safetensors: Path) -> None:
    assert weight_files(shards(safetensors), "the model") == [safetensors / "model.safetensors"]


def test_no_weights(tmp_path: Path) -> None:
    said = refused(tmp_path)
    assert all(word in said for word in ("'the model'", "model.safetensors", "pytorch_model.bin", str(tmp_path)))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize(("content", "said"), [(LFS_POINTER, "git lfs pull"), (b"", "empty")])
def test_something_else_in_its_place(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert name in refused(tmp_path)
    assert said in refused(tmp_path)


@pytest.mark.parametrize("kept", [1, 7, 8, 20, 100, -1])
def test_truncated_safetensors(kept: int, safetensors: Path) -> None:
    file = safetensors / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    assert all(word in refused(safetensors) for word in (str(file), "damaged or truncated", "fetch it again"))


@pytest.mark.parametrize("length", [2**60, 2**63, 2**64 - 1, 0, 10**9])
def test_absurd_header_length(length: int, safetensors: Path) -> None:
    file = safetensors / "model.safetensors"
    file.write_bytes(struct.pack("<Q", length) + file.read_bytes()[8:])
    assert str(file) in refused(safetensors)


@pytest.mark.parametrize("offsets", [[0, 10**12], [24, 0], [-8, 16], [4, 28], [0, 8], ["0", "24"], [0.5, 24]], ids=repr)
def test_wrong_offsets(offsets: list[Any], safetensors: Path) -> None:
    file = safetensors / "model.safetensors"
    rewrite_header(file, lambda header: header["a.weight"].update(data_offsets=offsets))
    assert str(file) in refused(safetensors)


@pytest.mark.parametrize("change", [{"dtype": "F99"}, {"shape": [2**40, 2**40]}, {"shape": [-2, -3]}], ids=repr)
def test_wrong_header(change: dict[str, Any], safetensors: Path) -> None:
    file = safetensors / "model.safetensors"
    rewrite_header(file, lambda header: header["a.weight"].update(change))
    assert str(file) in refused(safetensors)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_truncated_torch_file(kept: float, torch_bin: Path) -> None:
    file = torch_bin / "pytorch_model.bin"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    assert all(word in refused(torch_bin) for word in (str(file), "damaged or truncated"))


@pytest.mark.parametrize("store", [torch.save, legacy], ids=["zip", "before 1.6"])
def test_code_in_a_torch_file_does_not_run(store: Callable[..., None], tmp_path: Path) -> None:
    effect = tmp_path / "it ran"
    store({"a.weight": Attack(effect)}, tmp_path / "pytorch_model.bin")
    try:
        weight_files(tmp_path, "the model")
    except SourceError as error:
        assert "may be code" in str(error)  # noqa: PT017 - the old format is refused later, while it is read
    assert not effect.exists()


def test_the_attack_of_these_tests_is_one(tmp_path: Path) -> None:
    effect = tmp_path / "it ran"
    torch.save(Attack(effect), tmp_path / "attack.bin")
    torch.load(tmp_path / "attack.bin", weights_only=False)
    assert effect.exists()


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    (shards(tmp_path) / "model-00002-of-00002.safetensors").unlink()
    assert all(word in refused(tmp_path) for word in ("2 shards", "1 is not there", "model-00002-of-00002"))


def test_many_missing_shards_are_counted(tmp_path: Path) -> None:
    weight_map = {f"w{number}": f"model-{number:05}-of-00009.safetensors" for number in range(1, 10)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    said = refused(tmp_path)
    assert all(word in said for word in ("9 shards", "9 are not there", "model-00001", "and 6 more"))
    assert "model-00004" not in said


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    (shards(tmp_path) / "model-00002-of-00002.safetensors").write_bytes(LFS_POINTER)
    assert all(word in refused(tmp_path) for word in ("model-00002-of-00002", "git lfs pull"))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"{}", b'{"weight_map": []}', b'{"weight_map": {}}', b"\xff\xfe", LFS_POINTER],
    ids=repr,
)
def test_an_index_that_is_none(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors.index.json"
    file.write_bytes(content)
    assert str(file) in refused(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_stored_dtype(dtype: torch.dtype, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a.ids": torch.ones(2, dtype=torch.int64), "b.weight": torch.ones(2, dtype=dtype)}, file)
    assert f"torch.{stored_dtype(file)}" == str(dtype)


def test_stored_dtype_is_unknown_without_floats(tmp_path: Path) -> None:
    save_file({"ids": torch.ones(2, dtype=torch.int64)}, tmp_path / "model.safetensors")
    torch.save(WEIGHTS, tmp_path / "pytorch_model.bin")
    assert stored_dtype(tmp_path / "model.safetensors") is None
    assert stored_dtype(tmp_path / "pytorch_model.bin") is None


def test_checking_leaves_the_file_alone(safetensors: Path) -> None:
    before = (safetensors / "model.safetensors").read_bytes()
    weight_files(safetensors, "the model")
    assert (safetensors / "model.safetensors").read_bytes() == before
    assert load_file(safetensors / "model.safetensors").keys() == WEIGHTS.keys()
