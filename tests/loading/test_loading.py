"""Every way of storing a model, and every type to compute in, against plain from_pretrained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel

from tests.making.checkpoints import VARIANTS, write_opt
from txinspect.commands.embed import EmbedQuery
from txinspect.commands.run import RunQuery
from txinspect.errors import InspectError, SourceError, StageError, UsageError
from txinspect.inspecting import inspect
from txinspect.loading import config, skeleton, uses
from txinspect.loading.subject import load_subject
from txinspect.loading.task import Task
from txinspect.loading.weights import partial
from txinspect.loading.weights.ties import Ties
from txinspect.model_choice import DType, ModelChoice, Quantization
from txinspect.records import TensorsReport
from txinspect.sources.resolving import resolve
from txinspect.texts.opened import Opened

TEXT = "naïve fox"


def asked(folder: Path, **choice: Any) -> TensorsReport:
    model = ModelChoice(name=str(folder), **choice)
    return inspect(RunQuery(model=model, text=TEXT, stages=("layers.1.output", "logits"), values=True))


def loaded(choice: ModelChoice) -> PreTrainedModel:
    """The whole model."""
    subject = load_subject(Opened(choice), lambda _: None)
    return partial.load(subject, choice, uses.of_all_modules(subject).modules).model


def logits(report: TensorsReport) -> Tensor:
    record = report.tensors[-1]
    assert record.name == "logits"
    return torch.tensor(record.values, dtype=torch.float64).to(getattr(torch, record.dtype))


def plain_logits(folder: Path, **options: Any) -> Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, **options).eval()
    with torch.no_grad():
        found: Tensor = model(**AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt")).logits
    return found


def copied(folder: Path, to: Path) -> Path:
    """Config and tokenizer of a model, without its weights."""
    to.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.json"):
        shutil.copy(file, to)
    return to


def state(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def as_safetensors(folder: Path, to: Path) -> None:
    save_file(state(folder), to / "model.safetensors", {"format": "pt"})


def as_shards(folder: Path, to: Path) -> None:
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(to, max_shard_size="100KB")
    assert len(list(to.glob("model-*.safetensors"))) > 1
    assert not (to / "model.safetensors").exists()


def as_bin(folder: Path, to: Path) -> None:
    """As OPT on the Hub: a state dict with model.decoder.… and no head of its own."""
    weights = state(folder)
    assert "lm_head.weight" not in weights or "untied" in str(folder)
    torch.save(weights, to / "pytorch_model.bin")


def as_bin_without_prefix(folder: Path, to: Path) -> None:
    """As the older OPT checkpoints: saved from OPTModel, so that names begin with decoder."""
    torch.save({name.removeprefix("model."): one for name, one in state(folder).items()}, to / "pytorch_model.bin")


def as_old_bin(folder: Path, to: Path) -> None:
    """The format before torch 1.6, which is no zip archive and cannot be mapped."""
    torch.save(state(folder), to / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def as_bin_shards(folder: Path, to: Path) -> None:
    weights = state(folder)
    names = sorted(weights)
    halves = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for file, part in halves.items():
        torch.save({name: weights[name] for name in part}, to / file)
    weight_map = {name: file for file, part in halves.items() for name in part}
    index = {"metadata": {"total_size": sum(one.nbytes for one in weights.values())}, "weight_map": weight_map}
    (to / "pytorch_model.bin.index.json").write_text(json.dumps(index))


STORED: dict[str, Callable[[Path, Path], None]] = {
    "safetensors": as_safetensors,
    "shards": as_shards,
    "bin": as_bin,
    "bin_without_prefix": as_bin_without_prefix,
    "old_bin": as_old_bin,
    "bin_shards": as_bin_shards,
}


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("variant", ["pre_norm", "opt_350m"])
def test_every_way_to_store_weights(
    stored: str, variant: str, opt_variant: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copied(opt_variant(variant), tmp_path / "model")
    STORED[stored](opt_variant(variant), folder)
    found = logits(asked(folder))
    assert torch.equal(found, plain_logits(folder))
    assert torch.equal(found, plain_logits(opt_variant(variant)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_as_bin(variant: str, opt_variant: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copied(opt_variant(variant), tmp_path / variant)
    as_bin(opt_variant(variant), folder)
    assert torch.equal(logits(asked(folder)), plain_logits(opt_variant(variant)))


def test_safetensors_come_before_bin(opt: Path, tmp_path: Path) -> None:
    folder = copied(opt, tmp_path / "model")
    as_safetensors(opt, folder)
    torch.save({name: one * 0 for name, one in state(opt).items()}, folder / "pytorch_model.bin")
    assert torch.equal(logits(asked(folder)), plain_logits(opt))


@pytest.mark.parametrize("stored", ["safetensors", "bin"])
def test_weights_on_the_cpu_are_mapped(stored: str, opt: Path, tmp_path: Path) -> None:
    """A page of a mapped file is read when it is first used: weights lie in the file, not in memory of their own."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("only Linux lists the mapped files of a process")
    folder = copied(opt, tmp_path / "model")
    STORED[stored](opt, folder)
    choice = ModelChoice(name=str(folder))
    model = loaded(choice)
    ranges = []
    for line in maps.read_text().splitlines():
        if str(folder) in line:
            low, high = line.split(maxsplit=1)[0].split("-")
            ranges.append((int(low, 16), int(high, 16)))
    for name, parameter in model.named_parameters():
        assert any(low <= parameter.data_ptr() < high for low, high in ranges), name


# --- types ---


@pytest.mark.parametrize("dtype", ["auto", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
def test_every_type_to_compute_in(dtype: DType, stored: str, tmp_path: Path) -> None:
    write_opt(tmp_path)
    AutoModelForCausalLM.from_pretrained(tmp_path, dtype=getattr(torch, stored)).save_pretrained(tmp_path)
    report = asked(tmp_path, dtype=dtype)
    wanted = stored if dtype == "auto" else dtype
    assert report.model.dtype == report.tensors[-1].dtype == wanted
    assert torch.equal(
        logits(report), plain_logits(tmp_path, dtype="auto" if dtype == "auto" else getattr(torch, dtype))
    )


def test_a_config_that_names_no_type(opt: Path, tmp_path: Path) -> None:
    """Then the weights themselves decide."""
    folder = copied(opt, tmp_path / "model")
    save_file({name: one.half() for name, one in state(opt).items()}, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    del config["dtype"]
    (folder / "config.json").write_text(json.dumps(config))
    report = asked(folder)
    assert report.model.dtype == "float16"
    assert torch.equal(logits(report), plain_logits(folder, dtype="auto"))


@pytest.fixture(scope="module")
def quantizable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose widths are whole blocks of 64, which bitsandbytes' 4-bit product on the CPU asks for."""
    return write_opt(tmp_path_factory.mktemp("quantizable"), ffn_dim=128)


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
@pytest.mark.parametrize("dtype", ["auto", "float16", "bfloat16"])
def test_quantized_on_the_cpu(kind: Quantization, dtype: DType, quantizable: Path) -> None:
    config = BitsAndBytesConfig(load_in_8bit=kind == "8bit", load_in_4bit=kind == "4bit", bnb_4bit_quant_type="nf4")
    wanted = plain_logits(
        quantizable,
        quantization_config=config,
        device_map={"": "cpu"},
        dtype="auto" if dtype == "auto" else getattr(torch, dtype),
    )
    report = asked(quantizable, quantization=kind, dtype=dtype)
    assert report.model.quantization == kind
    assert torch.equal(logits(report), wanted)
    assert not torch.equal(wanted.float(), plain_logits(quantizable)), "quantizing changes something"


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_every_stage_of_a_quantized_model(kind: Quantization, quantizable: Path) -> None:
    choice = ModelChoice(name=str(quantizable), quantization=kind)
    report = inspect(RunQuery(model=choice, text=TEXT, stages=("**",)))
    classes = {record.class_ for record in report.tensors}
    assert {"8bit": "Linear8bitLt", "4bit": "Linear4bit"}[kind] in classes
    assert not [record.name for record in report.tensors if record.stats.nan]


def test_eight_bits_do_not_compute_in_float32(opt: Path) -> None:
    with pytest.raises(UsageError, match="quantization='8bit' computes in half precision"):
        asked(opt, quantization="8bit", dtype="float32")


@pytest.mark.parametrize("device_map", ["auto", "cpu"])
def test_a_placement_by_accelerate(device_map: str, opt: Path) -> None:
    assert torch.equal(logits(asked(opt, device_map=device_map)), plain_logits(opt))


# --- the skeleton ---


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_skeleton_is_the_model_without_weights(variant: str, opt_variant: Callable[[str], Path]) -> None:
    choice = ModelChoice(name=str(opt_variant(variant)))
    source = resolve(choice)
    loaded_config = config.load_config(source, choice)
    built = skeleton.build(source, choice, loaded_config, Task("causal-lm", "OPTForCausalLM"), Ties(source).tie)
    model = loaded(choice)
    assert [name for name, _ in built.named_modules()] == [name for name, _ in model.named_modules()]
    for (name, empty), (_, full) in zip(built.named_parameters(), model.named_parameters(), strict=True):
        assert (empty.shape, empty.dtype, empty.device.type) == (full.shape, full.dtype, "meta"), name
    assert not built.training
    assert not model.training


# --- what does not fit ---


def broken(opt: Path, tmp_path: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    folder = copied(opt, tmp_path / "broken")
    weights = state(opt)
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


FC1 = "model.decoder.layers.0.fc1.weight"


def test_a_missing_tensor(opt: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=rf"the checkpoint of .* lacks {FC1}: it is incomplete"):
        asked(broken(opt, tmp_path, lambda weights: weights.pop(FC1)))


def test_a_missing_head_that_is_not_tied(opt_variant: Callable[[str], Path], tmp_path: Path) -> None:
    """What has no head is the bare model: all but the logits is there, unless a task was asked for."""
    model = broken(opt_variant("untied"), tmp_path, lambda weights: weights.pop("lm_head.weight"))
    choice = ModelChoice(name=str(model))
    report = inspect(RunQuery(model=choice, text="hi", stages=("layers.0.output", "final_norm")))
    assert report.model.class_ == "OPTModel"
    note = "The checkpoint has no head, as OPTForCausalLM would: it is loaded as the bare model, OPTModel."
    assert note in report.notes
    with pytest.raises(StageError, match="loaded as the bare model, OPTModel, which has no head"):
        inspect(RunQuery(model=choice, text="hi", stages=("logits",)))
    with pytest.raises(SourceError, match=r"lacks lm_head\.weight"):
        inspect(RunQuery(model=replace(choice, task="causal-lm"), text="hi", stages=("logits",)))


def test_a_tensor_of_another_shape(opt: Path, tmp_path: Path) -> None:
    def change(weights: dict[str, Tensor]) -> None:
        weights[FC1] = weights[FC1][:, :32].contiguous()

    with pytest.raises(
        SourceError, match=rf"{FC1} is \[96, 32\] in the checkpoint and \[96, 64\] according to the config"
    ):
        asked(broken(opt, tmp_path, change))


def test_a_tensor_that_no_module_has_is_left_alone(opt: Path, tmp_path: Path) -> None:
    folder = broken(opt, tmp_path, lambda weights: weights.update(extra=torch.ones(3)))
    assert torch.equal(logits(asked(folder)), plain_logits(opt))


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is said without CUDA")
@pytest.mark.parametrize("field", ["device", "device_map"])
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_device_that_is_not_there(field: str, device: str, opt: Path) -> None:
    where: dict[str, Any] = {field: device}
    choice = ModelChoice(name=str(opt), **where)
    with pytest.raises(InspectError, match=f"device '{device}' is unavailable: .*; use {field}='cpu'"):
        inspect(EmbedQuery(model=choice, text="hi"))
