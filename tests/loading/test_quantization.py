"""Quantization: options reach bitsandbytes, reports say what was quantized, stored quantizations load as they are."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from typer.testing import Result

from tests.making.checkpoints import write_opt
from tests.making.models import save_tiny
from txinspect.commands.embed import EmbedQuery
from txinspect.commands.plan import PlanQuery
from txinspect.commands.run import RunQuery
from txinspect.commands.stages import StagesQuery
from txinspect.commands.tree import TreeQuery
from txinspect.errors import InspectError, SourceError, UsageError
from txinspect.inspecting import inspect
from txinspect.loading import uses
from txinspect.loading.quantization import bitsandbytes, matrices, record, stored
from txinspect.loading.subject import load_subject
from txinspect.loading.weights import partial
from txinspect.model_choice import ModelChoice
from txinspect.records import QuantizationRecord, TensorsReport
from txinspect.texts.opened import Opened

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Widths that are multiples of 128: FP8's blocks."""
    wide = {"hidden_size": 128, "word_embed_proj_dim": 128, "ffn_dim": 256}
    return write_opt(tmp_path_factory.mktemp("quantizable"), **wide)


def run(folder: Path, *stages: str, **choice: Any) -> TensorsReport:
    return inspect(
        RunQuery(model=ModelChoice(name=str(folder), **choice), text="naïve fox", stages=stages, values=True)
    )


def logits(report: TensorsReport) -> Tensor:
    return torch.tensor(report.tensors[-1].values, dtype=torch.float64)


def plain_logits(folder: Path, report: TensorsReport, **options: Any) -> Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, **options).eval()
    with torch.no_grad():
        found: Tensor = model(input_ids=torch.tensor(report.input.input_ids)).logits
    return found.double()


def loaded(folder: Path, **choice: Any) -> nn.Module:
    made = ModelChoice(name=str(folder), **choice)
    subject = load_subject(Opened(made), lambda _: None)
    return partial.load(subject, made, uses.of_all_modules(subject).modules).model


OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "threshold": ({"quantization": "8bit", "int8_threshold": 0.5}, {"load_in_8bit": True, "llm_int8_threshold": 0.5}),
    "no threshold": (
        {"quantization": "8bit", "int8_threshold": 0.0},
        {"load_in_8bit": True, "llm_int8_threshold": 0.0},
    ),
    "fp4": ({"quantization": "4bit", "four_bit_type": "fp4"}, {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}),
    "nf4": ({"quantization": "4bit"}, {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}),
    "double": (
        {"quantization": "4bit", "double_quant": True},
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    ),
    "skipped": (
        {"quantization": "8bit", "skip_modules": ("fc1",)},
        {"load_in_8bit": True, "llm_int8_skip_modules": ["lm_head", "fc1"]},
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_give_what_plain_transformers_gives(name: str, folder: Path) -> None:
    ours, theirs = OPTIONS[name]
    report = run(folder, "layers.0.output", "logits", **ours)
    assert torch.equal(logits(report), plain_logits(folder, report, quantization_config=BitsAndBytesConfig(**theirs)))
    part = run(folder, "layers.0.output", **ours)
    assert part.tensors[0].values == report.tensors[0].values


def test_options_change_something(folder: Path) -> None:
    results = [logits(run(folder, "logits", **ours)) for ours, _ in OPTIONS.values()]
    assert all(not torch.equal(one, other) for i, one in enumerate(results) for other in results[:i])


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [
        ("fc1", ["model.decoder.layers.*.fc1", "lm_head"]),
        ("model.decoder.layers.0", [f"model.decoder.layers.*.{name}" for name in ("k_proj", "fc1")]),
        ("**.self_attn.*", ["model.decoder.layers.*.self_attn.q_proj"]),
        ("model.decoder.layers.1.fc2", ["model.decoder.layers.*.fc2"]),
    ],
)
def test_modules_to_skip(pattern: str, kept: list[str], folder: Path) -> None:
    report = run(folder, "layers.0.output", quantization="8bit", skip_modules=(pattern,))
    found = report.quantization
    assert found is not None
    model = loaded(folder, quantization="8bit", skip_modules=(pattern,))
    linear = [path for path, module in model.named_modules() if type(module) is nn.Linear]
    eight = [path for path, module in model.named_modules() if type(module).__name__ == "Linear8bitLt"]
    assert found.quantized == len(eight)
    assert found.modules == len(eight) + len(linear)
    assert "lm_head" in found.kept
    assert {path.rpartition(".")[2] for path in linear} == {path.rpartition(".")[2] for path in found.kept}


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_every_report_says_what_was_quantized(kind: Any, folder: Path) -> None:
    choice = ModelChoice(name=str(folder), quantization=kind)
    kinds = {"8bit": "Linear8bitLt", "4bit": "Linear4bit"}
    wanted = QuantizationRecord(
        method=kind, quantized=18, modules=19, kept=["lm_head"], classes=[kinds[kind]], dequantized=False
    )
    embed = EmbedQuery(model=choice)
    for query in (TreeQuery(model=choice), StagesQuery(model=choice), embed, PlanQuery(model=choice, of=embed)):
        report: Any = inspect(query)
        assert report.quantization == wanted
        assert f"{kind}: 18 of 19 weight matrices are quantized ({kinds[kind]}); not lm_head." in report.notes
    assert inspect(EmbedQuery(model=ModelChoice(name=str(folder)))).quantization is None


def test_kept_modules_are_folded_only_where_the_star_names_no_other(folder: Path) -> None:
    choice = ModelChoice(name=str(folder), quantization="8bit", skip_modules=("model.decoder.layers.1.fc2", "**.fc1"))
    found = inspect(TreeQuery(model=choice)).quantization
    assert found is not None
    assert set(found.kept) == {"model.decoder.layers.*.fc1", "model.decoder.layers.1.fc2", "lm_head"}


@pytest.mark.parametrize("skipped", [(), ("lm_head",)])
def test_modules_are_chosen_as_transformers_chooses_before_it_ties_weights(
    skipped: tuple[str, ...], tmp_path: Path
) -> None:
    """gemma3n's tied parameters would keep its last module from 8 bits, were the model tied already."""
    folder = save_tiny("gemma3n_text", tmp_path)
    report = inspect(TreeQuery(model=ModelChoice(name=str(folder), quantization="8bit", skip_modules=skipped)))
    plain = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=BitsAndBytesConfig(load_in_8bit=True), device_map="cpu"
    )
    assert report.quantization is not None
    assert report.quantization.kept == ["lm_head"]
    eight = {path for path, module in plain.named_modules() if type(module).__name__ == "Linear8bitLt"}
    assert {each.name for each in report.modules if each.class_ == "Linear8bitLt"} == eight


def test_a_table_of_integers_beside_a_weight_is_no_quantization() -> None:
    router = nn.Linear(8, 4)
    router.register_buffer("experts_of_token", torch.zeros(16, 2, dtype=torch.int64))
    model = nn.Sequential(router, nn.Linear(4, 4))
    assert record.record(model, matrices.matrices(model), "8bit", dequantized=False).quantized == 0


def test_nothing_to_quantize_is_an_error(folder: Path, run_cli: Run) -> None:
    result = run_cli("embed", "hi", "-m", str(folder), "--8bit", "--skip-module", "**")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--skip-module '**' leaves nothing to quantize: omit it or --8bit" in result.stderr


def test_a_model_without_linear_layers_cannot_be_quantized(tmp_path: Path, run_cli: Run) -> None:
    """Falcon multiplies by matrices in a class of its own, which bitsandbytes does not replace."""
    falcon = save_tiny("falcon", tmp_path / "falcon")
    result = run_cli("embed", "hi", "-m", falcon, "--8bit", "--skip-module", "lm_head")
    assert (result.exit_code, result.stdout) == (2, "")
    result = run_cli("embed", "hi", "-m", falcon, "--8bit")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "--8bit can quantize nothing here" in result.stderr
    assert "--dtype bfloat16" in result.stderr


# Usage


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--int8-threshold", "3"), ("--int8-threshold", "add --8bit")),
        (("--4bit", "--int8-threshold", "3"), ("--int8-threshold", "add --8bit")),
        (("--8bit", "--int8-threshold", "-1"), ("-1.0", "0 (none)")),
        (("--8bit", "--int8-threshold", "nan"), ("nan", "0 (none)")),
        (("--4bit-type", "fp4"), ("--4bit-type", "add --4bit")),
        (("--8bit", "--double-quant"), ("--double-quant", "add --4bit")),
        (("--skip-module", "fc1"), ("--skip-module", "--8bit or --4bit")),
        (("--8bit", "--skip-module", "fc7"), ("'fc7'", "did you mean")),
        (("--8bit", "--dtype", "float32"), ("--dtype float32", "half precision")),
        (("--device", "cpu", "--device-map", "auto"), ("--device cpu", "--device-map auto", "give one of them")),
    ],
)
def test_wrong_usage_is_a_sentence(arguments: tuple[str, ...], words: tuple[str, ...], opt: Path, run_cli: Run) -> None:
    result = run_cli("embed", "hi", "-m", str(opt), *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("txinspect: ")
    assert result.stderr.count("\n") == 1
    assert all(word in result.stderr for word in words), result.stderr


def test_the_python_door_refuses_too() -> None:
    with pytest.raises(UsageError, match=r"skip_modules .fc1. is not a tuple: give \(.fc1.,\)"):
        ModelChoice(quantization="8bit", skip_modules="fc1")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="four_bit_type 'int4' is unknown: give nf4 or fp4"):
        ModelChoice(quantization="4bit", four_bit_type="int4")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="loads no weights"):
        PlanQuery(of=TreeQuery())  # type: ignore[arg-type]


def test_bitsandbytes_that_cannot_work_is_one_sentence(opt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.integrations import bitsandbytes

    def fail(**_: Any) -> None:
        raise RuntimeError("no kernel image for this device")

    monkeypatch.setattr(bitsandbytes, "validate_bnb_backend_availability", fail)
    with pytest.raises(
        InspectError, match="quantization='8bit' does not work here: bitsandbytes says 'no kernel image"
    ):
        run(opt, "logits", quantization="8bit")


def test_a_package_that_was_removed_is_named(opt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(InspectError, match=r"quantization='4bit' does not work here: bitsandbytes says .*bitsandbytes"):
        run(opt, "logits", quantization="4bit")


@pytest.mark.parametrize(
    ("inputs", "outputs", "packs", "said"),
    [
        (96, 64, False, "input width is a multiple of 64, and 0 has 96"),
        (64, 20, True, "output width is a multiple of 32, and 0 has 20"),
        (64, 20, False, None),
        (64, 32, True, None),
    ],
)
def test_widths_that_4bit_cannot_run(inputs: int, outputs: int, packs: bool, said: str | None) -> None:
    from bitsandbytes.nn.modules import Linear4bit

    layer: Any = Linear4bit(inputs, outputs)
    layer.support_avx512bf16_for_cpu = packs
    model: Any = nn.Sequential(layer)
    choice = ModelChoice(quantization="4bit")
    if said is None:
        bitsandbytes.check_widths(model, choice, {"": True, "0": True})
        return
    with pytest.raises(InspectError, match=f"{said}: use quantization='8bit', skip_modules=\\('0',\\) or a GPU"):
        bitsandbytes.check_widths(model, choice, {"": True, "0": True})
    with pytest.raises(InspectError, match=f"{said}: use a GPU"):
        bitsandbytes.check_widths(model, ModelChoice(), {"": True, "0": True})
    bitsandbytes.check_widths(model, choice, {"": True, "0": False})


def test_a_plan_knows_of_widths_that_4bit_cannot_run(opt: Path, run_cli: Run) -> None:
    assert run_cli("embed", "hi", "-m", str(opt), "--4bit", "--dry-run").exit_code == 0, "no linear layer is used"
    result = run_cli("attn", "hi", "-m", str(opt), "--4bit", "--dry-run")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "fc2 has 96" in result.stderr


# Checkpoints that are stored quantized


def store(folder: Path, out: Path, quantization: dict[str, Any], tensors: dict[str, Tensor], dtype: str) -> Path:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, out)
    config = json.loads((folder / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"quantization_config": quantization, "dtype": dtype}))
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    return out


def in_bitsandbytes(folder: Path, out: Path, **options: Any) -> Path:
    config = BitsAndBytesConfig(**options)
    AutoModelForCausalLM.from_pretrained(folder, quantization_config=config).save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, out)
    return out


def in_fp8(folder: Path, out: Path) -> Path:
    """DeepSeek's kind: a scale for each block of 128 by 128."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        tensors[name] = tensor.bfloat16()
        if tensor.ndim == 2 and ".layers." in name:
            rows, columns = tensor.shape
            blocks = tensor.reshape(rows // 128, 128, columns // 128, 128)
            scale = blocks.abs().amax((1, 3)) / 448
            tensors[name] = (blocks / scale[:, None, :, None]).reshape(rows, columns).to(torch.float8_e4m3fn)
            tensors[f"{name}_scale_inv"] = scale
    quantization = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
    return store(folder, out, quantization, tensors, "bfloat16")


def in_compressed_tensors(folder: Path, out: Path) -> Path:
    """int8 with a scale for each row."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        tensors[name] = tensor
        if tensor.ndim == 2 and ".layers." in name:
            scale = tensor.abs().amax(1, keepdim=True) / 127
            tensors |= {name: (tensor / scale).round().to(torch.int8), f"{name}_scale": scale}
    weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None, "format": "int-quantized"}
    quantization = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": group},
    }
    return store(folder, out, quantization, tensors, "float32")


STORED: dict[str, Callable[[Path, Path], Path]] = {
    "8bit": lambda folder, out: in_bitsandbytes(folder, out, load_in_8bit=True),
    "4bit": lambda folder, out: in_bitsandbytes(
        folder, out, load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    ),
    "fp8": in_fp8,
    "compressed-tensors": in_compressed_tensors,
}
METHODS = {"8bit": "bitsandbytes", "4bit": "bitsandbytes"}


@pytest.mark.parametrize("kind", STORED)
def test_stored_quantizations_load_as_they_are(kind: str, folder: Path, tmp_path: Path) -> None:
    out = STORED[kind](folder, tmp_path)
    report = run(out, "layers.0.output", "logits")
    assert torch.equal(logits(report), plain_logits(out, report))
    assert run(out, "layers.0.output").tensors[0].values == report.tensors[0].values
    assert report.model.quantization == METHODS.get(kind, kind)
    found = report.quantization
    assert found is not None
    assert (found.quantized, found.dequantized) == ((0, True) if kind == "fp8" else (18, False))
    assert inspect(TreeQuery(model=ModelChoice(name=str(out)))).quantization == found


@pytest.mark.parametrize("kind", ["8bit", "4bit", "fp8"])
def test_stored_quantizations_are_read_in_part(kind: str, folder: Path, tmp_path: Path) -> None:
    out = STORED[kind](folder, tmp_path)
    part, whole = run(out, "layers.0.output").loading, run(out, "logits").loading
    assert part.disk_bytes is not None
    assert whole.disk_bytes is not None
    assert part.disk_bytes < 0.75 * whole.disk_bytes
    assert part.modules_guessed is None


def test_quantizing_what_is_quantized(folder: Path, tmp_path: Path) -> None:
    out = STORED["8bit"](folder, tmp_path)
    with pytest.raises(UsageError, match="already stored quantized with bitsandbytes: omit quantization='4bit'"):
        run(out, "logits", quantization="4bit")


@pytest.mark.parametrize(
    ("method", "packages"),
    [("gptq", "optimum gptqmodel"), ("awq", "gptqmodel"), ("compressed-tensors", "compressed-tensors"), ("hqq", "hqq")],
)
def test_a_package_for_a_stored_quantization_is_named(
    method: str, packages: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = store(folder, tmp_path, {"quant_method": method, "bits": 4, "group_size": 128}, {}, "float16")
    monkeypatch.setattr(stored, "is_installed", lambda _: False)
    needed = f"stored quantized with {method}.*'pip install {packages}'"
    with pytest.raises(SourceError, match=needed):
        inspect(EmbedQuery(model=ModelChoice(name=str(out))))
    assert any(re.search(needed, note) for note in inspect(TreeQuery(model=ModelChoice(name=str(out)))).notes)
