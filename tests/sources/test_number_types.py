"""The table of types of numbers, beside the libraries whose names it holds."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from txinspect.sources.number_types import BY_NAME, BY_STORAGE, NumberType, torch_name

TYPES = pytest.mark.parametrize("each", BY_NAME.values(), ids=BY_NAME)


@TYPES
def test_torch_has_it(each: NumberType) -> None:
    dtype = getattr(torch, each.name)
    assert dtype.itemsize == each.bytes
    assert each.is_whole != (dtype.is_floating_point or dtype.is_complex)
    if each.storage is not None:
        assert getattr(torch, f"{each.storage}Storage").dtype == dtype
        assert BY_STORAGE[each.storage] is each


@TYPES
def test_numpy_or_ml_dtypes_has_it(each: NumberType) -> None:
    assert not (each.numpy and each.in_ml_dtypes)
    if each.numpy is not None or each.in_ml_dtypes:
        found = np.dtype(each.numpy or getattr(ml_dtypes, each.name))
        assert (found.name, found.itemsize) == (each.name, each.bytes)


@pytest.mark.parametrize("each", [each for each in BY_NAME.values() if each.header], ids=lambda each: each.name)
def test_safetensors_calls_it_so(each: NumberType, tmp_path: Path) -> None:
    file = tmp_path / "one.safetensors"
    save_file({"x": torch.zeros(1, dtype=getattr(torch, each.name))}, file)
    content = file.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["x"]["dtype"] == each.header
    assert torch_name(header["x"]["dtype"]) == each.name


def test_gguf_has_no_other_plain_type() -> None:
    plain = {kind.name for kind, (elements, _) in gguf.GGML_QUANT_SIZES.items() if elements == 1}
    assert {name for name in plain if torch_name(name) is None} == set()
    assert torch_name("Q4_0") is None
