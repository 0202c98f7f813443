"""The module tree against real models: sums, ties, and the bytes of weights that bitsandbytes really quantized."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, OPTConfig, OPTForCausalLM

from tests.making.checkpoints import VARIANTS, write_opt
from tests.making.models import save_tiny
from txinspect.commands.tree import ModuleRecord, TreeQuery, TreeReport
from txinspect.inspecting import inspect
from txinspect.loading.weights import sizes
from txinspect.model_choice import ModelChoice, Quantization

OPT_SIZES: dict[int, dict[str, Any]] = {
    125_239_296: {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "ffn_dim": 3072},
    1_315_758_080: {"hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32, "ffn_dim": 8192},
    331_196_416: {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "ffn_dim": 4096,
        "word_embed_proj_dim": 512,
        "do_layer_norm_before": False,
    },
}
"""Unique parameters of opt-125m, opt-1.3b and opt-350m, and their configs."""

QUANTIZED: dict[str, Quantization] = {"Linear8bitLt": "8bit", "Linear4bit": "4bit"}


def asked(folder: Path, quantization: Quantization | None = None, **choice: Any) -> TreeReport:
    return inspect(TreeQuery(model=ModelChoice(name=str(folder), quantization=quantization, **choice)))


def plain(folder: Path, **options: Any) -> nn.Module:
    model: nn.Module = AutoModelForCausalLM.from_pretrained(folder, **options)
    return model


def quantized(folder: Path, kind: Quantization, **options: Any) -> nn.Module:
    config = BitsAndBytesConfig(load_in_8bit=kind == "8bit", load_in_4bit=kind == "4bit", bnb_4bit_quant_type="nf4")
    return plain(folder, quantization_config=config, device_map={"": "cpu"}, **options)


def unique(tensors: Iterator[nn.Parameter]) -> dict[int, nn.Parameter]:
    return {id(tensor): tensor for tensor in tensors}


def quantized_bytes(model: nn.Module) -> int:
    """What a quantized model's parameters and their scales take in memory."""
    total = sum(parameter.nbytes for parameter in unique(model.parameters()).values())
    for module in model.modules():
        weight: Any = getattr(module, "weight", None)
        if type(module).__name__ == "Linear8bitLt":
            assert weight.dtype == torch.int8
            total += weight.SCB.nbytes
        elif type(module).__name__ == "Linear4bit":
            assert weight.dtype == torch.uint8
            total += weight.quant_state.absmax.nbytes
    return total


@pytest.fixture(params=VARIANTS)
def folder(request: pytest.FixtureRequest, opt_variant: Callable[[str], Path]) -> Path:
    """Each of OPT's variants."""
    return opt_variant(request.param)


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1", b"\x04" + bytes(7) + b"null", b""])
def test_damaged_weights_are_a_note(content: bytes, opt: Path, tmp_path: Path) -> None:
    """The config is enough for a tree."""
    (tmp_path / "config.json").write_bytes((opt / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(content)
    report = asked(tmp_path)
    assert report.totals == asked(opt).totals
    assert any("Types and sizes are those of config.json" in note for note in report.notes)


def test_matrices_that_are_stored_turned(tmp_path: Path) -> None:
    """GPT-2's Conv1D holds (in, out): its scales in 8 bits are one for each output."""
    save_tiny("gpt2", tmp_path)
    assert asked(tmp_path).totals.bytes_8bit == quantized_bytes(quantized(tmp_path, "8bit"))


def test_every_module_and_parameter(folder: Path) -> None:
    model, report = plain(folder), asked(folder)
    assert [(record.name, record.class_) for record in report.modules] == [
        (name, type(module).__name__) for name, module in model.named_modules()
    ]
    for record in report.modules:
        module = model.get_submodule(record.name)
        found = [(one.name, one.shape, one.dtype, one.numel, one.bytes) for one in record.parameters]
        assert found == [
            (name, list(tensor.shape), str(tensor.dtype).removeprefix("torch."), tensor.numel(), tensor.nbytes)
            for name, tensor in module.named_parameters(recurse=False)
        ]
        assert record.depth == (record.name.count(".") + 1 if record.name else 0)


def test_totals_are_the_unique_parameters(folder: Path) -> None:
    parameters = unique(plain(folder).parameters()).values()
    report = asked(folder)
    assert report.totals.numel == sum(tensor.numel() for tensor in parameters) == report.model.num_parameters
    assert report.totals.bytes == sum(tensor.nbytes for tensor in parameters)
    assert (report.modules[0].numel, report.modules[0].bytes) == (report.totals.numel, report.totals.bytes)


@pytest.mark.parametrize("kind", [None, "8bit", "4bit"])
def test_a_module_is_the_sum_of_itself_and_its_children(kind: Quantization | None, folder: Path) -> None:
    """What is tied counts once in each module that holds it: in the head, and not again in the model."""
    report = asked(folder, kind)
    by_name = {record.name: record for record in report.modules}
    tied = {f"{record.name}.{one.name}": one for record in report.modules for one in record.parameters if one.tied_to}
    for record in report.modules:
        children = [other for other in report.modules if other.name and _parent(other) == record.name]
        twice = [one for name, one in tied.items() if _both_inside(record, name, str(one.tied_to), by_name)]
        for quantity in ("numel", "bytes"):
            parts = [*record.parameters, *children]
            wanted = sum(getattr(part, quantity) for part in parts) - sum(getattr(one, quantity) for one in twice)
            assert getattr(record, quantity) == wanted, (record.name, quantity)


def _parent(record: ModuleRecord) -> str:
    return record.name.rpartition(".")[0]


def _both_inside(record: ModuleRecord, one: str, other: str, by_name: dict[str, ModuleRecord]) -> bool:
    """Whether a module is the lowest that holds two tied parameters, so that its parts count them twice."""
    prefixes = [name for name in by_name if all(path.startswith(f"{name}." if name else "") for path in (one, other))]
    return record.name == max(prefixes, key=len)


@pytest.mark.parametrize(("variant", "owner"), [("pre_norm", "model.decoder.embed_tokens.weight"), ("untied", None)])
def test_tied_parameters_name_their_owner(variant: str, owner: str | None, opt_variant: Callable[[str], Path]) -> None:
    report = asked(opt_variant(variant))
    ties = {f"{record.name}.{one.name}": one.tied_to for record in report.modules for one in record.parameters}
    assert ties.pop("lm_head.weight") == owner
    assert set(ties.values()) == {None}


@pytest.mark.parametrize("count", OPT_SIZES)
def test_opt_of_full_size_has_its_published_count(count: int, tmp_path: Path) -> None:
    """From the config alone: no weight file is there, and nothing of the model's size is allocated."""
    OPTConfig(**OPT_SIZES[count], dtype="float16").save_pretrained(tmp_path)
    report = asked(tmp_path)
    assert report.totals.numel == report.model.num_parameters == count
    assert report.totals.bytes == 2 * count
    assert report.model.device == "meta"


@pytest.mark.parametrize("kind", [None, "8bit", "4bit"])
def test_the_tree_allocates_no_weights(kind: Quantization | None, tmp_path: Path) -> None:
    """A model of 4 TB: it could be nowhere but on the meta device."""
    OPTConfig(**OPT_SIZES[1_315_758_080] | {"hidden_size": 131_072, "ffn_dim": 524_288}).save_pretrained(tmp_path)
    assert asked(tmp_path, kind).totals.numel > 10**12


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_bytes_follow_the_asked_dtype(dtype: str, opt: Path) -> None:
    report = asked(opt, dtype=dtype)
    assert report.model.dtype == dtype
    assert {one.dtype for record in report.modules for one in record.parameters} == {dtype}
    assert report.totals.bytes == report.totals.numel * (4 if dtype == "float32" else 2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_bytes_follow_the_stored_dtype(dtype: str, tmp_path: Path) -> None:
    write_opt(tmp_path, dtype=getattr(torch, dtype))
    OPTForCausalLM.from_pretrained(tmp_path, dtype=getattr(torch, dtype)).save_pretrained(tmp_path)
    assert asked(tmp_path).totals.bytes == 2 * asked(tmp_path).totals.numel


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_bytes_are_those_of_really_quantized_weights(kind: Quantization, folder: Path) -> None:
    model, report = quantized(folder, kind), asked(folder)
    assert getattr(report.totals, f"bytes_{kind}") == quantized_bytes(model)
    assert report.totals.linear_modules == sum(type(module).__name__ in QUANTIZED for module in model.modules())


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_the_quantized_tree_is_the_quantized_models(kind: Quantization, folder: Path) -> None:
    model, report = quantized(folder, kind), asked(folder, kind)
    classes = {name: type(module).__name__ for name, module in model.named_modules()}
    assert {record.name: record.class_ for record in report.modules} == classes
    assert next(name for name, made in QUANTIZED.items() if made == kind) in classes.values()
    assert report.model.quantization == kind
    assert report.modules[0].bytes == quantized_bytes(model) == getattr(report.totals, f"bytes_{kind}")
    assert report.totals == asked(folder).totals, "totals tell of the model as stored"
    found = report.quantization
    assert found is not None
    assert (found.method, found.quantized, found.kept) == (kind, report.totals.linear_modules, ["lm_head"])
    assert found.modules == found.quantized + 1
    assert f"{kind}: {found.quantized} of {found.modules} weight matrices are quantized" in report.notes[-1]


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_every_quantized_module_has_its_own_bytes(kind: Quantization, folder: Path) -> None:
    """One by one: in a sum, the scales of fc1's many rows could hide behind those of fc2's few."""
    model, report = quantized(folder, kind), asked(folder, kind)
    for record in report.modules:
        if record.class_ in QUANTIZED:
            assert record.bytes == quantized_bytes(model.get_submodule(record.name)), record.name


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_a_quantized_weight_keeps_its_shape_in_the_tree(kind: Quantization, opt: Path) -> None:
    records = {record.name: record for record in asked(opt, kind).modules}
    weight, bias = records["model.decoder.layers.0.fc1"].parameters
    assert (weight.shape, weight.numel, weight.dtype) == ([96, 64], 96 * 64, "int8" if kind == "8bit" else "nf4")
    assert bias.dtype == "float32"


@pytest.mark.parametrize("numel", [1, 63, 64, 65, 127, 4095, 4096, 4097])
def test_bytes_of_weights_that_fill_no_whole_block(numel: int) -> None:
    """Against bitsandbytes itself: a block of 64 weights is stored whole or in part, with one scale."""
    from bitsandbytes.functional import quantize_4bit

    weight = torch.randn(numel, 1)
    packed, state = quantize_4bit(weight, blocksize=sizes.BLOCK_4BIT)
    assert sizes.bytes_4bit(weight) == packed.nbytes + state.absmax.nbytes


def test_a_half_precision_model_quantizes_to_the_same_linear_bytes(tmp_path: Path) -> None:
    write_opt(tmp_path / "single")
    OPTForCausalLM.from_pretrained(tmp_path / "single", dtype=torch.float16).save_pretrained(tmp_path / "half")
    for kind in QUANTIZED.values():
        model = quantized(tmp_path / "half", kind, dtype="auto")
        assert getattr(asked(tmp_path / "half").totals, f"bytes_{kind}") == quantized_bytes(model)
