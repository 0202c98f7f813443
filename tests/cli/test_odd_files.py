"""What a person gives that is no file, or of no such kind: dumps, lenses, places to save to, references in a cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.making.bad_input import EMBED, Run, in_model, sentence
from tests.making.checkpoints import change_config, to_torch
from txinspect import DiffQuery, RunQuery, inspect

pytestmark = pytest.mark.strangers

LOGITS = "logits"
TEXT = "hi there"


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.tensor(inspect(RunQuery(text=TEXT, stages=(LOGITS,), values=True)).tensors[0].values)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_is_no_file(tmp_path: Path, run_cli: Run) -> None:
    """A pipe would be waited for."""
    for name in ("pipe.npz", "pipe.safetensors", "pipe.pt"):
        os.mkfifo(tmp_path / name)
    for arguments in (
        ("run", "hi", "-s", LOGITS, "--save", tmp_path / "pipe.npz"),
        ("run", "hi", "-s", LOGITS, "--save", tmp_path / "pipe.safetensors", "--overwrite"),
        ("diff", "hi", "--against-file", tmp_path / "pipe.npz"),
        ("diff", "hi", "--against-file", tmp_path / "pipe.safetensors"),
        ("lens", "hi", "--lens", tmp_path / "pipe.pt"),
    ):
        assert "is a named pipe, not a file: give" in sentence(run_cli(*arguments))


def test_a_link_to_itself_cannot_be_written(tmp_path: Path, run_cli: Run) -> None:
    (tmp_path / "loop.npz").symlink_to("loop.npz")
    sentence(run_cli("run", "hi", "-s", LOGITS, "--save", tmp_path / "loop.npz"))


def test_dumps_of_every_type(tmp_path: Path, logits: torch.Tensor, run_cli: Run) -> None:
    def compared(**tensors: Any) -> Any:
        save_file(tensors, tmp_path / "x.safetensors")
        return inspect(DiffQuery(text=TEXT, against_file=tmp_path / "x.safetensors", stages=(LOGITS,)))

    assert 0 < compared(logits=logits.to(torch.float8_e4m3fn)).stages[0].rel_l2 < 0.1
    assert compared(logits=logits > 0).stages[0].rel_l2 > 0.1
    np.savez(tmp_path / "big.npz", logits=logits.numpy().astype(">f4"))
    report = inspect(DiffQuery(text=TEXT, against_file=tmp_path / "big.npz", stages=(LOGITS,), tolerance=0.0))
    assert report.stages[0].rel_l2 == 0.0
    save_file({LOGITS: logits.to(torch.complex64)}, tmp_path / "x.safetensors")
    asked = ("diff", TEXT, "--against-file")
    assert f"holds complex numbers in {LOGITS!r}" in sentence(run_cli(*asked, tmp_path / "x.safetensors"))
    np.savez(tmp_path / "none.npz")
    assert "holds no tensors" in sentence(run_cli(*asked, tmp_path / "none.npz"))
    np.savez(tmp_path / "other.npz", other=np.zeros(3))
    assert "it has other; name the stages" in sentence(run_cli(*asked, tmp_path / "other.npz"))
    said = sentence(run_cli(*asked, tmp_path / "other.npz", "--map", "other=nope"))
    assert "no stage 'nope' was compared" in said


def test_a_dump_that_unpacks_without_end(tmp_path: Path, run_cli: Run) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", logits=np.zeros(2 * 10**8, np.int8))
    said = sentence(run_cli("diff", TEXT, "--against-file", tmp_path / "bomb.npz"))
    assert "would unpack 194 kB of logits.npy to 200 MB" in said


@pytest.mark.parametrize("dtype", ["complex64", "bool", "int8"])
def test_a_lens_is_of_real_numbers(dtype: str, tmp_path: Path, run_cli: Run) -> None:
    save_file({"0.weight": torch.zeros(128, 128).to(getattr(torch, dtype))}, tmp_path / "x.safetensors")
    assert f"its layer 0 is of type {dtype}" in sentence(run_cli("lens", "hi", "--lens", tmp_path / "x.safetensors"))


@pytest.mark.parametrize("value", [{}, {"bits": 4}, {"quant_method": None}, {"load_in_8bit": False}])
def test_a_quantization_config_of_no_method(value: Any, model: Path, run_cli: Run) -> None:
    change_config(model, quantization_config=value)
    said = {sentence(run_cli(*command)) for command in (in_model("plan", "hi"), EMBED, ("tree", "./model"))}
    assert len(said) == 1
    assert "quantization_config" in said.pop()


@pytest.mark.parametrize("protocol", [4, 5])
def test_a_protocol_of_pickle_that_torch_does_not_read(protocol: int, model: Path, run_cli: Run) -> None:
    to_torch(model, lambda tensors, file: torch.save(tensors, file, pickle_protocol=protocol))
    assert "save it again by torch.save without pickle_protocol" in sentence(run_cli(*EMBED))
    assert run_cli("params", "./model").exit_code == 0


@pytest.mark.parametrize(
    ("content", "works"), [(b"{commit}\n", True), (b"", False), (b"\xff\x1b[31m", False), (b"{commit}", True)]
)
def test_references_in_the_hub_s_cache(
    content: bytes, works: bool, model: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, commit = model.parent / "hub", "a" * 40
    repository = cache / "models--u--m"
    (repository / "snapshots").mkdir(parents=True)
    model.rename(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_bytes(content.replace(b"{commit}", commit.encode()))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    result = run_cli("embed", "hi", "-m", "u/m")
    if works:
        assert result.exit_code == 0, result.stderr
    else:
        assert "in the local cache holds no commit: remove it" in sentence(result)
    assert run_cli("models").exit_code == 0


def test_standard_input_that_cannot_be_read() -> None:
    with Path(os.devnull).open("wb") as nowhere:
        done = subprocess.run(
            [sys.executable, "-m", "txinspect", "tokenize", "-"], stdin=nowhere, capture_output=True, check=False
        )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"txinspect: standard input cannot be read: ")
