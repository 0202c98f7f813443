"""`diff --against-edit`: where a change goes, stage by stage. Every number is one of plain forwards, in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import Result

import txinspect
from txinspect import DiffQuery, InspectError, ModelChoice, inspect
from txinspect.edits import Edit
from txinspect.errors import UsageError

TEXT = "The quick brown fox jumps"

HEAD = "layers.0.attention.context[head=1] = 0"

FLOAT32 = ModelChoice(name="opt-mini", dtype="float32")


def outputs(change: Callable[[Tensor], Tensor] | None) -> dict[str, Any]:
    """What each layer of opt-mini and its head put out, with a plain hook on what the first projection reads."""
    folder = Path(txinspect.__file__).parent / "bundled" / "opt-mini"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found: dict[str, Any] = {}
    layers = model.model.decoder.layers
    for index, layer in enumerate(layers):
        layer.register_forward_hook(
            lambda _m, _i, out, index=index: found.update(
                {f"layers.{index}.output": (out[0] if isinstance(out, tuple) else out).double().numpy()}
            )
        )
    if change is not None:
        layers[0].self_attn.out_proj.register_forward_pre_hook(lambda _m, args: (change(args[0]),))
    with torch.no_grad():
        logits = model(**AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt")).logits
    return found | {"logits": logits.double().numpy()}


def without_head(context: Tensor) -> Tensor:
    new = context.clone()
    new[..., 32:64] = 0
    return new


def test_each_stage_against_plain_hooks() -> None:
    report = inspect(DiffQuery(model=FLOAT32, text=TEXT, against_edit=(HEAD,), stages=("layers.*.output", "logits")))
    this, other = outputs(None), outputs(without_head)
    assert (report.way, report.given) == ("against_edit", HEAD)
    assert [stage.name for stage in report.stages] == list(this)
    for stage in report.stages:
        left, right = this[stage.name], other[stage.name]
        assert stage.rel_l2 == pytest.approx(np.linalg.norm(right - left) / np.linalg.norm(left), rel=1e-4)
        assert stage.max_abs == pytest.approx(np.abs(right - left).max(), rel=1e-3)
    assert report.first_divergence == "layers.0.output"


def test_isolated_layers_differ_where_the_edit_is_alone() -> None:
    query = DiffQuery(
        model=FLOAT32, text=TEXT, against_edit=(Edit.read(HEAD),), isolated=True, stages=("layers.*.output",)
    )
    apart = [stage.isolated_rel_l2 for stage in inspect(query).stages]
    assert (apart[0] or 0.0) > 0.01
    assert apart[1:] == pytest.approx([0.0] * 3, abs=1e-6)


def test_an_edit_that_changes_nothing_is_no_difference() -> None:
    report = inspect(DiffQuery(model=FLOAT32, text=TEXT, against_edit=("layers.0.mlp.output * 1",)))
    assert {stage.rel_l2 for stage in report.stages} == {0.0}
    assert report.first_divergence is None


def test_several_act_in_their_order_on_an_encoder_decoder_too() -> None:
    model = ModelChoice(name="transformer-mini", dtype="float32")
    edits = ("decoder.layers.0.mlp.output = 0", "decoder.layers.0.mlp.output + 0*x.safetensors:v")
    with pytest.raises(InspectError, match=r"x\.safetensors"):
        inspect(DiffQuery(model=model, text=TEXT, against_edit=edits))
    report = inspect(DiffQuery(model=model, text=TEXT, against_edit=edits[:1]))
    apart = {stage.name: stage.rel_l2 for stage in report.stages}
    assert apart["encoder.layers.1.output"] == 0.0
    assert apart["decoder.layers.0.mlp.output"] == pytest.approx(1.0)
    assert (apart["logits"] or 0.0) > 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"against_edit": ("layers.0.mlp.output",)}, "the edit 'layers.0.mlp.output' is not PLACE OP VALUE"),
        ({"against_edit": (3,)}, "against_edit 3 is no edit"),
        ({"against_edit": (HEAD,), "against_text": "x"}, "against_text and against_edit cannot be combined"),
    ],
)
def test_what_is_no_edit_is_said(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        DiffQuery(**fields)


def test_a_stage_that_is_not_there_is_said() -> None:
    with pytest.raises(InspectError, match="layer 9 is out of range"):
        inspect(DiffQuery(against_edit=("layers.9.mlp.output = 0",)))


def test_on_the_command_line(run_cli: Callable[..., Result]) -> None:
    drawn = run_cli("diff", TEXT, "--against-edit", HEAD)
    assert drawn.exit_code == 0
    assert f"against edit {HEAD}" in drawn.stdout
    assert "not the model's own pass" in drawn.stdout
    plan = run_cli("diff", TEXT, "--against-edit", HEAD, "--dry-run")
    assert plan.exit_code == 0, plan.stderr
