"""Saved tensors: exact, named, described; written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from tests.making.checkpoints import to_torch
from tests.making.reports import text_input
from txinspect.answers import saving
from txinspect.answers.saving import KeptTensor
from txinspect.commands.attn import AttnQuery
from txinspect.commands.embed import EmbedQuery
from txinspect.commands.run import RunQuery
from txinspect.errors import InspectError, UsageError
from txinspect.inspecting import inspect
from txinspect.model_choice import DType, ModelChoice
from txinspect.records import TensorsReport
from txinspect.writing import written_whole

FORMATS = (".safetensors", ".npz")
TEXT = "naïve fox"


def opened(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a saved file and its metadata, with the formats' own libraries."""
    if path.suffix == ".safetensors":
        with safetensors.safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    metadata: dict[str, str] = json.loads(str(arrays.pop("__metadata__")))
    return {name: torch.from_numpy(array) for name, array in arrays.items()}, metadata


def listed(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def saved(folder: Path, path: Path, *stages: str, dtype: DType = "auto", overwrite: bool = False) -> TensorsReport:
    model = ModelChoice(name=str(folder), dtype=dtype)
    return inspect(
        RunQuery(model=model, text=TEXT, stages=stages or ("**",), values=True, save=path, overwrite=overwrite)
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("suffix", FORMATS)
def test_every_tensor_comes_back_exactly(suffix: str, dtype: DType, opt: Path, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    report = saved(opt, path, dtype=dtype)
    tensors, metadata = opened(path)
    stored = "float32" if (suffix, dtype) == (".npz", "bfloat16") else dtype
    assert tensors.keys() == {record.name for record in report.tensors}
    for record in report.tensors:
        found = tensors[record.name]
        assert found.dtype == getattr(torch, stored)
        wanted = torch.tensor(record.values, dtype=torch.float64).reshape(record.shape)
        assert torch.equal(found.double(), wanted), record.name
    assert json.loads(metadata["axes"]) == {record.name: record.axes for record in report.tensors}
    assert json.loads(metadata["coordinates"]) == {}
    assert (metadata["txinspect"], metadata["model"]) == (report.txinspect, str(opt))
    words = [token.token if token.text is None else token.text for token in report.input.tokens]
    assert json.loads(metadata["tokens"]) == words
    assert "decoder_tokens" not in metadata
    assert report.saved == str(path)
    widened = [note for note in report.notes if "bfloat16" in note]
    assert len(widened) == (1 if stored != dtype else 0)
    assert not widened or str(len(tensors)) in widened[0]


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_was_cut_is_said(suffix: str, opt: Path, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    query = AttnQuery(model=ModelChoice(name=str(opt)), text=TEXT, heads=(1, 3), queries=(2, 4), values=True, save=path)
    report = inspect(query)
    tensors, metadata = opened(path)
    coordinates = json.loads(metadata["coordinates"])
    assert coordinates["layers.0.attention.weights"] == {"head": [1, 3], "query": [2, 4]}
    assert coordinates["layers.0.attention.k"] == {"kv_head": [1, 3]}
    assert "layers.0.attention.input" not in coordinates
    for record in report.tensors:
        assert torch.equal(tensors[record.name], torch.tensor(record.values))


def test_saving_does_not_need_values(opt: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    report = inspect(EmbedQuery(model=ModelChoice(name=str(opt)), text=TEXT, save=path))
    assert report.tensors[0].values is None
    assert list(opened(path)[0]["token_embeddings"].shape) == report.tensors[0].shape


@pytest.mark.parametrize("suffix", FORMATS)
def test_weights_in_blocks_are_saved_whole(
    suffix: str, opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("txinspect.forward.attention.calls.BLOCK_ELEMENTS", 100)
    path = tmp_path / f"out{suffix}"
    report = saved(opt, path, "layers.0.attention.weights")
    (found,) = opened(path)[0].values()
    assert torch.equal(found, torch.tensor(report.tensors[0].values))


@pytest.mark.parametrize("suffix", FORMATS)
def test_views_and_odd_values_are_saved_as_they_are(suffix: str, tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(2, 3, 4)
    whole[0, 0] = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0])
    tensors = {"a": whole, "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "whole": torch.tensor([1, 2])}
    path = tmp_path / f"out{suffix}"
    saving.save(path, {name: KeptTensor(each) for name, each in tensors.items()}, "name", text_input(["text"]))
    found, _ = opened(path)
    for name, wanted in tensors.items():
        torch.testing.assert_close(found[name], wanted, rtol=0, atol=0, equal_nan=True)
    assert torch.signbit(found["a"][0, 0, 3])


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_older_file_is_replaced(suffix: str, opt: Path, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    saved(opt, path, "token_embeddings")
    report = saved(opt, path, "logits")
    assert report.replaced
    assert list(opened(path)[0]) == ["logits"]
    assert listed(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_another_program_wrote_is_replaced_only_on_demand(suffix: str, opt: Path, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    for content in (b"old", b"", b"\xff" * 9, (opt / "model.safetensors").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(InspectError, match=r"was not written by txinspect: add overwrite=True to replace it$"):
            saved(opt, path, "logits")
        assert path.read_bytes() == content
    saved(opt, path, "logits", overwrite=True)
    assert list(opened(path)[0]) == ["logits"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_file_of_the_model_is_never_written(overwrite: bool, model: Path, run_cli: Callable[..., Any]) -> None:
    """By its name, by other paths, by links of both kinds; nor one that would be taken for its weights."""
    weights, folder = model / "model.safetensors", model.parent
    (folder / "link.safetensors").symlink_to(weights)
    (folder / "twin.safetensors").hardlink_to(weights)
    to_torch(Path(shutil.copytree(model, folder / "old")), torch.save)
    before = {file: file.read_bytes() for file in model.iterdir()}
    more = ["--overwrite"] * overwrite
    for path in (
        "model/model.safetensors",
        "./model/../model/model.safetensors",
        "link.safetensors",
        "twin.safetensors",
    ):
        refused = run_cli("embed", "hi", "-m", "./model", "--save", path, *more)
        assert (refused.exit_code, refused.stdout) == (1, ""), path
        assert f"{path.removeprefix('./')} is a file of the model './model', or would be" in refused.stderr
    refused = run_cli("embed", "hi", "-m", "old", "--save", "old/model.safetensors", *more)
    assert "is a file of the model 'old', or would be" in refused.stderr
    assert {file: file.read_bytes() for file in model.iterdir()} == before
    assert run_cli("embed", "hi", "-m", "./model", "--save", "model/mine.safetensors").exit_code == 0


def test_nothing_is_written_into_the_hub_s_cache(opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InspectError, match="lies in the Hub's local cache"):
        saved(opt, tmp_path / "out.npz", "logits")


def test_overwrite_is_about_a_file() -> None:
    with pytest.raises(UsageError, match="overwrite is about a file: add save='FILE', or omit it"):
        EmbedQuery(overwrite=True)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_saved_file_is_as_readable_as_others(suffix: str, opt: Path, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    saved(opt, path, "logits")
    (tmp_path / "other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


@pytest.mark.parametrize("suffix", FORMATS)
def test_bfloat16_beyond_half_precisions_range_is_kept(suffix: str, tmp_path: Path) -> None:
    numbers = torch.tensor([3e38, -1e30, 1e-38, 0.0], dtype=torch.bfloat16)
    path = tmp_path / f"out{suffix}"
    saving.save(path, {"a": KeptTensor(numbers)}, "name", text_input(["text"]))
    assert torch.equal(opened(path)[0]["a"].double(), numbers.double())


# --- what goes wrong ---


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("existed", [True, False])
def test_a_write_that_fails_half_way_changes_nothing(
    suffix: str, existed: bool, opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"out{suffix}"
    if existed:
        saved(opt, path, "token_embeddings")
    before = path.read_bytes() if existed else b""
    writer = "_write_safetensors" if suffix == ".safetensors" else "_write_npz"

    def fill_up(partial: Path, *_: Any) -> None:
        partial.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(saving, writer, fill_up)
    with pytest.raises(InspectError, match=r"could not be written: No space left on device; nothing was saved$"):
        saved(opt, path, "logits")
    assert listed(tmp_path) == ([path.name] if existed else [])
    assert not existed or path.read_bytes() == before


_LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
import torch
from pathlib import Path
from tests.making.checkpoints import to_torch
from txinspect.answers import saving
from txinspect.answers.saving import KeptTensor
from txinspect.errors import InspectError
for name in sys.argv[3:]:
    path = Path(sys.argv[1]) / name
    try:
        saving.save(path, {"a": saving.KeptTensor(torch.zeros(100_000))}, "name", text_input(["text"]))
    except InspectError as error:
        print(error)
"""


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk that fills up: the write itself fails, somewhere in its middle."""
    pytest.importorskip("resource", reason="only Unix limits the size of files")
    names = [f"out{suffix}" for suffix in FORMATS]
    for name in names:
        (tmp_path / name).write_bytes(b"old")
    command = [sys.executable, "-c", _LIMITED, str(tmp_path), "65536", *names, "new.npz"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for line, name in zip(lines, [*names, "new.npz"], strict=True):
        assert line.startswith(f"{tmp_path / name} could not be written: ")
        assert line.endswith("; nothing was saved")
    assert sorted(listed(tmp_path)) == sorted(names)
    assert all((tmp_path / name).read_bytes() == b"old" for name in names)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
def test_an_interrupt_leaves_the_old_file_and_no_other(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    path.write_bytes(b"old")

    def write() -> None:
        with written_whole(path) as partial:
            partial.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert listed(tmp_path) == ["out.npz"]
    assert path.read_bytes() == b"old"


@pytest.fixture
def never_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that plainly cannot be written is refused before any work is done."""

    def refuse(*_: object) -> None:
        raise AssertionError("the model was loaded before the file was checked")

    monkeypatch.setattr("txinspect.loading.weights.partial.load", refuse)


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_missing_folder(suffix: str, opt: Path, tmp_path: Path) -> None:
    with pytest.raises(InspectError, match=r"cannot be written: there is no directory .*nowhere"):
        saved(opt, tmp_path / "nowhere" / f"out{suffix}", "logits")
    assert listed(tmp_path) == []


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_directory_in_the_files_place(suffix: str, opt: Path, tmp_path: Path) -> None:
    (tmp_path / f"out{suffix}").mkdir()
    with pytest.raises(InspectError, match="is a directory: give the name of a file in it"):
        saved(opt, tmp_path / f"out{suffix}", "logits")


@pytest.mark.usefixtures("never_loaded")
def test_a_file_in_the_folders_place(opt: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InspectError, match="cannot be written: there is no directory"):
        saved(opt, tmp_path / "file" / "out.npz", "logits")
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.usefixtures("never_loaded")
def test_a_folder_without_permission(opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of os.access is given here: root may write everywhere."""
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    with pytest.raises(InspectError, match="cannot be written: no permission to write into"):
        saved(opt, tmp_path / "out.npz", "logits")


@pytest.mark.parametrize("name", ["out", "out.txt", "out.safetensors.gz", ".npz", "out.NPZ"])
def test_another_ending_is_wrong_usage(name: str) -> None:
    with pytest.raises(UsageError, match=r"is not a name that ends in .safetensors or .npz"):
        EmbedQuery(save=Path(name))


@pytest.mark.parametrize("suffix", FORMATS)
def test_names_that_a_format_might_trip_over(suffix: str, tmp_path: Path) -> None:
    """A module may be called as a parameter of numpy's savez is."""
    tensors = {name: torch.ones(1) for name in ("file", "allow_pickle", "a.b.0", "layers.0.output#2")}
    path = tmp_path / f"out{suffix}"
    saving.save(path, {name: KeptTensor(each) for name, each in tensors.items()}, "name", text_input(["text"]))
    assert opened(path)[0].keys() == tensors.keys()


def test_a_link_is_followed_or_replaced_but_never_broken(opt: Path, tmp_path: Path) -> None:
    saved(opt, tmp_path / "real.npz", "token_embeddings")
    (tmp_path / "link.npz").symlink_to("real.npz")
    saved(opt, tmp_path / "link.npz", "logits")
    assert list(opened(tmp_path / "link.npz")[0]) == ["logits"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_variant_saves_all_it_has(suffix: str, opt_variant: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    report = saved(opt_variant("opt_350m"), path)
    assert len(opened(path)[0]) == len(report.tensors)


def test_a_file_tells_the_tokens_of_both_texts(tmp_path: Path) -> None:
    path = tmp_path / "both.npz"
    query = RunQuery(
        model=ModelChoice(name="transformer-mini"), text="the fox", decoder="la vulpo", stages=("logits",), save=path
    )
    report = inspect(query)
    assert report.input.decoder
    _, metadata = opened(path)
    assert json.loads(metadata["tokens"]) == [token.text for token in report.input.tokens]
    assert json.loads(metadata["decoder_tokens"]) == [token.text for token in report.input.decoder.tokens]
