"""What is put aside comes back as it was, and leaves nothing behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch

from txinspect.answers.differences.shelf import Shelf
from txinspect.errors import InspectError

TENSORS = {
    "float": torch.tensor([[1.5, float("nan")], [-0.0, float("inf")]]),
    "bfloat16": torch.arange(5_000, dtype=torch.bfloat16),
    "complex": torch.tensor([1 + 2j, -3j]),
    "bool": torch.tensor([True, False]),
    "int": torch.arange(24).view(2, 3, 4).transpose(0, 2),
    "scalar": torch.tensor(7),
    "empty": torch.zeros(0, 3),
}


def test_tensors_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shelf = Shelf()
    for name, tensor in TENSORS.items():
        shelf[name] = tensor
    for name, tensor in TENSORS.items():
        found = shelf[name]
        assert found.dtype == tensor.dtype
        torch.testing.assert_close(found, tensor, rtol=0, atol=0, equal_nan=True)
    shelf.rename({"bool": "bool#1"})
    assert list(shelf) == [name.replace("bool", "bool#1") if name == "bool" else name for name in TENSORS]
    assert list(tmp_path.iterdir()) == []


def test_a_tensor_that_is_changed_changes_nothing_on_the_shelf() -> None:
    shelf = Shelf()
    shelf["a"] = torch.zeros(3)
    shelf["a"].add_(1)
    assert torch.equal(shelf["a"], torch.zeros(3))


def test_a_full_disk_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource", reason="only Unix limits the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    shelf = Shelf()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
        with pytest.raises(InspectError, match=r"could not be put aside in .*: File too large; make room there"):
            shelf["a"] = torch.zeros(1 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
