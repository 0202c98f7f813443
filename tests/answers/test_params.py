"""`params`: every kind of checkpoint, findings and checks, comparison, and what is refused in which words."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import txinspect
from tests.making.bad_input import Bad, Run, cases, complain, sentence, usage
from tests.making.checkpoints import (
    LFS_POINTER,
    Attack,
    change_config,
    change_weights,
    keep,
    legacy,
    rewrite_header,
    to_shards,
    to_torch,
)
from tests.making.hub import LoopbackHub, files_of
from txinspect.commands.params import MeasuredTensorRecord, ParamsQuery, ParamsReport
from txinspect.errors import UsageError
from txinspect.inspecting import inspect
from txinspect.model_choice import ModelChoice

FC1 = "model.decoder.layers.0.fc1.weight"
FC2 = "model.decoder.layers.1.fc2.weight"
BIAS = "model.decoder.layers.0.fc1.bias"


def params(folder: Path | str, **fields: Any) -> ParamsReport:
    return inspect(ParamsQuery(model=ModelChoice(name=str(folder)), **fields))


def by_name(report: ParamsReport) -> dict[str, MeasuredTensorRecord]:
    return {each.name: each for each in report.tensors}


def agree(report: ParamsReport, tensors: Mapping[str, torch.Tensor]) -> None:
    """Every tensor once, with torch's float64 statistics."""
    assert sorted(each.name for each in report.tensors) == sorted(tensors)
    for record in report.tensors:
        whole = tensors[record.name].double()
        assert record.shape == list(whole.shape)
        assert record.stats.mean == pytest.approx(float(whole.mean()), abs=1e-12)
        assert record.stats.l2 == pytest.approx(float(whole.norm()))
        assert (record.stats.min, record.stats.max) == (float(whole.min()), float(whole.max()))
    assert report.totals.numel == sum(each.numel() for each in tensors.values())
    assert report.totals.bytes == sum(each.nbytes for each in tensors.values())


# Kinds of checkpoints


def test_one_file(model: Path) -> None:
    report = params(model)
    agree(report, load_file(model / "model.safetensors"))
    assert {each.file for each in report.tensors} == {"model.safetensors"}
    assert (report.totals.files, report.checks, report.findings, report.totals.compared) == (1, None, [], None)
    assert (report.model.model_type, report.model.num_hidden_layers) == ("opt", 3)


def test_shards(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    to_shards(model)
    report = params(model)
    agree(report, tensors)
    assert report.totals.files == len({each.file for each in report.tensors}) == 2


@pytest.mark.parametrize("store", [torch.save, legacy], ids=["zip", "legacy"])
def test_a_pickle(store: Callable[..., object], model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    tensors["turned"] = torch.arange(12.0).reshape(3, 4).T  # not contiguous
    tensors["part"] = tensors[FC1][2:5]
    tensors["half"] = tensors[FC2].bfloat16()
    save_file({"x": torch.ones(1)}, model / "model.safetensors")
    to_torch(model, lambda _, file: store(tensors, file))
    agree(params(model), tensors)


def test_a_gguf_file(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((6, 64)).astype(np.float32)
    raw = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_block_count(1)
    writer.add_tensor("blk.0.attn_q.weight", raw, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("output_norm.weight", values[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    report = params(tmp_path / "x.gguf")
    block, norm = report.tensors
    assert (block.dtype, block.shape, norm.dtype) == ("Q8_0", [6, 64], "float32")
    stands_for = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType.Q8_0).astype(np.float64)
    assert block.stats.l2 == pytest.approx(float(np.linalg.norm(stands_for)))
    assert (report.model.model_type, report.model.num_hidden_layers) == ("llama", 1)
    assert any("blocks (Q8_0) are measured as the numbers that they stand for" in note for note in report.notes)


def test_an_adapter_shows_its_own_tensors_and_needs_no_base(tmp_path: Path) -> None:
    tensors = {"base_model.model.q_proj.lora_A.weight": torch.randn(4, 8), "b": torch.zeros(8, 4)}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "not/here"}))
    report = params(tmp_path)
    agree(report, tensors)
    assert report.findings == ["b is all zeros."]
    assert any("is an adapter" in note and "txinspect params not/here" in note for note in report.notes)


def test_weights_without_a_config(model: Path) -> None:
    (model / "config.json").unlink()
    agree(params(model), load_file(model / "model.safetensors"))


def test_only_the_shards_that_are_asked_for_are_fetched(
    model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    to_shards(model)
    with LoopbackHub() as hub:
        hub.add("a/b", files_of(model))
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-m", "txinspect", "params", "a/b", "--param", BIAS, "--json"]
        done = subprocess.run(command, capture_output=True, env=os.environ | environment, check=False, timeout=120)
        fetched = hub.fetched()
    assert done.returncode == 0, done.stderr.decode()
    (record,) = json.loads(done.stdout)["tensors"]
    assert record["name"] == BIAS
    assert [file for file in fetched if file.endswith(".safetensors")] == [record["file"]]


def test_what_is_stored_quantized_is_said(model: Path) -> None:
    def pack(tensors: dict[str, torch.Tensor]) -> None:
        tensors[FC1] = torch.zeros(tensors[FC1].numel() // 2, 1, dtype=torch.uint8)

    change_weights(model, pack)
    change_config(model, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    report = params(model)
    (note,) = (each for each in report.notes if "stored quantized" in each)
    assert "bitsandbytes, 4 bits" in note
    assert "1 uint8 tensors are measured as the codes, packed or not, that the file holds" in note
    assert by_name(report)[FC1].dead_rows is None


# What is found


def spoil(tensors: dict[str, torch.Tensor]) -> None:
    tensors[FC1][3:5] = 0
    tensors[FC2][0, :7] = float("nan")
    tensors[BIAS][1] = float("-inf")
    tensors["model.decoder.layers.2.fc1.weight"] = tensors["model.decoder.layers.1.fc1.weight"].clone()
    tensors["model.decoder.layers.2.self_attn.q_proj.weight"].zero_()


def test_findings_come_first_in_the_notes(model: Path) -> None:
    change_weights(model, spoil)
    report = params(model)
    assert report.findings == [
        f"{FC2} holds 7 NaN.",
        f"{BIAS} holds 1 infinite values.",
        "model.decoder.layers.2.self_attn.q_proj.weight is all zeros.",
        f"{FC1} has 2 dead rows.",
        "model.decoder.layers.2.fc1.weight is identical to model.decoder.layers.1.fc1.weight.",
    ]
    assert report.notes[: len(report.findings)] == report.findings
    totals = report.totals
    assert (totals.nan, totals.inf, totals.dead_rows, totals.identical) == (7, 1, 67, 1)


def test_one_finding_for_many(model: Path) -> None:
    def spoil_all(tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            if "fc1.weight" in name:
                tensor[0] = 0
                tensor[1, 0] = float("nan")

    change_weights(model, spoil_all)
    assert params(model).findings == [
        f"3 tensors hold NaN, 3 in all, such as {FC1}.",
        f"3 tensors have 3 dead rows in all, such as {FC1} (1).",
    ]


def test_norms_of_ones_are_identical_and_no_finding(model: Path) -> None:
    def level(tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            if "layer_norm.weight" in name:
                tensor.fill_(1)

    change_weights(model, level)
    report = params(model)
    assert report.findings == []
    assert report.totals.identical == 6


def test_the_padding_tokens_row_is_meant_to_be_zero(model: Path, run_cli: Run) -> None:
    embedding = by_name(params(model))["model.decoder.embed_tokens.weight"]
    assert (embedding.dead_rows, embedding.padding_row) == (1, 1)
    assert "row 1, of the padding token, is zero" in run_cli("params", model).stdout
    change_config(model, pad_token_id=2)
    assert params(model).findings == ["model.decoder.embed_tokens.weight has 1 dead row."]


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        ("nan", f"{FC2} has 7 NaN"),
        ("inf", f"{BIAS} has 1 infinite values"),
        ("zero", "model.decoder.layers.2.self_attn.q_proj.weight has nothing but zeros"),
        ("dead", f"{FC1} has 2 dead rows, and 1 more tensor"),
    ],
)
def test_fail_on_shows_the_report_and_ends_with_3(kinds: str, says: str, model: Path, run_cli: Run) -> None:
    assert run_cli("params", model, "--fail-on", "nan,inf,zero,dead").exit_code == 0
    change_weights(model, spoil)
    result = run_cli("params", model, "--fail-on", kinds, "--json")
    (check,) = json.loads(result.stdout)["checks"]
    assert (result.exit_code, check["name"], check["passed"]) == (3, kinds, False)
    assert result.stderr == f"txinspect: a check did not hold: {says}\n"


def test_names_are_in_the_order_in_which_a_person_counts(tmp_path: Path) -> None:
    names = [f"layers.{layer}.weight" for layer in (0, 1, 2, 10, 11)]
    save_file({name: torch.ones(2) for name in reversed(names)}, tmp_path / "model.safetensors")
    assert [each.name for each in params(tmp_path).tensors] == names


@pytest.mark.parametrize("key", ["std", "min", "zeros", "kurtosis", "norm", "stable_rank", "dead_rows", "name"])
def test_sort(key: Any, model: Path) -> None:
    report = params(model, sort=key, spectral=True)
    column: dict[str, Callable[[MeasuredTensorRecord], Any]] = {
        "kurtosis": lambda each: each.kurtosis,
        "dead_rows": lambda each: each.dead_rows,
        "name": lambda each: each.name,
        "norm": lambda each: each.spectral and each.spectral.norm,
        "stable_rank": lambda each: each.spectral and each.spectral.stable_rank,
    }
    found = [column[key](each) if key in column else getattr(each.stats, key) for each in report.tensors]
    known = [value for value in found if value is not None]
    assert found == known + [None] * (len(found) - len(known))
    assert known == sorted(known, reverse=key not in ("min", "name", "stable_rank"))


def test_globs_pick(model: Path) -> None:
    assert [each.name for each in params(model, params=(BIAS, "**.1.fc2.*")).tensors] == [
        BIAS,
        FC2.replace("weight", "bias"),
        FC2,
    ]


# Two checkpoints


@pytest.fixture
def tuned(model: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two fine-tunes of ./model: FC1 moved in the same direction, FC2 in opposite ones, the rest untouched."""
    folders = (tmp_path / "one", tmp_path / "two")
    for folder, sign in zip(folders, (1, -1), strict=True):
        shutil.copytree(model, folder)

        def move(tensors: dict[str, torch.Tensor], sign: int = sign) -> None:
            tensors[FC1] += 0.5
            tensors[FC2][0] += 0.5 * sign

        change_weights(folder, move)
    return folders


def test_a_comparison(model: Path, tuned: tuple[Path, Path]) -> None:
    one, two = tuned
    report = params(one, diff=str(two), base=str(model), sort="rel_l2")
    first = report.tensors[0]
    here, there = (load_file(folder / "model.safetensors")[FC2].double() for folder in tuned)
    assert first.name == FC2
    assert first.diff
    assert first.diff.rel_l2 == pytest.approx(float((there - here).norm() / here.norm()))
    assert first.diff.cosine == pytest.approx(float((there * here).sum() / here.norm() / there.norm()))
    assert first.diff.max_abs == pytest.approx(1.0, rel=1e-5)
    assert (first.diff.equal, first.diff.sign_agreement) == (False, 0.0)
    same = by_name(report)[FC1].diff
    assert same
    assert (same.equal, same.rel_l2, same.sign_agreement) == (True, 0.0, 1.0)
    untouched = by_name(report)[BIAS].diff
    assert untouched
    assert (untouched.equal, untouched.sign_agreement) == (True, None)
    assert (report.totals.compared, report.totals.equal) == (len(report.tensors), len(report.tensors) - 1)
    assert any(note.startswith(f"Equal in {two}: ") and f"{FC2} differs most" in note for note in report.notes)


def test_types_and_missing_tensors_do_not_stop_a_comparison(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(model, other)

    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[FC1] = tensors[FC1].bfloat16()
        del tensors[BIAS]
        tensors[FC2] = tensors[FC2][:-1].clone()

    change_weights(other, change)
    report = params(model, diff=str(other))
    found = by_name(report)
    assert (found[BIAS].diff, found[FC2].diff) == (None, None)
    rounded = found[FC1].diff
    assert rounded
    assert 0 < (rounded.rel_l2 or 0) < 0.01
    assert any(f"2 tensors are not in {other} in the same shape, such as {BIAS}" in note for note in report.notes)


# What is refused


@cases(
    Bad("truncated", ("params", "./model"), ("model.safetensors", "damaged or truncated", "again"), lambda f: cut(f)),
    Bad("no weights", ("params", "./model"), ("no weights",), lambda f: (f / "model.safetensors").unlink()),
    Bad(
        "Git LFS pointer",
        ("params", "./model"),
        ("Git LFS pointer",),
        lambda f: (f / "model.safetensors").write_bytes(LFS_POINTER),
    ),
    Bad(
        "offsets beyond the end",
        ("params", "./model"),
        ("damaged or truncated",),
        lambda f: rewrite_header(f / "model.safetensors", lambda h: h[FC1].update(data_offsets=[0, 10**9])),
    ),
    Bad(
        "code in a pickle",
        ("params", "./model"),
        ("objects other than weights",),
        lambda f: to_torch(f, lambda _, file: torch.save({"x": Attack(f / "made")}, file)),
    ),
    Bad("a damaged pickle", ("params", "./model"), ("damaged or truncated",), lambda f: cut_pickle(f)),
    Bad("other is not there", ("params", "./model", "--diff", "./nowhere"), ("'./nowhere'", "no file or directory")),
    Bad(
        "no name in common",
        ("params", "./model", "--diff", "./other"),
        ("'./model' and './other' have no tensor in common", "model.decoder", "else.weight", "one architecture"),
        lambda f: other_model(f, {"else.weight": torch.ones(3)}),
    ),
    Bad(
        "no shape in common",
        ("params", "./model", "--diff", "./other"),
        ("no tensor of the same shape in common", f"{FC1} is [96, 64] in the first and [3] in the second"),
        lambda f: other_model(f, {FC1: torch.ones(3)}),
    ),
    Bad(
        "a gguf that is cut off",
        ("params", "./x.gguf"),
        ("x.gguf is damaged or truncated",),
        lambda f: (f.parent / "x.gguf").write_bytes(b"GGUF\x03\0\0\0\x05"),
    ),
)
def test_damaged(bad: Bad, model: Path, run_cli: Run) -> None:
    complain(bad, model, run_cli)


def cut(folder: Path) -> None:
    keep(folder / "model.safetensors", 0.5)


def cut_pickle(folder: Path) -> None:
    to_torch(folder)
    keep(folder / "pytorch_model.bin", 0.5)


def other_model(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    other = folder.parent / "other"
    shutil.copytree(folder, other)
    save_file(tensors, other / "model.safetensors")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--param", "fc1.weight"), f"--param 'fc1.weight' picks no tensor: '**.fc1.weight' picks {FC1}"),
        (("--param", "*fc1*"), "--param '*fc1*' picks no tensor: "),
        (("--param", FC1.replace("fc1", "fcc1")), f"picks no tensor: there are {FC1}"),
        (("--param", "frobnicate"), "there are model.decoder.embed_positions.weight"),
        (("--param", ""), "is empty"),
        (("--diff", ""), "--diff '' is empty"),
        (("--sort", "size"), "--sort 'size' is unknown: give name, numel, mean"),
        (("--sort", "cosine"), "--sort cosine needs --diff"),
        (("--sort", "norm"), "--sort norm needs --spectral"),
        (("--sort", "sign_agreement", "--diff", "x"), "--sort sign_agreement needs --base"),
        (("--base", "x"), "name the second with --diff"),
        (("--fail-on", "nan,big"), "--fail-on 'big' is unknown: give nan, inf, zero or dead"),
    ],
    ids=str,
)
def test_wrong_use(arguments: tuple[str, ...], says: str, model: Path, run_cli: Run) -> None:
    assert says in usage(run_cli("params", "./model", *arguments))


def test_in_python_fields_have_their_own_names(model: Path) -> None:
    with pytest.raises(UsageError, match=r"^params 'x' picks no tensor: "):
        txinspect.inspect(txinspect.ParamsQuery(model=ModelChoice(name=str(model)), params=("x",)))


def test_what_does_nothing_here_is_no_option(run_cli: Run) -> None:
    assert "no such option: --8bit" in usage(run_cli("params", "--8bit"))


def test_a_tensor_that_goes_on_after_the_end_of_an_adapter_is_a_sentence(tmp_path: Path, run_cli: Run) -> None:
    save_file({"a": torch.ones(1000)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text("{}")
    keep(tmp_path / "adapter_model.safetensors", 0.5)
    assert "it ends before its tensor a does" in sentence(run_cli("params", tmp_path))


# What it costs


_RUN = """
import sys
from pathlib import Path
import txinspect
report = txinspect.inspect(txinspect.ParamsQuery(model=txinspect.ModelChoice(name=sys.argv[1]), spectral=True))
heavy = {name.partition(".")[0] for name in sys.modules} & {"torch", "transformers", "huggingface_hub"}
status = Path("/proc/self/status")
peak = status.read_text().split("VmHWM:")[1].split()[0] if status.exists() else 0
print(sorted(heavy), report.totals.tensors, peak)
"""
"""What getrusage calls the most memory holds that of the parent when it forked."""


def run_alone(model: Path) -> tuple[str, int]:
    """The heavy packages that measuring imports, and its resident memory at most, in MB (0 if unknown)."""
    done = subprocess.run([sys.executable, "-c", _RUN, str(model)], capture_output=True, text=True, check=True)
    heavy, _, peak = done.stdout.rsplit(maxsplit=2)
    return heavy, int(peak) // 1024


def test_memory_is_flat_and_neither_torch_nor_transformers_is_imported(tmp_path: Path) -> None:
    save_file({f"x.{index}": torch.randn(2048, 2048) for index in range(12)}, tmp_path / "model.safetensors")
    heavy, megabytes = run_alone(tmp_path)
    assert heavy == "[]"
    assert megabytes < 100  # of a checkpoint of 200


def test_a_gguf_file_needs_no_torch_either(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_tensor("x", np.ones((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert run_alone(tmp_path / "x.gguf")[0] == "[]"
