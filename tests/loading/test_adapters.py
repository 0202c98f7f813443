"""PEFT adapters: what comes out is what peft's own loading gives, and what does not fit is one sentence."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, PromptTuningConfig, VeraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from typer.testing import Result

from txinspect.commands.attn import AttnQuery
from txinspect.commands.plan import PlanQuery
from txinspect.commands.run import RunQuery
from txinspect.commands.tree import TreeQuery
from txinspect.inspecting import inspect
from txinspect.model_choice import ModelChoice

Run = Callable[..., Result]


@pytest.fixture
def adapter(opt: Path, tmp_path: Path) -> Path:
    """A LoRA on q and v of every layer, with weights that change something."""
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(opt), LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    )
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter"


def written(config: PeftConfig, base: Path, folder: Path) -> Path:
    """An adapter of any kind with weights that change something."""
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(str(folder))
    return folder


KINDS: dict[str, PeftConfig] = {
    "lora": LoraConfig(r=4, target_modules=["q_proj", "v_proj"]),
    "lora of embeddings and the head": LoraConfig(r=4, target_modules=["embed_tokens"], modules_to_save=["lm_head"]),
    "dora": LoraConfig(r=4, target_modules=["q_proj", "fc1"], use_dora=True),
    "ia3": IA3Config(target_modules=["k_proj", "fc2"], feedforward_modules=["fc2"]),
    "vera": VeraConfig(r=4, target_modules=["q_proj"]),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_what_peft_gives(kind: str, dtype: Any, opt: Path, tmp_path: Path) -> None:
    folder = written(KINDS[kind], opt, tmp_path / "adapter")
    choice = ModelChoice(name=str(folder), dtype=dtype)
    query = RunQuery(model=choice, text="fox", stages=("layers.0.output", "logits"), values=True)
    report = inspect(query)
    base = AutoModelForCausalLM.from_pretrained(opt, dtype=getattr(torch, dtype))
    with torch.no_grad():
        wanted = PeftModel.from_pretrained(base, str(folder)).eval()(input_ids=torch.tensor(report.input.input_ids))
    assert torch.equal(torch.tensor(report.tensors[-1].values), wanted.logits.float())
    first = RunQuery(model=choice, text="fox", stages=("layers.0.output",), values=True)
    part = inspect(first)
    assert part.tensors[0].values == report.tensors[0].values
    assert inspect(PlanQuery(of=first)).loading.memory_bytes == part.loading.memory_bytes
    assert (part.loading.modules_guessed is not None) == (kind == "vera")


def test_what_replaces_no_modules_is_a_sentence(opt: Path, tmp_path: Path, run_cli: Run) -> None:
    folder = written(PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"), opt, tmp_path / "adapter")
    result = run_cli("embed", "hi", "-m", str(folder))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "of type PROMPT_TUNING, which replaces no modules" in result.stderr


def test_a_dora_on_a_quantized_base_is_a_sentence(opt: Path, tmp_path: Path, run_cli: Run) -> None:
    folder = written(KINDS["dora"], opt, tmp_path / "adapter")
    result = run_cli("embed", "hi", "-m", str(folder), "--8bit")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is a DoRA" in result.stderr


def change(adapter: Path, **values: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_it_is_on_its_base(adapter: Path, opt: Path) -> None:
    query = RunQuery(
        model=ModelChoice(name=str(adapter)), text="fox", stages=("layers.0.output", "logits"), values=True
    )
    report = inspect(query)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(opt), str(adapter)).eval()
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor(report.input.input_ids)).logits
    assert torch.equal(torch.tensor(report.tensors[-1].values), wanted)
    assert report.model.name == str(adapter)
    assert f"The adapter {adapter} is applied to {opt}." in report.notes
    part = inspect(RunQuery(model=query.model, text="fox", stages=("layers.0.output",), values=True))
    assert part.tensors[0].values == report.tensors[0].values
    assert [Path(file.path).name for file in part.loading.files] == ["model.safetensors", "adapter_model.safetensors"]
    assert part.loading.disk_bytes is not None
    assert report.loading.disk_bytes is not None
    assert part.loading.disk_bytes < report.loading.disk_bytes


def test_its_modules_are_in_the_tree_and_can_be_asked_for(adapter: Path) -> None:
    choice = ModelChoice(name=str(adapter))
    tree = inspect(TreeQuery(model=choice))
    path = "model.decoder.layers.1.self_attn.q_proj.lora_A.default"
    assert path in [module.name for module in tree.modules]
    assert tree.modules[0].numel == tree.totals.numel == tree.model.num_parameters
    report = inspect(RunQuery(model=choice, text="fox", stages=(path,)))
    assert report.tensors[0].shape[-1] == 4


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_it_is_on_a_quantized_base(kind: Any, opt: Path, adapter: Path) -> None:
    skipped = ("fc2",) if kind == "4bit" else ()  # 96 wide: 4 bits come in blocks of 64
    choice = ModelChoice(name=str(adapter), quantization=kind, skip_modules=skipped)
    report = inspect(AttnQuery(model=choice, text="fox", layer=0))
    assert report.quantization is not None
    assert report.quantization.quantized == (15 if skipped else 18)
    assert inspect(PlanQuery(of=AttnQuery(model=choice, text="fox"))).loading.files == report.loading.files


@pytest.mark.parametrize("around", [False, True], ids=["of another", "of itself"])
def test_an_adapter_on_an_adapter_is_a_sentence(around: bool, adapter: Path, tmp_path: Path, run_cli: Run) -> None:
    other = adapter if around else shutil.copytree(adapter, tmp_path / "other")
    change(adapter, base_model_name_or_path=str(other))
    result = run_cli("embed", "hi", "-m", str(adapter))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is itself an adapter" in result.stderr


def test_a_model_and_an_adapter_in_one_folder_is_a_sentence(adapter: Path, opt: Path, run_cli: Run) -> None:
    shutil.copytree(opt, adapter, dirs_exist_ok=True)
    for command in (("embed", "hi", "-m", str(adapter)), ("tree", str(adapter))):
        result = run_cli(*command)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "holds a model and an adapter" in result.stderr


def test_a_base_beside_it_is_found(adapter: Path, opt: Path) -> None:
    shutil.copytree(opt, adapter / "base")
    change(adapter, base_model_name_or_path="base")
    assert inspect(TreeQuery(model=ModelChoice(name=str(adapter)))).model.class_ == "OPTForCausalLM"


def test_what_peft_warns_of_is_not_said(adapter: Path, run_cli: Run) -> None:
    """Seen in a process, whose warnings go to standard error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for values in ({"loftq_config": {"loftq_bits": 4}}, {"of_a_later_version": 5, "another": {}}):
            change(adapter, **values)
            assert run_cli("tree", "-m", str(adapter)).exit_code == 0


BAD: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "no such base": ({"base_model_name_or_path": "/nowhere/base"}, ("base model", "cannot be found", "/nowhere/base")),
    "base on the Hub": ({"base_model_name_or_path": "team/base"}, ("'team/base'", "base model of the adapter")),
    "no base": ({"base_model_name_or_path": None}, ("names no base model",)),
    "another architecture": ({"target_modules": ["c_attn"]}, ("does not fit", "c_attn", "base_model_name_or_path")),
    "another size": ({"base_model_name_or_path": "opt-mini"}, ("does not fit", "[4, 64]", "[4, 128]")),
    "another rank": ({"r": 8}, ("does not fit", "[4, 64]", "[8, 64]")),
    "more modules": (
        {"target_modules": ["q_proj", "k_proj", "v_proj"]},
        ("does not fit", "lacks the tensor", "k_proj"),
    ),
    "fewer modules": ({"target_modules": ["q_proj"]}, ("does not fit", "v_proj", "no place")),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_a_sentence(name: str, adapter: Path, run_cli: Run) -> None:
    values, words = BAD[name]
    change(adapter, **values)
    result = run_cli("embed", "hi", "-m", str(adapter))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert all(word in result.stderr for word in words), result.stderr


def test_what_is_not_there_is_a_sentence(adapter: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "elsewhere")
    assert "has no weights" in run_cli("embed", "hi", "-m", str(adapter)).stderr
    (adapter / "adapter_config.json").write_text("[]")
    (adapter / "elsewhere").rename(adapter / "adapter_model.safetensors")
    assert (
        f"adapter_config.json of {str(adapter)!r} is not a JSON object"
        in run_cli("embed", "hi", "-m", str(adapter)).stderr
    )
    monkeypatch.setattr("txinspect.sources.resolving.find_spec", lambda _: None)
    assert "'pip install peft'" in run_cli("embed", "hi", "-m", str(adapter)).stderr
