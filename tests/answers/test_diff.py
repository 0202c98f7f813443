"""Two ways of running: equal ones, a planted difference in every type, precisions, files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import Result

from tests.making.checkpoints import change_weights
from tests.making.models import FEW, buildable_types, by_type, save_tiny
from txinspect import DiffQuery, InspectError, ModelChoice, RunQuery, inspect
from txinspect.commands.diff import DiffReport
from txinspect.commands.plan import PlanQuery
from txinspect.measure import difference

Run = Callable[..., Result]
FLOAT = ModelChoice(dtype="float32")


def test_a_model_against_itself_is_exactly_equal() -> None:
    report = inspect(DiffQuery(against="opt-mini", isolated=True))
    assert {(each.rel_l2, each.max_abs, each.isolated_rel_l2 or 0.0) for each in report.stages} == {(0.0, 0.0, 0.0)}
    assert (report.first_divergence, report.changed, report.only_this) == (None, [], [])
    assert report.findings == ["The two sides are equal to the last bit."]


def outputs(report: DiffReport) -> list[float]:
    return [each.rel_l2 or 0.0 for each in report.stages if each.name.endswith(".output") and each.name.count(".") == 2]


@pytest.mark.parametrize(
    ("dtype", "layers", "logits", "kl"),
    [("float16", (0.0004, 0.0008), 0.0010, 1e-6), ("bfloat16", (0.0033, 0.0074), 0.0085, 6.9e-5)],
)
def test_half_precision(dtype: Any, layers: tuple[float, float], logits: float, kl: float) -> None:
    report = inspect(DiffQuery(model=FLOAT, against_dtype=dtype))
    found = outputs(report)
    assert (found[0], found[-1]) == pytest.approx(layers, rel=0.15)
    assert report.stages[-1].rel_l2 == pytest.approx(logits, rel=0.1)
    assert report.logits is not None
    assert report.logits.kl_mean == pytest.approx(kl, rel=0.3)
    assert report.logits.same_top1 == 1.0


def test_distances_against_numpy() -> None:
    left, right = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0)).unbind()
    found = difference.difference(left, right)
    a, b = left.double().numpy(), right.double().numpy()
    assert found.rel_l2 == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a))
    assert found.cosine == pytest.approx((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
    assert found.max_abs == pytest.approx(np.abs(b - a).max())
    assert found.mean_abs == pytest.approx(np.abs(b - a).mean())
    assert tuple(found.at or ()) == np.unravel_index(np.abs(b - a).argmax(), a.shape)
    right[0, 0, 0], left[1, 1, 1] = torch.nan, torch.inf
    assert difference.difference(left, right).nan == 2
    assert difference.difference(left, left).rel_l2 == 0.0


def _other(folder: Path, tmp_path: Path, layer: int, delta: float = 0.5) -> Path | None:
    """A copy of a checkpoint with one number of a weight of a layer changed; None if no weight is known to be its."""
    import re
    import shutil

    other = Path(shutil.copytree(folder, tmp_path / "other"))
    changed: list[str] = []

    def change(weights: dict[str, Any]) -> None:
        own = [
            name
            for name, tensor in sorted(weights.items())
            if re.search(rf"\.(layers|layer|h|blocks|block)\.{layer}\.", name) and tensor.ndim == 2
        ]
        for name in own[:1]:
            weights[name] += delta
            changed.append(name)

    change_weights(other, change)
    return other if changed else None


@pytest.mark.parametrize("model_type", by_type(buildable_types(), FEW))
def test_a_planted_difference_is_found_in_its_layer(model_type: str, tmp_path: Path) -> None:
    folder = save_tiny(model_type, tmp_path / "m")
    other = _other(folder, tmp_path, 1)
    if other is None:
        return
    query = DiffQuery(
        model=ModelChoice(name=str(folder)), text="abc def", against=str(other), isolated=True, tolerance=0.0
    )
    try:
        report = inspect(query)
    except InspectError as error:
        assert "rows" in str(error) or "several" in str(error)  # noqa: PT017
        return
    if report.first_divergence is None or model_type in SHARED:
        return
    assert report.first_divergence.startswith("layers.1."), report.first_divergence
    wrong = {
        each.name: each.isolated_rel_l2
        for each in report.stages
        if each.name.startswith("layers.") and not each.name.startswith("layers.1.") and each.isolated_rel_l2
    }
    assert not wrong


SHARED = {"dory", "hrm_text", "inkling2_loop_text"}
"""Types whose checkpoint counts layers otherwise (attention and MLP apart, each stack from 0), or whose loops pass on
more than the stream."""


def test_logits_that_predict_no_next_token_are_numbers(tmp_path: Path) -> None:
    model = ModelChoice(name=str(save_tiny("musicgen", tmp_path / "m")))
    report = inspect(DiffQuery(model=model, against=model.name, stages=("logits",)))
    assert [each.name for each in report.stages] == ["logits"]
    assert (report.logits, report.changed) == (None, [])
    assert any("compared as numbers alone" in note for note in report.notes)


# What every command that runs a model can do


def test_both_sides_are_saved_with_their_axes(tmp_path: Path) -> None:
    file = tmp_path / "both.safetensors"
    query = DiffQuery(model=FLOAT, against_dtype="bfloat16", stages=("layers.0.output", "logits"), save=file)
    report = inspect(query)
    tensors = load_file(file)
    assert (report.saved, report.replaced) == (str(file), False)
    assert list(tensors) == ["layers.0.output", "logits", "other.layers.0.output", "other.logits"]
    assert {name: tensor.dtype for name, tensor in tensors.items() if "logits" in name} == {
        "logits": torch.float32,
        "other.logits": torch.bfloat16,
    }
    found = difference.difference(tensors["logits"], tensors["other.logits"])
    assert found.rel_l2 == next(each.rel_l2 for each in report.stages if each.name == "logits")
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert json.loads(metadata["axes"])["other.logits"] == ["batch", "seq", "vocab"]
    assert metadata["text"] == query.text


def test_runs_are_numbered_in_a_saved_file_as_in_the_report(tmp_path: Path) -> None:
    model = ModelChoice(name=str(save_tiny("hrm_text", tmp_path / "m")))
    file = tmp_path / "both.npz"
    query = DiffQuery(model=model, against_attn="eager", stages=("layers.0.output",), save=file, tolerance=0.0)
    names = [each.name for each in inspect(query).stages]
    assert "layers.0.output#1" in names
    with np.load(file) as saved:
        assert set(saved) == {"__metadata__", *names, *(f"other.{name}" for name in names)}


def test_a_check_is_of_both_sides() -> None:
    report = inspect(DiffQuery(against_dtype="float32", check=True, fail_on=("rel_l2>1",)))
    assert report.checks is not None
    own = ["logits", "finite", "row_sums", "context", "residual"]
    assert [each.name for each in report.checks] == [*own, *(f"other.{name}" for name in own), "rel_l2"]
    assert all(each.passed for each in report.checks)


def test_a_plan_tells_what_each_side_reads(tmp_path: Path) -> None:
    other = save_tiny("llama", tmp_path / "m")
    plan = inspect(PlanQuery(of=DiffQuery(against=str(other), stages=("layers.0.output",))))
    assert plan.against is not None
    assert [each.model.name for each in (plan, plan.against)] == ["opt-mini", str(other)]
    done = inspect(RunQuery(model=ModelChoice(name=str(other)), stages=("layers.0.output",)))
    assert plan.against.loading.memory_bytes == done.loading.memory_bytes
    assert plan.against.loading.disk_bytes == done.loading.disk_bytes


@pytest.mark.parametrize(("way", "both"), [("--against-attn=eager", False), ("--against-8bit", True)])
def test_a_dry_run_loads_nothing(run_cli: Run, way: str, both: bool) -> None:
    drawn = run_cli("diff", "--dry-run", way)
    assert drawn.exit_code == 0, drawn.stderr
    assert drawn.stdout.count("\nmemory ") == 1 + both
    assert ("against opt-mini" in drawn.stdout) == both
    assert ("weight matrices are quantized" in drawn.stdout) == both


def test_a_dry_run_refuses_what_it_would_not_do(run_cli: Run) -> None:
    refused = run_cli("diff", "--dry-run", "--against-8bit", "--fail-on", "rel_l2>1")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--fail-on and --dry-run cannot be combined" in refused.stderr


# Files


def test_a_file_that_was_saved_is_equal(run_cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "dump.safetensors"
    assert run_cli("run", "-s", "layers.*.output", "-s", "logits", "--save", file).exit_code == 0
    report = inspect(DiffQuery(against_file=file))
    assert [each.rel_l2 for each in report.stages] == [0.0] * 5
    tensors = load_file(file)
    save_file({"h.2": tensors["layers.2.output"] + 1}, file)
    report = inspect(DiffQuery(against_file=file, names=("h.2=layers.2.output",)))
    assert report.first_divergence == "layers.2.output"
    assert report.stages[0].max_abs == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("model_type", "stages"),
    [("inkling2_loop_text", ("layers.*.output",)), ("gemma3_text", ("position_embeddings.*",))],
    ids=["layers that run twice", "tables of two kinds"],
)
def test_names_are_those_of_a_file_that_was_saved(model_type: str, stages: tuple[str, ...], tmp_path: Path) -> None:
    model, file = ModelChoice(name=str(save_tiny(model_type, tmp_path / "m"))), tmp_path / "dump.safetensors"
    saved = inspect(RunQuery(model=model, stages=stages, save=file))
    for side in ({"against_file": file}, {"against": model.name}):
        report = inspect(DiffQuery(model=model, stages=stages, **side))
        assert [each.name for each in report.stages] == [each.name for each in saved.tensors]
        assert {each.rel_l2 for each in report.stages} == {0.0}
        assert (report.only_this, report.only_other) == ([], [])


# What is refused


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "nothing to compare with"),
        (("--against", "a", "--against-8bit"), 2, "cannot be combined"),
        (("--against-8bit", "--fail-on", "x"), 2, "--fail-on 'x'"),
        (("--against-8bit", "--tolerance", "-1"), 2, "--tolerance -1"),
        (("--against-8bit", "--map", "a=b"), 2, "--against-file"),
        (("--against-8bit", "--dtype", "float32"), 2, "half precision"),
        (("--against", "./nowhere"), 1, "nowhere"),
        (("--against-file", "none.npz"), 1, "there is no file"),
        (("--against-attn", "fast"), 1, "'fast' is not to be had for this model"),
        (("--against-8bit", "--stage", "nope"), 1, "nope"),
    ],
)
def test_bad_input_is_a_sentence(
    arguments: tuple[str, ...], code: int, says: str, run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run_cli("diff", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr


def test_fail_on(run_cli: Run) -> None:
    result = run_cli("diff", "--dtype", "float32", "--against-dtype", "bfloat16", "--fail-on", "rel_l2>1e-2")
    assert result.exit_code == 3
    assert "the first of 1 where rel_l2>1e-2" in result.stderr
    assert run_cli("diff", "--against", "opt-mini", "--fail-on", "rel_l2>0").exit_code == 0


def test_other_tokens_are_a_sentence(tmp_path: Path, run_cli: Run) -> None:
    result = run_cli("diff", "--against", save_tiny("llama", tmp_path / "m"))
    assert result.exit_code == 1
    assert "no positions to compare" in result.stderr


def test_another_text_of_as_many_tokens() -> None:
    report = inspect(DiffQuery(text="The quick fox", against_text="The slow fox", stages=("layers.*.output", "logits")))
    assert report.logits is not None
    assert report.logits.ln_perplexity_ratio is None
    assert report.first_divergence == "layers.0.output"
    with pytest.raises(InspectError, match="tokens long: give two of as many"):
        inspect(DiffQuery(text="The quick fox", against_text="The fox"))


def test_a_model_without_an_adapter_has_none_to_leave_out(run_cli: Run) -> None:
    result = run_cli("diff", "--against-no-adapter")
    assert result.exit_code == 2
    assert "leaves out an adapter" in result.stderr


# Numbers that are none


@pytest.fixture
def spoilt(tmp_path: Path) -> tuple[str, str]:
    """A checkpoint, and one with a NaN in its second MLP."""
    sound = save_tiny("llama", tmp_path / "sound")
    broken = Path(shutil.copytree(sound, tmp_path / "broken"))
    change_weights(broken, lambda weights: weights["model.layers.1.mlp.down_proj.weight"].fill_(torch.nan))
    return str(sound), str(broken)


def test_nan_is_no_small_distance(spoilt: tuple[str, str], run_cli: Run) -> None:
    sound, broken = spoilt
    for test in ("kl_mean>0.1", "rel_l2>0"):
        result = run_cli("diff", "hi", "-m", sound, "--against", broken, "--fail-on", test)
        assert result.exit_code == 3, result.stdout
    report = inspect(DiffQuery(model=ModelChoice(name=sound), text="hi", against=broken))
    assert report.first_divergence == "layers.1.mlp.output"
    assert "layers.1.mlp.output (numbers that are not finite)" in report.findings[0]
    same = inspect(DiffQuery(model=ModelChoice(name=broken), text="hi", against=broken))
    assert same.findings == ["The two sides are equal to the last bit."]


def test_what_was_not_measured_does_not_pass(run_cli: Run) -> None:
    result = run_cli("diff", "--against", "opt-mini", "--fail-on", "isolated_rel_l2>1")
    assert (result.exit_code, result.stdout) == (2, "")
    result = run_cli("diff", "--against", "opt-mini", "--stage", "layers.0.output", "--fail-on", "kl_mean>1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "was not measured" in result.stderr
    assert run_cli("diff", "--against", "opt-mini", "--fail-on", "changed>0").exit_code == 0


@pytest.mark.parametrize("command", ["logits", "lens", "heads"])
def test_the_other_commands_say_it(command: str, spoilt: tuple[str, str], run_cli: Run) -> None:
    result = run_cli(command, "hi", "-m", spoilt[1])
    assert result.exit_code == 0, result.stderr
    if command != "heads":  # whose attention comes before
        assert "Not every number is finite" in result.stdout
