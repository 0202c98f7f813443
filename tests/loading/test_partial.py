"""Loading what is used, and nothing else, in every precision: held against the whole model in plain transformers."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, core_model_loading

from tests.making.checkpoints import in_bin, sharded, sharded_bin, write_opt
from txinspect import answers
from txinspect.commands.attn import AttnQuery
from txinspect.commands.embed import EmbedQuery
from txinspect.commands.plan import PlanQuery
from txinspect.commands.run import RunQuery
from txinspect.commands.tokenize import TokenizeQuery
from txinspect.errors import SourceError
from txinspect.forward import rehearsal
from txinspect.forward.inputs import model_inputs
from txinspect.guards.quiet import quiet
from txinspect.inspecting import inspect
from txinspect.loading import cost, uses
from txinspect.loading.subject import Subject, load_subject
from txinspect.loading.weights import partial
from txinspect.model_choice import ModelChoice
from txinspect.queries import LESSON, TensorQuery
from txinspect.records import LoadingRecord, TensorsReport
from txinspect.texts.opened import Opened
from txinspect.texts.reading import encode

LAYERS = 24

PRECISIONS: dict[str, dict[str, Any]] = {
    "stored": {},
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "8bit": {"quantization": "8bit"},
    "4bit": {"quantization": "4bit"},
}
PLAIN: dict[str, dict[str, Any]] = {
    "stored": {},
    "float32": {"dtype": torch.float32},
    "bfloat16": {"dtype": torch.bfloat16},
    "8bit": {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)},
    "4bit": {"quantization_config": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")},
}
"""The same in plain transformers."""


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 layers in float16, as OPT-1.3b has, with a vocabulary that is small beside them."""
    shape = {"hidden_size": 64, "word_embed_proj_dim": 64, "ffn_dim": 256, "num_hidden_layers": LAYERS}
    folder = write_opt(tmp_path_factory.mktemp("deep"), **shape)
    halves = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(halves, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    return folder


def prepared(choice: ModelChoice, query: TensorQuery[Any]) -> tuple[Subject, uses.Uses]:
    opened = Opened(choice)
    text = encode(TokenizeQuery(text=LESSON), opened)
    subject = load_subject(opened, lambda _: None, len(text.tokens))
    with quiet():
        return subject, rehearsal.rehearse(
            subject,
            model_inputs(subject.as_configured, text),
            answers.module_of(query).questions(query)[0].plan(subject, text),
        )


def values(choice: ModelChoice, *stages: str) -> dict[str, Tensor]:
    report = inspect(RunQuery(model=choice, stages=stages, values=True))
    return {one.name: torch.tensor(one.values, dtype=torch.float64) for one in report.tensors}


def plain_outputs(folder: Path, ids: Tensor, **options: Any) -> dict[str, Tensor]:
    """Outputs of the layers and logits of the whole model, by ordinary hooks."""
    model = AutoModelForCausalLM.from_pretrained(folder, **options).eval()
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: Any, _args: Any, output: Any) -> None:
            seen[name] = (output[0] if isinstance(output, tuple) else output).detach().double()

        return hook

    for index, layer in enumerate(model.model.decoder.layers):
        layer.register_forward_hook(keep(f"layers.{index}.output"))
    with torch.no_grad():
        seen["logits"] = model(input_ids=ids).logits.double()
    return seen


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_part_gives_what_the_whole_gives(precision: str, deep: Path) -> None:
    choice = ModelChoice(name=str(deep), **PRECISIONS[precision])
    ids = torch.tensor(inspect(EmbedQuery(model=choice)).input.input_ids)
    wanted = plain_outputs(deep, ids, **PLAIN[precision])
    for stage in ("layers.0.output", "layers.3.output", "logits"):
        assert torch.equal(values(choice, stage)[stage], wanted[stage]), stage


@pytest.mark.parametrize("precision", PRECISIONS)
def test_layer_0_costs_at_most_a_sixth(precision: str, deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of disk, of memory, and of what passes through memory on the way: what is not used is never there."""
    choice = ModelChoice(name=str(deep), **PRECISIONS[precision])
    passed: list[int] = []
    original = core_model_loading._materialize_copy

    def counting(*arguments: Any, **options: Any) -> Tensor:
        tensor: Tensor = original(*arguments, **options)
        passed.append(tensor.nbytes)
        return tensor

    monkeypatch.setattr(core_model_loading, "_materialize_copy", counting)
    costs: list[tuple[int, int, int]] = []
    for query in (AttnQuery(layer=0), RunQuery(stages=("logits",))):
        passed.clear()
        subject, used = prepared(choice, query)
        loaded = partial.load(subject, choice, used.modules)
        found = cost.spent(subject, choice, used, loaded)
        assert found.disk_bytes is not None
        assert len(passed) == len(loaded.read)
        costs.append((found.disk_bytes, found.memory_bytes, sum(passed)))
    assert all(part <= whole / 6 for part, whole in zip(*costs, strict=True))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_memory_is_what_the_weights_take(precision: str, deep: Path) -> None:
    choice = ModelChoice(name=str(deep), **PRECISIONS[precision])
    subject, used = prepared(choice, RunQuery(stages=("layers.1.output",)))
    loaded = partial.load(subject, choice, used.modules)
    held = {id(tensor): tensor for tensor in loaded.model.parameters()}
    assert not any(tensor.is_meta for tensor in held.values())
    scales = 0
    for module in loaded.model.modules():
        weight: Any = getattr(module, "weight", None)
        if type(weight).__name__ == "Int8Params":
            scales += weight.SCB.nbytes
        elif type(weight).__name__ == "Params4bit":
            scales += weight.quant_state.absmax.nbytes
    found = cost.spent(subject, choice, used, loaded)
    assert found.memory_bytes == sum(tensor.nbytes for tensor in held.values()) + scales
    assert found.mapped == (precision == "stored")


def test_unused_weights_are_gone(deep: Path) -> None:
    choice = ModelChoice(name=str(deep))
    subject, used = prepared(choice, AttnQuery(layer=0))
    model = partial.load(subject, choice, used.modules).model
    assert model.get_submodule("model.decoder.layers.0.self_attn.q_proj").weight is not None
    assert model.get_submodule("model.decoder.layers.1.fc1").weight is None
    assert type(model) is type(subject.as_configured)


FRAGMENTS = """
import torch
from txinspect.loading.weights import partial

def anonymous():
    return int(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1]) // 1024

if {given_back}:
    partial._give_back_freed_blocks()
torch.ones(30 << 18)  # freed: from here on glibc keeps blocks of this size
before, kept = anonymous(), []
for count in range(40):
    large, smaller = torch.ones(16 << 18), torch.ones(12 << 18)
    kept.append(torch.ones((1 << 18) + 100 * count))
    del large, smaller
print(anonymous() - before)
"""
"""What quantizing does to memory: it keeps 40 blocks of 1 MB, and passes through larger ones between them."""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed blocks"
)
def test_what_quantizing_passes_through_is_given_back() -> None:
    megabytes = []
    for given_back in (True, False):
        code = FRAGMENTS.format(given_back=given_back)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
        megabytes.append(int(done.stdout))
    assert megabytes[0] < 50 < megabytes[1]


# --- formats: the same reading, whatever they are stored in ---


FORMATS: dict[str, Callable[[Path, Path], Path]] = {"shards": sharded, "bin": in_bin, "bin shards": sharded_bin}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_read_in_part(form: str, deep: Path, tmp_path: Path) -> None:
    folder = FORMATS[form](deep, tmp_path / "model")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((deep / name).read_bytes())
    stage = "layers.0.output"
    query = RunQuery(model=ModelChoice(name=str(folder)), stages=(stage,), values=True)
    report = inspect(query)
    assert report.tensors[0].values == values(ModelChoice(name=str(deep)), stage)[stage].tolist()
    whole = inspect(RunQuery(model=ModelChoice(name=str(deep)), stages=(stage,)))
    assert report.loading.disk_bytes == whole.loading.disk_bytes
    assert report.loading.mapped
    assert sum(file.tensors_read or 0 for file in report.loading.files) < LAYERS * 16 / 6
    planned = inspect(PlanQuery(of=query)).loading
    opened = {file.path: file for file in report.loading.files if file.tensors_read}
    assert {file.path: file for file in planned.files} == opened


# --- plans ---


def plan(query: TensorQuery[Any]) -> LoadingRecord:
    return inspect(PlanQuery(model=query.model, of=query)).loading


def test_a_plan_loads_nothing(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(partial, "load", refuse)
    monkeypatch.setattr(core_model_loading, "_materialize_copy", refuse)
    found = plan(AttnQuery(model=ModelChoice(name=str(deep), quantization="8bit")))
    assert found.disk_bytes
    assert found.download_bytes == 0


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("query", [EmbedQuery, AttnQuery])
def test_a_plan_is_what_happens(query: type[TensorQuery[Any]], precision: str, deep: Path) -> None:
    asked = query(model=ModelChoice(name=str(deep), **PRECISIONS[precision]))
    report = inspect(asked)
    assert isinstance(report, TensorsReport)
    planned, done = plan(asked), report.loading
    assert (planned.disk_bytes, planned.memory_bytes, planned.parameters, planned.mapped) == (
        *(done.disk_bytes, done.memory_bytes, done.parameters, done.mapped),
    )
    assert planned.files == done.files


def test_a_plan_needs_the_weights_to_be_there(deep: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((deep / name).read_bytes())
    with pytest.raises(SourceError, match="has no weights"):
        plan(EmbedQuery(model=ModelChoice(name=str(tmp_path))))
    tensors = load_file(deep / "model.safetensors")
    gone = [name for name in tensors if ".layers.7.fc1." in name]
    save_file({name: tensor for name, tensor in tensors.items() if name not in gone}, tmp_path / "model.safetensors")
    with pytest.raises(SourceError, match=f"lacks {min(gone)} .and 1 more tensors.: it is incomplete"):
        plan(EmbedQuery(model=ModelChoice(name=str(tmp_path))))
