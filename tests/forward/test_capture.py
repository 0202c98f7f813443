"""Every recorded tensor against a plain forward with plain hooks; the pass that stops; what is put back afterwards."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tests.making.checkpoints import VARIANTS, write_opt
from tests.making.models import save_tiny
from txinspect.anatomy.architecture import Supply
from txinspect.anatomy.locating import locate
from txinspect.commands.attn import AttnQuery
from txinspect.commands.embed import EmbedQuery
from txinspect.commands.pos import PosQuery
from txinspect.commands.run import RunQuery
from txinspect.errors import InspectError, StageError
from txinspect.forward import capture
from txinspect.forward.capture import CaughtTensor
from txinspect.forward.edits import SkipNorm, Write
from txinspect.forward.recorded import TensorBlocks
from txinspect.forward.tail import Tail
from txinspect.forward.wants import Plan, Selection, Want
from txinspect.inspecting import inspect
from txinspect.loading.weights import partial
from txinspect.model_choice import ModelChoice
from txinspect.records import TensorRecord, TensorsReport
from txinspect.stage_names import stage_names

TEXT = "naïve fox"
IMPLEMENTATIONS = ("sdpa", "eager")


@dataclass(frozen=True)
class Plain:
    """A plain forward: what every module was given and gave, and the model's output."""

    model: Any
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    logits: Tensor
    attentions: tuple[Tensor, ...] | None


def plain_forward(folder: Path, text: str = TEXT, implementation: str = "sdpa", **options: Any) -> Plain:
    """Run the model of a folder with ordinary hooks on every module, as anyone would."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=implementation, **options)
    model.eval()
    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def remember(path: str) -> Callable[..., None]:
        def hook(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            given = args[0] if args else kwargs.get("hidden_states")
            if given is not None:
                inputs[path] = given
            first = output[0] if isinstance(output, tuple) else output
            outputs[path] = first if isinstance(first, Tensor) else first.last_hidden_state

        return hook

    for path, module in model.named_modules():
        if path:
            module.register_forward_hook(remember(path), with_kwargs=True)
    eager = {"output_attentions": True} if implementation == "eager" else {}
    with torch.no_grad():
        result = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], use_cache=False, **eager)
    return Plain(model, inputs, outputs, result.logits, result.attentions if eager else None)


def stage_tensors(plain: Plain) -> dict[str, Tensor]:
    """Every stage of an OPT but scores and weights, from the plain forward by OPT's own names."""
    inputs, outputs = plain.inputs, plain.outputs
    count, heads = plain.model.config.num_hidden_layers, plain.model.config.num_attention_heads

    def by_head(tensor: Tensor) -> Tensor:
        return tensor.reshape(*tensor.shape[:2], heads, -1).transpose(1, 2)

    decoder = "model.decoder."
    found = {
        "token_embeddings": outputs[decoder + "embed_tokens"],
        "position_embeddings": outputs[decoder + "embed_positions"],
        "logits": plain.logits,
    }
    if decoder + "final_layer_norm" in outputs:
        found["final_norm"] = outputs[decoder + "final_layer_norm"]
    for index in range(count):
        layer, stage = f"{decoder}layers.{index}", f"layers.{index}."
        attention = layer + ".self_attn"
        query = outputs[attention + ".q_proj"]
        shape = inputs[layer].shape
        found |= {
            stage + "input": inputs[layer],
            stage + "attention.input": inputs[attention],
            stage + "attention.q": by_head(query * (query.shape[-1] // heads) ** -0.5),
            stage + "attention.k": by_head(outputs[attention + ".k_proj"]),
            stage + "attention.v": by_head(outputs[attention + ".v_proj"]),
            stage + "attention.context": by_head(inputs[attention + ".out_proj"]),
            stage + "attention.output": outputs[attention],
            stage + "mlp.input": inputs[layer + ".fc1"].reshape(shape),
            stage + "mlp.output": outputs[layer + ".fc2"].reshape(shape),
            stage + "output": outputs[layer],
        }
    return found


def tensor_of(record: TensorRecord) -> Tensor:
    """The numbers of a record, in its own type: JSON's float64 holds every value of the smaller types."""
    return torch.tensor(record.values, dtype=torch.float64).to(getattr(torch, record.dtype)).reshape(record.shape)


def run_all(folder: Path, *stages: str, text: str = TEXT, values: bool = True) -> TensorsReport:
    return inspect(RunQuery(model=ModelChoice(name=str(folder)), text=text, stages=stages or ("**",), values=values))


def by_name(report: TensorsReport) -> dict[str, TensorRecord]:
    found = {record.name: record for record in report.tensors}
    assert len(found) == len(report.tensors), "no name appears twice"
    return found


def assert_same(record: TensorRecord, wanted: Tensor) -> None:
    """Bit for bit: name, shape, type and every value."""
    assert record.shape == list(wanted.shape), record.name
    assert record.dtype == str(wanted.dtype).removeprefix("torch."), record.name
    assert torch.equal(tensor_of(record), wanted), record.name


def use_implementation(monkeypatch: pytest.MonkeyPatch, implementation: str) -> None:
    """Let txinspect's model run on another attention backend than its default."""
    original = partial.load

    def load(*arguments: Any) -> Any:
        loaded = original(*arguments)
        model = loaded.model
        model.set_attn_implementation(implementation)
        return loaded

    monkeypatch.setattr(partial, "load", load)


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each attention backend, on which txinspect's model runs too."""
    name: str = request.param
    use_implementation(monkeypatch, name)
    return name


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules of txinspect's model that began to run, in order; modules that only hold others are not in it."""
    seen: list[str] = []
    original = partial.load

    def load(*arguments: Any) -> Any:
        loaded = original(*arguments)
        model = loaded.model
        for path, module in model.named_modules():
            module.register_forward_pre_hook(lambda *_, path=path: seen.append(path), prepend=True)
        return loaded

    monkeypatch.setattr(partial, "load", load)
    return seen


# --- every tensor ---


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_stage_and_module_is_what_a_plain_forward_gives(
    variant: str, implementation: str, opt_variant: Callable[[str], Path]
) -> None:
    folder = opt_variant(variant)
    plain = plain_forward(folder, implementation=implementation)
    report = run_all(folder)
    assert report.model.attn_implementation == implementation
    records, stages = by_name(report), stage_tensors(plain)

    patterns = {name for name in stage_names(3) if name.endswith((".scores", ".weights"))}
    assert stages.keys() | patterns == set(stage_names(3)) - ({"final_norm"} - stages.keys())
    assert records.keys() == stages.keys() | patterns | plain.outputs.keys(), "nothing is missing, nothing made up"
    for name, wanted in (plain.outputs | stages).items():
        assert_same(records[name], wanted)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_with_all_hooks_on_are_bit_identical(
    variant: str, implementation: str, opt_variant: Callable[[str], Path]
) -> None:
    folder = opt_variant(variant)
    plain = plain_forward(folder, implementation=implementation)
    assert_same(by_name(run_all(folder))["logits"], plain.logits)
    assert_same(by_name(run_all(folder, "logits"))["logits"], plain.logits)


@pytest.mark.half
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("variant", ["pre_norm", "opt_350m"])
def test_half_precision_checkpoints(
    dtype: torch.dtype, variant: str, implementation: str, opt_variant: Callable[[str], Path], tmp_path: Path
) -> None:
    half = AutoModelForCausalLM.from_pretrained(opt_variant(variant), dtype=dtype)
    half.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(opt_variant(variant)).save_pretrained(tmp_path)
    plain = plain_forward(tmp_path, implementation=implementation, dtype="auto")
    assert plain.logits.dtype == dtype
    report = run_all(tmp_path)
    assert report.model.dtype == str(dtype).removeprefix("torch.")
    records = by_name(report)
    for name, wanted in (plain.outputs | stage_tensors(plain)).items():
        assert_same(records[name], wanted)
    assert {records[f"layers.0.attention.{part}"].dtype for part in ("scores", "weights")} == {report.model.dtype}


@pytest.mark.parametrize(("command", "stage"), [(EmbedQuery, "token_embeddings"), (PosQuery, "position_embeddings")])
@pytest.mark.parametrize("variant", VARIANTS)
def test_embed_and_pos_are_the_modules_outputs(
    command: Any, stage: str, variant: str, opt_variant: Callable[[str], Path]
) -> None:
    folder = opt_variant(variant)
    report = inspect(command(model=ModelChoice(name=str(folder)), text=TEXT, values=True))
    (record,) = report.tensors
    assert record.name == stage
    assert_same(record, stage_tensors(plain_forward(folder))[stage])


def test_records_name_module_class_and_axes(opt: Path) -> None:
    records = by_name(run_all(opt, "**", values=False))
    query, norm = records["layers.1.attention.q"], records["final_norm"]
    assert (query.module, query.class_) == ("model.decoder.layers.1.self_attn", "OPTAttention")
    assert query.axes == ["batch", "head", "seq", "head_dim"]
    assert (norm.module, norm.class_, norm.axes) == (
        *("model.decoder.final_layer_norm", "LayerNorm"),
        ["batch", "seq", "hidden"],
    )
    fc1 = records["model.decoder.layers.0.fc1"]
    assert (fc1.module, fc1.class_, fc1.axes) == ("model.decoder.layers.0.fc1", "Linear", None)
    logits = records["logits"]
    assert (logits.module, logits.class_, logits.axes) == (None, "OPTForCausalLM", ["batch", "seq", "vocab"])
    assert records["lm_head"].axes == ["batch", "seq", "vocab"]
    assert records["model.decoder"].axes == ["batch", "seq", "hidden"]
    assert all(record.values is None and record.coordinates is None for record in records.values())
    assert all(record.axes is None or len(record.axes) == len(record.shape) for record in records.values())


def test_tensors_come_in_the_order_of_the_pass(opt: Path) -> None:
    names = [record.name for record in run_all(opt, "**", values=False).tensors]
    for index in range(3):
        parts = [f"layers.{index}.{part}" for part in ("input", "attention.input", "attention.q", "attention.output")]
        parts += [f"layers.{index}.{part}" for part in ("mlp.input", "mlp.output", "output")]
        assert [name for name in names if name in parts] == parts
    assert names[0] in ("token_embeddings", "model.decoder.embed_tokens")
    assert names[-1] == "logits"


def test_a_module_that_does_not_run_is_said(opt: Path) -> None:
    """OPTForCausalLM calls model.decoder itself, so that the module `model` never runs."""
    assert run_all(opt, values=False).notes == ["model passed no tensor on in this pass."]
    with pytest.raises(StageError, match="'model' passed no tensor on: model did not run in this pass"):
        run_all(opt, "model")


def test_a_stage_asked_twice_comes_once(opt: Path) -> None:
    names = [record.name for record in run_all(opt, "layers.0.output", "layers.*.output", "layers.0.*").tensors]
    assert sorted(names) == sorted({*names})
    assert names.count("layers.0.output") == 1


def test_a_named_module_beside_a_glob_must_run(opt: Path) -> None:
    with pytest.raises(StageError, match="'model' passed no tensor on"):
        run_all(opt, "**", "model")


# --- only what is asked ---

DECODER = "model.decoder"
LAYER = "model.decoder.layers."


@pytest.mark.parametrize(
    ("stages", "last", "never"),
    [
        (["token_embeddings"], f"{DECODER}.embed_tokens", [f"{DECODER}.embed_positions", f"{LAYER}0", "lm_head"]),
        (["position_embeddings"], f"{DECODER}.embed_positions", [f"{LAYER}0"]),
        (["layers.0.input"], f"{LAYER}0", [f"{LAYER}0.self_attn_layer_norm", f"{LAYER}0.self_attn"]),
        (["layers.0.attention.input"], f"{LAYER}0.self_attn", [f"{LAYER}0.self_attn.q_proj"]),
        (["layers.0.attention.q"], None, [f"{LAYER}0.fc1", f"{LAYER}1"]),
        (["layers.0.attention.weights"], None, [f"{LAYER}0.fc1", f"{LAYER}1"]),
        (["layers.0.attention.output"], f"{LAYER}0.self_attn.out_proj", [f"{LAYER}0.fc1", f"{LAYER}1"]),
        (["layers.0.mlp.input"], f"{LAYER}0.fc1", [f"{LAYER}0.activation_fn", f"{LAYER}0.fc2"]),
        (["layers.0.mlp.output"], f"{LAYER}0.fc2", [f"{LAYER}1"]),
        (["layers.1.output"], f"{LAYER}1.fc2", [f"{LAYER}2", "lm_head"]),
        ([f"{LAYER}1.self_attn.k_proj"], f"{LAYER}1.self_attn.k_proj", [f"{LAYER}1.self_attn.v_proj"]),
        (["layers.1.*", "layers.0.**"], f"{LAYER}1.fc2", [f"{LAYER}2"]),
        (["layers.1.input", "token_embeddings"], f"{LAYER}1", [f"{LAYER}1.self_attn"]),
        (["final_norm"], f"{DECODER}.final_layer_norm", ["lm_head"]),
        (["logits"], "lm_head", []),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)
def test_the_pass_stops_after_the_last_asked_stage(
    stages: list[str], last: str | None, never: list[str], ran: list[str], opt: Path
) -> None:
    run_all(opt, *stages)
    assert last is None or ran[-1] == last
    assert not {path for path in ran for begin in never if path == begin or path.startswith(begin + ".")}


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_attn_runs_no_later_layer(layer: int, ran: list[str], opt: Path) -> None:
    inspect(AttnQuery(model=ModelChoice(name=str(opt)), text=TEXT, layer=layer))
    layers = [path for path in ran if path in {f"{LAYER}{index}" for index in range(3)}]
    assert layers == [f"{LAYER}{index}" for index in range(layer + 1)]
    assert not {path for path in ran if path.startswith((f"{LAYER}{layer}.fc", "lm_head"))}


def test_a_tensor_is_let_go_before_the_next_one_comes(opt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --values or --save nothing holds on to a tensor once it is measured."""
    gone: list[weakref.ref[TensorBlocks]] = []
    original = capture.run

    def watched(model: Any, inputs: Any, wants: Any, receive: Callable[[CaughtTensor], None], **more: Any) -> Any:
        def look(caught: CaughtTensor) -> None:
            assert not [reference for reference in gone if reference() is not None]
            receive(caught)
            gone.append(weakref.ref(caught.tensor))

        return original(model, inputs, wants, look, **more)

    monkeypatch.setattr(capture, "run", watched)
    # Each comes twice: once without values, to see which weights it takes.
    assert 2 * len(run_all(opt, values=False).tensors) == len(gone) > 120


# --- everything is put back ---


def hooks_of(model: nn.Module) -> list[Any]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")
    return [hook for module in model.modules() for kind in kinds for hook in getattr(module, kind)]


@contextmanager
def nothing_is_left(model: nn.Module) -> Iterator[None]:
    """Hooks, the attention functions and gradient mode are the same afterwards."""
    before = dict(ALL_ATTENTION_FUNCTIONS._local_mapping), dict(ALL_ATTENTION_FUNCTIONS._global_mapping)
    assert not hooks_of(model)
    yield
    assert not hooks_of(model)
    assert (ALL_ATTENTION_FUNCTIONS._local_mapping, ALL_ATTENTION_FUNCTIONS._global_mapping) == before
    assert torch.is_grad_enabled()


@pytest.fixture(params=IMPLEMENTATIONS)
def loaded(request: pytest.FixtureRequest, opt: Path) -> Any:
    """A model on each backend."""
    return AutoModelForCausalLM.from_pretrained(opt, attn_implementation=request.param).eval()


def everything(model: Any) -> list[Want]:
    architecture = locate(model)
    supplies = [*architecture.supplies(), *architecture.module_supplies()]
    return [Want(supply, by_glob=True) for supply in supplies if supply.available]


IDS = torch.tensor([[2, 20, 21, 22, 23]])
INPUTS = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}


@pytest.mark.parametrize("skip", [False, True])
def test_everything_is_put_back(loaded: Any, skip: bool) -> None:
    caught: list[str] = []
    edits = (SkipNorm(locate(loaded).layers[1]),) if skip else ()
    with nothing_is_left(loaded):
        plan = Plan(everything(loaded), edits=edits)
        capture.run(loaded, INPUTS, plan, lambda one: caught.append(one.want.supply.name))
    assert "logits" in caught
    with torch.no_grad():
        logits = loaded(**INPUTS).logits
        assert torch.equal(logits, loaded(**INPUTS).logits)


def test_everything_is_put_back_after_an_early_stop(loaded: Any) -> None:
    wants = [want for want in everything(loaded) if want.supply.name == "layers.0.attention.weights"]
    with nothing_is_left(loaded):
        assert capture.run(loaded, INPUTS, Plan(wants), lambda _: None) == []


@pytest.mark.parametrize("error", [ValueError("x"), StageError("x"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("at", ["token_embeddings", "layers.1.input", "layers.1.attention.weights", "logits"])
def test_everything_is_put_back_after_an_error_in_what_receives(loaded: Any, error: BaseException, at: str) -> None:
    def receive(caught: CaughtTensor) -> None:
        if caught.want.supply.name == at:
            raise error

    with nothing_is_left(loaded), pytest.raises((type(error), InspectError)):
        capture.run(loaded, INPUTS, Plan(everything(loaded), edits=(SkipNorm(locate(loaded).layers[0]),)), receive)


def test_everything_is_put_back_after_an_error_of_the_model(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(loaded.model.decoder.layers[1].fc1, "forward", fail)
    with nothing_is_left(loaded), pytest.raises(InspectError, match="forward pass failed: RuntimeError: no such luck"):
        capture.run(loaded, INPUTS, Plan(everything(loaded)), lambda _: None)


def test_everything_is_put_back_after_a_want_that_cannot_be_hooked(loaded: Any) -> None:
    wants = [*everything(loaded), Want(Supply("nowhere", "output", "no.such.module"))]
    with nothing_is_left(loaded), pytest.raises(AttributeError):
        capture.run(loaded, INPUTS, Plan(wants), lambda _: None)


def test_a_head_out_of_range_leaves_nothing(loaded: Any) -> None:
    (supply,) = [want.supply for want in everything(loaded) if want.supply.name == "layers.0.attention.k"]
    with (
        nothing_is_left(loaded),
        pytest.raises(StageError, match="head 4 is out of range: this layer has heads 0 to 3"),
    ):
        capture.run(loaded, INPUTS, Plan([Want(supply, Selection(heads=(1, 4)))]), lambda _: None)


def test_an_attention_function_of_someone_else_is_put_back(opt: Path) -> None:
    """Another tool may have put its own function into the table: it is called, and still there afterwards."""
    original, calls = ALL_ATTENTION_FUNCTIONS["sdpa"], []

    def counting(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return original(*args, **kwargs)

    ALL_ATTENTION_FUNCTIONS["sdpa"] = counting
    try:
        run_all(opt, "logits", "layers.0.attention.weights")
        assert len(calls) == 2 * 3, "three layers, rehearsed and run"
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is counting
    finally:
        del ALL_ATTENTION_FUNCTIONS["sdpa"]


def test_a_module_that_runs_twice_is_recorded_twice(opt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shared modules: here layer 1 is layer 0 again."""
    original = partial.load

    def load(*arguments: Any) -> Any:
        loaded = original(*arguments)
        model = loaded.model
        first, second, _ = model.model.decoder.layers
        monkeypatch.setattr(second, "forward", lambda *args, **kwargs: first(*args, **kwargs))
        return loaded

    monkeypatch.setattr(partial, "load", load)
    names = [record.name for record in run_all(opt, "layers.0.output", "logits").tensors]
    assert names == ["layers.0.output#1", "layers.0.output#2", "logits"]


# --- odd weights ---


def test_planted_nan_and_infinities_are_counted(opt: Path, tmp_path: Path) -> None:
    write_opt(tmp_path)
    weights = load_file(opt / "model.safetensors")
    table = weights["model.decoder.embed_tokens.weight"]
    table[8 + ord("x")] = 0
    table[8 + ord("x"), :6] = torch.tensor([math.nan, math.inf, math.inf, -math.inf, -math.inf, -math.inf])
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    report = run_all(tmp_path, text="axbx")
    plain = plain_forward(tmp_path, "axbx")
    stats = by_name(report)["token_embeddings"].stats
    assert (stats.nan, stats.posinf, stats.neginf) == (2, 4, 6)
    assert stats.zeros == 2 * 58
    for name, wanted in (plain.outputs | stage_tensors(plain)).items():
        found = by_name(report)[name].stats
        counts = [int(count(wanted).sum()) for count in (torch.isnan, torch.isposinf, torch.isneginf)]
        assert [found.nan, found.posinf, found.neginf] == counts, name
    assert by_name(report)["logits"].stats.nan > 0


def test_a_norm_at_both_ends_is_recorded_twice(tmp_path: Path) -> None:
    """nanochat norms its embeddings with the module of its final norm: the pass may not stop after the first."""
    save_tiny("nanochat", tmp_path)
    choice = ModelChoice(name=str(tmp_path))
    report = inspect(RunQuery(model=choice, text="fox", stages=("final_norm",), values=True))
    assert [tensor.name for tensor in report.tensors] == ["final_norm#1", "final_norm#2"]
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        wanted = model.model(input_ids=torch.tensor(report.input.input_ids)).last_hidden_state
    assert torch.equal(torch.tensor(report.tensors[1].values), wanted)


def test_a_module_that_runs_twice_is_recorded_twice_by_its_path(tmp_path: Path) -> None:
    """Gemma 3 makes a table of positions for each kind of layer."""
    model = ModelChoice(name=str(save_tiny("gemma3_text", tmp_path / "m")))
    alone, beside = (
        [each.name for each in inspect(RunQuery(model=model, text="abc", stages=stages)).tensors]
        for stages in (("model.rotary_emb",), ("model.rotary_emb", "logits"))
    )
    assert alone == ["model.rotary_emb#1", "model.rotary_emb#2"]
    assert beside == [*alone, "logits"]


def test_a_module_that_runs_once_ends_the_pass(tmp_path: Path) -> None:
    model = ModelChoice(name=str(save_tiny("llama", tmp_path / "m")))
    report = inspect(RunQuery(model=model, text="abc", stages=("model.layers.0.mlp",)))
    assert report.loading.parameters < (report.model.num_parameters or 0) / 2


# Stages that are written


def test_a_written_stage_is_recorded_as_written_and_read_by_what_follows(loaded: Any) -> None:
    """Two writes of one place in their order, and a head; the same by plain hooks on the modules around them."""
    supplies = {each.name: each for each in locate(loaded).supplies()}
    writes = (
        Write(supplies["layers.0.output"], torch.zeros_like),
        Write(supplies["layers.0.output"], lambda own: own + 3),
        Write(supplies["layers.1.attention.context"], lambda own: own.index_fill(1, torch.tensor([1]), 0)),
    )
    wants = [Want(supplies[name]) for name in ("layers.0.output", "layers.1.attention.context", "logits")]
    came: dict[str, Tensor] = {}
    with nothing_is_left(loaded):
        capture.run(
            loaded,
            INPUTS,
            Plan(wants, writes=writes),
            lambda one: came.__setitem__(one.want.supply.name, one.tensor.whole().clone()),
        )
    assert (came["layers.0.output"] == 3).all()
    assert (came["layers.1.attention.context"][:, 1] == 0).all()
    assert (came["layers.1.attention.context"][:, 0] != 0).any()
    first, second = loaded.model.decoder.layers[:2]
    width = second.self_attn.head_dim

    def without_head(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        context = args[0].clone()
        context[..., width : 2 * width] = 0
        return (context,)

    handles = [
        first.register_forward_hook(lambda _module, _args, output: torch.full_like(output, 3.0)),
        second.self_attn.out_proj.register_forward_pre_hook(without_head),
    ]
    try:
        with torch.no_grad():
            expected = loaded(**INPUTS).logits
    finally:
        for handle in handles:
            handle.remove()
    assert torch.equal(came["logits"], expected)


def test_a_watch_sees_what_an_edit_made(loaded: Any) -> None:
    layers = locate(loaded).layers
    supplies = {each.name: each for each in locate(loaded).supplies()}
    tail = Tail(layers)
    plan = Plan(
        [Want(supplies["logits"])], writes=(Write(supplies["layers.0.output"], torch.zeros_like),), watches=(tail,)
    )
    capture.run(loaded, INPUTS, plan, lambda _: None)
    seen = tail.outputs(0)
    assert seen is not None
    assert not seen.any()


@pytest.mark.parametrize(
    ("stage", "why"),
    [
        ("logits", "nothing reads the logits"),
    ],
)
def test_a_stage_that_cannot_be_written_is_refused(loaded: Any, stage: str, why: str) -> None:
    supplies = {each.name: each for each in locate(loaded).supplies()}
    plan = Plan([Want(supplies["logits"])], writes=(Write(supplies[stage], torch.zeros_like),))
    with nothing_is_left(loaded), pytest.raises(StageError, match=why):
        capture.run(loaded, INPUTS, plan, lambda _: None)


def test_a_tensor_of_another_shape_is_refused(loaded: Any) -> None:
    supplies = {each.name: each for each in locate(loaded).supplies()}
    plan = Plan([Want(supplies["logits"])], writes=(Write(supplies["layers.0.mlp.output"], lambda own: own[:, :1]),))
    with nothing_is_left(loaded), pytest.raises(StageError, match="was to be written"):
        capture.run(loaded, INPUTS, plan, lambda _: None)
