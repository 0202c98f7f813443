"""Two ways of running: equal ones, a planted difference in every type, precisions, files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import Result

from tests.making.checkpoints import change_weights
from tests.making.hooks import seen_by_hooks
from tests.making.models import FEW, buildable_types, by_type, save_tiny
from txinspect import DiffQuery, InspectError, ModelChoice, RunQuery, inspect
from txinspect.commands.diff import DiffReport
from txinspect.commands.plan import PlanQuery
from txinspect.measure import difference
from txinspect.sources.bundled_models import bundled_folder

pytestmark = pytest.mark.half

Run = Callable[..., Result]
FLOAT = ModelChoice(dtype="float32")
OUTPUTS = [*(f"model.decoder.layers.{index}" for index in range(4)), "lm_head"]
"""The modules of opt-mini that supply its layers' outputs and the logits."""


def test_a_model_against_itself_is_exactly_equal() -> None:
    report = inspect(DiffQuery(against="opt-mini", isolated=True))
    assert {(each.rel_l2, each.max_abs, each.isolated_rel_l2 or 0.0) for each in report.stages} == {(0.0, 0.0, 0.0)}
    assert (report.first_divergence, report.changed, report.only_this) == (None, [], [])
    assert report.findings == ["The two sides are equal to the last bit."]


def outputs(report: DiffReport) -> list[float]:
    return [each.rel_l2 or 0.0 for each in report.stages if each.name.endswith(".output") and each.name.count(".") == 2]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype: Any) -> None:
    """How far half precision is off differs between processors: two passes of transformers, in this process, say it."""
    report = inspect(DiffQuery(model=FLOAT, against_dtype=dtype))
    passes = []
    for each in (torch.float32, getattr(torch, dtype)):
        model = AutoModelForCausalLM.from_pretrained(bundled_folder("opt-mini"), dtype=each).eval()
        with torch.no_grad():
            seen = seen_by_hooks(model, lambda model=model: model(torch.tensor(report.input.input_ids)))  # type: ignore[misc]
        passes.append([seen["output", path][-1].double() for path in OUTPUTS])
    wanted = [float((b - a).norm() / a.norm()) for a, b in zip(*passes, strict=True)]
    assert outputs(report) == pytest.approx(wanted[:-1], rel=1e-6)
    assert report.stages[-1].rel_l2 == pytest.approx(wanted[-1], rel=1e-6)
    assert report.logits is not None
    ours, theirs = (each[-1][0].log_softmax(-1) for each in passes)
    kl = (ours.exp() * (ours - theirs)).sum(-1)
    assert report.logits.kl_mean == pytest.approx(float(kl.mean()), rel=1e-6, abs=1e-12)
    assert report.logits.same_top1 == float((ours.argmax(-1) == theirs.argmax(-1)).double().mean())
    # Some 11 and 8 bits: of this size at all.
    assert 2**-12 < wanted[0] < 2**-9 if dtype == "float16" else 2**-9 < wanted[0] < 2**-6


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
    assert report.aligned == [[each, each] for each in range(4)]


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


# What only one side has


@pytest.fixture
def grown(tmp_path: Path) -> tuple[Path, Path]:
    """A llama, and the same with eight tokens more in its vocabulary, whose rows are the largest."""
    here, there = save_tiny("llama", tmp_path / "here"), tmp_path / "there"
    model = AutoModelForCausalLM.from_pretrained(here)
    before = model.config.vocab_size
    model.resize_token_embeddings(before + 8, mean_resizing=False)
    with torch.no_grad():
        model.get_output_embeddings().weight[before:] = 3 * model.get_output_embeddings().weight[:8]
    model.save_pretrained(there)
    AutoTokenizer.from_pretrained(here).save_pretrained(there)
    return here, there


@pytest.mark.parametrize("turned", [False, True])
def test_where_a_vocabulary_grew_the_rows_in_common_are_compared(turned: bool, grown: tuple[Path, Path]) -> None:
    here, there = grown[::-1] if turned else grown
    options: Any = {"model": ModelChoice(name=str(here)), "against": str(there), "text": "abcdef"}
    report = inspect(DiffQuery(**options))
    widths = [AutoModelForCausalLM.from_pretrained(each).config.vocab_size for each in (here, there)]
    wide = AutoModelForCausalLM.from_pretrained(grown[1]).eval()
    with torch.no_grad():
        logits = wide(torch.tensor(report.input.input_ids)).logits[0]
    beyond = int((logits.argmax(-1) >= min(widths)).sum())
    assert report.logits is not None
    assert (report.logits.kl_max, report.logits.same_top1) == (0.0, 1 - beyond / len(logits))
    assert report.stages[-1].shape == [1, len(logits), min(widths)]
    assert (report.only_this, report.only_other) == ([], [])
    said = f"the logits are {widths[0]} and {widths[1]} wide; {beyond} of {len(logits)} next tokens change"
    assert report.findings == [f"The two sides are equal to the last bit where both are: {said}."]
    new = [(each.from_ if turned else each.to) for each in report.changed]
    assert new == [f"token {int(row.argmax())}" for row in logits if row.argmax() >= min(widths)]
    assert beyond
    failing = inspect(DiffQuery(**options, fail_on=("changed>0",)))
    assert [each.passed for each in failing.checks or ()] == [False]


def test_cross_attention_has_a_total_variation() -> None:
    query = DiffQuery(model=ModelChoice(name="transformer-mini", dtype="float32"), against_dtype="bfloat16")
    stages = {each.name: each for each in inspect(query).stages}
    found = stages["decoder.layers.1.cross_attention.weights"].total_variation
    assert found is not None
    assert len(found) == 4
    assert all(each is not None and 0 <= each < 0.1 for each in found)


def test_a_model_without_a_head_is_compared_by_what_it_has(tmp_path: Path) -> None:
    choice = ModelChoice(name=str(save_tiny("bert", tmp_path / "bert", task="masked-lm")), task="base")
    query = DiffQuery(model=choice, text="ab", against_dtype="bfloat16")
    report = inspect(query)
    names = [each.name for each in report.stages]
    assert "layers.0.output" in names
    assert "logits" not in names
    assert report.logits is None
    with pytest.raises(InspectError, match="logits"):
        inspect(replace(query, stages=("logits",)))
