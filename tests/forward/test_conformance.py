"""Every causal-LM type that transformers registers: what is recorded equals what plain transformers computes.

The reference is a plain forward of the same checkpoint with ordinary hooks, and for the attention weights one with
`attn_implementation="eager"` and `output_attentions=True`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)

import txinspect
from tests.conftest import UPDATE_GOLDEN
from tests.making.architectures import is_newest_tested, table
from tests.making.hooks import seen_by_hooks
from tests.making.models import (
    BUILT_FROM_PART,
    NOT_RUN,
    REPRESENTATIVE,
    buildable_types,
    by_type,
    byte_tokenizer,
    missing_package,
    registered_types,
    save_tiny,
)
from tests.making.writing import assert_own_values_leave_every_bit, assert_what_is_recorded_is_what_was_written
from txinspect import InspectError, ModelChoice
from txinspect.anatomy import locating
from txinspect.anatomy.architecture import Architecture
from txinspect.anatomy.families import ADDS_UP, GATED_CONTEXTS, NO_SOFTMAX
from txinspect.forward import capture, checking, rehearsal, wants
from txinspect.forward.attention import calls
from txinspect.forward.capture import CaughtTensor
from txinspect.forward.wants import Plan, Want
from txinspect.guards.quiet import quiet
from txinspect.loading import cost
from txinspect.loading.subject import load_subject
from txinspect.loading.weights import partial
from txinspect.render.terminal import render
from txinspect.texts.opened import Opened

IDLE_ATTENTION = {"mllama": "cross-attention runs only where there is an image"}
"""Types with attention modules that a text alone does not run."""

SEVERAL_CALLS = {
    "diffllama": "eager reports both halves of the differential attention in one",
    "prophetnet": "eager reports the main stream; the predicted streams come second",
}
"""Types whose attention modules attend several times in a run, of which eager reports the first."""

FAIL_IN_BFLOAT16 = ("reformer", "xlnet", "xlstm")
"""Types whose own forward mixes bfloat16 and float32, so that plain transformers cannot run them either."""

NOT_REHEARSED = ("blt", "dbrx", "jetmoe", "longcat_flash", "xmod")
"""Types whose code branches on what only weights can tell: their modules count by their place."""

BACKENDS_DIFFER_LEFT_PADDED = ("minimax_m3_vl_text",)
"""Types whose choice of sparse blocks depends on the backend where the padding is on the left: plain sdpa and plain
eager give other logits, so that eager is no reference there."""

Captured = dict[tuple[str, str], list[Tensor]]
"""By stage and module: what came, in order."""


@dataclass(frozen=True)
class Observed:
    """One model, recorded and not."""

    model_type: str
    folder: Path
    model: PreTrainedModel
    architecture: Architecture
    inputs: dict[str, Tensor]
    plain: Tensor
    captured: Captured


def load(model_type: str, folder: Path, **options: Any) -> PreTrainedModel:
    """A checkpoint in plain transformers."""
    config = AutoConfig.from_pretrained(folder)
    factory: Any = AutoModelForCausalLM
    if model_type in BUILT_FROM_PART:
        factory, options["config"] = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], config.decoder
    model: PreTrainedModel = factory.from_pretrained(folder, **options)
    model.eval()
    return model


def text_inputs(model: PreTrainedModel, length: int, rows: int = 1) -> dict[str, Tensor]:
    """Random ids of the tiny vocabulary's bytes, and a mask of ones: (rows, length)."""
    ids = torch.randint(8, 264, (rows, length), generator=torch.Generator().manual_seed(length))
    mask = torch.ones(rows, length, dtype=torch.long)
    return {"input_ids": ids.repeat(locating.rows_of_ids(model), 1), "attention_mask": mask}


def plain_logits(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(**inputs, use_cache=False).logits
    return logits


def record(
    model: PreTrainedModel, inputs: dict[str, Tensor], stages: Callable[[str], bool] = lambda _: True
) -> Captured:
    """Everything that txinspect records in one pass."""
    found = locating.locate(model)
    supplies = [supply for supply in found.supplies() + found.module_supplies() if supply.available]
    wants = [Want(supply, by_glob=True) for supply in supplies if stages(supply.name)]
    captured: Captured = defaultdict(list)

    def receive(caught: capture.CaughtTensor) -> None:
        supply = caught.want.supply
        captured[supply.name, supply.module or ""].append(caught.tensor.whole().clone())

    capture.run(model, inputs, Plan(wants, until=None), receive)
    return captured


def eager_weights(model_type: str, folder: Path, found: Architecture, inputs: dict[str, Tensor], **options: Any) -> Any:
    """The weights that each attention module returns under eager, by module."""
    try:
        model = load(model_type, folder, attn_implementation="eager", **options)
    except (KeyError, ValueError):  # files with attention of their own may take no implementation
        model = load(model_type, folder, **options)
    locating.settle(model, inputs["input_ids"].shape[1])
    reported: dict[str, list[Tensor]] = defaultdict(list)

    def keep(path: str) -> Callable[..., None]:
        def hook(_module: Any, _args: Any, output: Any) -> None:
            items = output[1:] if isinstance(output, (tuple, list)) else ()
            weights = next((item for item in items if isinstance(item, Tensor) and item.ndim >= 4), None)
            if weights is not None:
                reported[path].append(weights.permute(2, 3, 0, 1) if model_type == "xlnet" else weights)

        return hook

    for path in attention_modules(found):
        model.get_submodule(path).register_forward_hook(keep(path))
    with torch.no_grad():
        model(**inputs, use_cache=False, output_attentions=True)
    return reported


def attention_modules(found: Architecture) -> list[str]:
    """Paths of the modules whose weights can be had."""
    paths = [path for layer in found.layers for path in layer.attentions]
    return [path for path in paths if found.class_names[path] not in NO_SOFTMAX]


def assert_weights_equal(model_type: str, found: Architecture, captured: Captured, reported: Any, limit: float) -> None:
    by_module: dict[str, list[Tensor]] = defaultdict(list)
    for (name, module), tensors in captured.items():
        if name.endswith(".attention.weights"):
            by_module[module] += tensors
    for path in attention_modules(found):
        ours, theirs = by_module[path], reported[path]
        if model_type in IDLE_ATTENTION and not ours:
            continue
        assert ours, path
        assert theirs, path
        assert len(ours) == len(theirs) or model_type in SEVERAL_CALLS
        for mine, eager in zip(ours, theirs, strict=False):
            assert mine.shape == eager.shape
            assert (mine - eager).abs().max() <= limit


@pytest.fixture(scope="module", params=by_type(buildable_types()))
def observed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Observed:
    model_type: str = request.param
    folder = save_tiny(model_type, tmp_path_factory.mktemp("tiny") / model_type)
    model = load(model_type, folder)
    inputs = text_inputs(model, 10)
    locating.settle(model, 10)
    found = locating.locate(model)
    plain = plain_logits(model, inputs)
    return Observed(model_type, folder, model, found, inputs, plain, record(model, inputs))


def test_recording_leaves_the_logits_as_they_are(observed: Observed) -> None:
    (recorded,) = observed.captured["logits", ""]
    assert torch.equal(recorded, observed.plain)


def test_own_values_written_back_leave_every_bit(observed: Observed) -> None:
    assert_own_values_leave_every_bit(observed.model, observed.inputs, observed.plain)


def test_what_is_recorded_is_what_was_written(observed: Observed) -> None:
    assert_what_is_recorded_is_what_was_written(observed.model, observed.inputs, observed.plain)


def test_module_tensors_are_what_hooks_see(observed: Observed) -> None:
    seen = seen_by_hooks(observed.model, lambda: plain_logits(observed.model, observed.inputs))
    compared = 0
    for supply in observed.architecture.supplies() + observed.architecture.module_supplies():
        if supply.available and supply.tap in ("input", "output") and supply.pick is None:
            ours = observed.captured[supply.name, supply.module or ""]
            theirs = seen[supply.tap, supply.module or ""]
            assert len(ours) == len(theirs), supply.name
            for mine, hooked in zip(ours, theirs, strict=True):
                assert torch.equal(mine.reshape(hooked.shape), hooked), supply.name
                compared += 1
    assert compared > 5


def test_the_weights_in_use_give_what_all_give(observed: Observed) -> None:
    """Loaded are only those that the asked stages use; the plan names them before, the account afterwards."""
    choice = ModelChoice(name=str(observed.folder))
    last = len(observed.architecture.layers) - 1
    for stages in (["layers.0.output"], [f"layers.{last}.input"]):
        subject = load_subject(Opened(choice), lambda _: None, 10)
        plan = wants.plan_of_names(subject, stages)
        with quiet():
            used = rehearsal.rehearse(subject, observed.inputs, plan)
        assert used.guessed_because is None or observed.model_type in NOT_REHEARSED
        loaded = partial.load(subject, choice, used.modules)
        locating.settle(loaded.model, 10)
        came: Captured = defaultdict(list)

        def receive(caught: CaughtTensor, came: Captured = came) -> None:
            supply = caught.want.supply
            came[supply.name, supply.module or ""].append(caught.tensor.whole().clone())

        with quiet():
            capture.run(loaded.model, observed.inputs, plan, receive)
        assert came
        for key, tensors in came.items():
            expected = observed.captured[key]
            assert len(tensors) == len(expected)
            assert all(torch.equal(mine, whole) for mine, whole in zip(tensors, expected, strict=True)), key
        planned = cost.expected(subject, choice, used, subject.source.offered())
        done = cost.spent(subject, choice, used, loaded)
        assert planned.disk_bytes == done.disk_bytes
        assert [file.tensors_read for file in planned.files] == [file.tensors_read for file in done.files]
        held = {id(tensor): tensor for tensor in loaded.model.parameters()}
        assert sum(tensor.numel() for tensor in held.values()) == done.parameters == planned.parameters


def test_attention_weights_equal_eager(observed: Observed) -> None:
    reported = eager_weights(observed.model_type, observed.folder, observed.architecture, observed.inputs)
    assert_weights_equal(observed.model_type, observed.architecture, observed.captured, reported, 1e-5)


def test_weights_times_values_is_the_context(observed: Observed) -> None:
    found = observed.architecture
    for index, layer in enumerate(found.layers):
        for path in layer.attentions:
            if found.class_names[path] in GATED_CONTEXTS:
                continue
            parts = [
                observed.captured[f"layers.{index}.attention.{part}", path] for part in ("weights", "v", "context")
            ]
            for pattern, value, context in zip(*parts, strict=True):
                repeats = pattern.shape[1] // value.shape[1]
                expected = pattern @ (value.repeat_interleave(repeats, 1) if repeats > 1 else value)
                torch.testing.assert_close(context, expected, rtol=1e-4, atol=1e-5)


def test_no_check_fails(observed: Observed) -> None:
    checks = checking.check(observed.model, observed.architecture, observed.inputs)
    assert [check.detail for check in checks if check.passed is False] == []
    (residual,) = [check for check in checks if check.name == "residual"]
    layers = len(observed.architecture.layers)
    everywhere = f" in {layers} of {layers} layers" in residual.detail
    # mllama's layers add up as far as they run without an image; a model of three kinds of layers may, too.
    assert everywhere == (observed.model_type in ADDS_UP) or observed.model_type == "mllama", residual.detail


def test_axes_name_every_dimension(observed: Observed) -> None:
    for supply in observed.architecture.supplies():
        for tensor in observed.captured.get((supply.name, supply.module or ""), [])[:1]:
            assert supply.axes is not None
            assert len(supply.axes) == tensor.ndim, (supply.name, supply.axes, tensor.shape)


@pytest.mark.parametrize("command", ["tree", "stages", "tokenize", "embed", "pos", "attn", "run"])
def test_commands_end_with_a_report_or_a_reason(observed: Observed, command: str) -> None:
    choice = ModelChoice(name=str(observed.folder))
    layers = [index for index, layer in enumerate(observed.architecture.layers) if layer.attentions]
    queries: dict[str, Any] = {
        "tree": txinspect.TreeQuery(model=choice),
        "stages": txinspect.StagesQuery(model=choice),
        "tokenize": txinspect.TokenizeQuery(model=choice, text="hello you"),
        "embed": txinspect.EmbedQuery(model=choice, text="hello you"),
        "pos": txinspect.PosQuery(model=choice, text="hello you"),
        "attn": txinspect.AttnQuery(model=choice, text="hello you", layer=next(iter(layers), 0)),
        "run": txinspect.RunQuery(model=choice, text="hello you", stages=("**",)),
    }
    reasons = {supply.reason for supply in observed.architecture.supplies() if supply.reason}
    try:
        report = txinspect.inspect(queries[command])
    except InspectError as error:
        said = str(error)
    else:
        assert txinspect.to_json(report)
        render(report, Console(file=StringIO(), width=80))
        tensors = getattr(report, "tensors", ())
        assert len({tensor.name for tensor in tensors}) == len(tensors)
        assert not any(tensor.stats.nan for tensor in tensors)
        return
    assert command in ("embed", "pos", "attn")
    assert any(said.endswith(reason) for reason in reasons)


def test_long_text_in_blocks_of_rows(observed: Observed, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 tokens: windows, chunks and sparse selection have an effect, and weights come in blocks of a few rows."""
    monkeypatch.setattr(calls, "BLOCK_ELEMENTS", 4 * 200 * 23)
    model = load(observed.model_type, observed.folder)
    inputs = text_inputs(model, 200)
    locating.settle(model, 200)
    plain = plain_logits(model, inputs)
    captured = record(model, inputs, lambda name: name == "logits" or name.endswith(".attention.weights"))
    assert torch.equal(captured["logits", ""][0], plain)
    found = locating.locate(model)
    reported = eager_weights(observed.model_type, observed.folder, found, inputs)
    assert_weights_equal(observed.model_type, found, captured, reported, 1e-5)


@pytest.mark.parametrize("options", [{"dtype": torch.bfloat16}, {"attn_implementation": "eager"}], ids=str)
def test_logits_unchanged_in_other_types_and_backends(observed: Observed, options: dict[str, Any]) -> None:
    try:
        model = load(observed.model_type, observed.folder, **options)
    except (KeyError, ValueError):
        pytest.fail(f"{observed.model_type} does not load with {options}")
    locating.settle(model, 10)
    if "dtype" in options and observed.model_type in FAIL_IN_BFLOAT16:
        with pytest.raises(RuntimeError, match=r"dtype|scalar type"):
            plain_logits(model, observed.inputs)
        return
    plain = plain_logits(model, observed.inputs)
    captured = record(model, observed.inputs, lambda name: name == "logits" or ".attention." in name)
    assert torch.equal(captured["logits", ""][0].nan_to_num(), plain.nan_to_num())


def test_padded_batch(observed: Observed) -> None:
    """A whole row, one padded on the right, one on the left: weights of the real tokens equal eager's.

    Only on the left does a causal row see the padding unless the mask is heeded.
    """
    if observed.model_type in BUILT_FROM_PART:
        return  # its rows are codebooks
    inputs = text_inputs(observed.model, 10, rows=3)
    inputs["attention_mask"][1, 7:] = 0
    inputs["attention_mask"][2, :3] = 0
    plain = plain_logits(observed.model, inputs)
    captured = record(observed.model, inputs, lambda name: name == "logits" or name.endswith(".attention.weights"))
    assert torch.equal(captured["logits", ""][0].nan_to_num(), plain.nan_to_num())
    reported = eager_weights(observed.model_type, observed.folder, observed.architecture, inputs)
    for (name, module), tensors in captured.items():
        for ours, theirs in zip(tensors, reported[module] if name != "logits" else (), strict=False):
            assert ours.shape == theirs.shape
            real = [slice(0, 10), slice(0, 7), slice(3, 10)] if ours.shape[-2] == 10 else []
            if observed.model_type in BACKENDS_DIFFER_LEFT_PADDED:
                eager = plain_logits(load(observed.model_type, observed.folder, attn_implementation="eager"), inputs)
                assert (eager[2, 3:] - plain[2, 3:]).abs().max() > 0.1
                real = real[:2]
            for row, queries in enumerate(real):
                assert (ours[row, :, queries] - theirs[row, :, queries]).abs().max() <= 1e-5


@pytest.mark.parametrize("model_type", sorted(name for name in registered_types() if missing_package(name)))
def test_a_package_that_a_type_needs_is_named(model_type: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(f'{{"model_type": "{model_type}"}}')
    with pytest.raises(InspectError, match="a package is missing") as caught:
        txinspect.inspect(txinspect.TreeQuery(model=ModelChoice(name=str(tmp_path))))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("model_type", sorted(NOT_RUN))
def test_types_that_a_text_cannot_run_are_a_sentence(model_type: str, tmp_path: Path) -> None:
    try:
        save_tiny(model_type, tmp_path)
    except ValueError:  # before transformers 5.24 they cannot even be built
        (tmp_path / "config.json").write_text(f'{{"model_type": "{model_type}"}}')
        byte_tokenizer(PretrainedConfig()).save_pretrained(tmp_path)
    with pytest.raises(InspectError) as caught:
        txinspect.inspect(txinspect.RunQuery(model=ModelChoice(name=str(tmp_path)), text="hi", stages=("logits",)))
    assert len(str(caught.value).splitlines()) == 1
    assert "no model can be built" in str(caught.value) or "forward pass failed" in str(caught.value)


TABLE = Path(__file__).parents[1] / "golden" / "architectures.md"


@pytest.mark.skipif(not is_newest_tested(), reason="the table is of the newest transformers tested")
def test_the_table_of_architectures() -> None:
    if UPDATE_GOLDEN:
        TABLE.write_text(table())
    assert TABLE.read_text() == table()


def test_the_representatives_are_of_every_kind() -> None:
    """The quick tier has every kind of attention, position and router of the table, and lacks each stage once."""
    causal = TABLE.read_text().partition("## Encoders")[0]
    lines = [line for line in causal.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[1:]]
    for column in (1, 2, 4, 5):  # attention, positions, router, what is absent
        kinds = {kind for row in rows for kind in row[column].split(", ")}
        covered = {kind for row in rows if row[0] in REPRESENTATIVE for kind in row[column].split(", ")}
        assert kinds == covered
    mixers = {row[3] for row in rows if row[0] in REPRESENTATIVE}
    assert len(mixers) > 4
