"""transformers_weights in config.json: from_pretrained takes that file, and so do checks, plans and statistics."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from typer.testing import Result

from tests.making.checkpoints import change_config
from tests.making.hub import LoopbackHub, files_of
from txinspect import InspectError, ModelChoice, ParamsQuery, PlanQuery, RunQuery, inspect

Run = Callable[..., Result]


def named(model: Path, name: str) -> dict[str, torch.Tensor]:
    """Moves a checkpoint's weights under another name, and leaves zeros where they were."""
    tensors = load_file(model / "model.safetensors")
    save_file(
        {key: torch.zeros_like(each) for key, each in tensors.items()}, model / "model.safetensors", {"format": "pt"}
    )
    change_config(model, transformers_weights=name)
    (model / name).parent.mkdir(exist_ok=True)
    if not name.endswith(".json"):
        save_file(tensors, model / name, {"format": "pt"})
        return tensors
    half = len(tensors) // 2
    weight_map = {key: f"part-{int(i >= half)}.safetensors" for i, key in enumerate(tensors)}
    for shard in set(weight_map.values()):
        save_file({key: tensors[key] for key in tensors if weight_map[key] == shard}, model / shard, {"format": "pt"})
    (model / name).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return tensors


NAMES = [f"{folder}other.safetensors{index}" for folder in ("", "sub/") for index in ("", ".index.json")]


@pytest.mark.parametrize("name", NAMES)
def test_what_config_json_names_is_read(name: str, model: Path) -> None:
    tensors = named(model, name)
    choice = ModelChoice(name=str(model))
    query = RunQuery(model=choice, text="ab", stages=("logits",), values=True)
    report = inspect(query)
    plain = AutoModelForCausalLM.from_pretrained(model).eval()
    with torch.no_grad():
        logits = plain(torch.tensor(report.input.input_ids)).logits
    assert logits.abs().max() > 0
    assert torch.equal(torch.tensor(report.tensors[0].values), logits)
    shards = {"part-0.safetensors", "part-1.safetensors"}
    expected = shards if name.endswith(".json") else {"other.safetensors"}
    for loading in (report.loading, inspect(PlanQuery(model=choice, of=query)).loading):
        assert {Path(each.path).name for each in loading.files} == expected
    assert {each.name for each in inspect(ParamsQuery(model=choice)).tensors} == tensors.keys()
    assert all(each.stats.abs_max for each in inspect(ParamsQuery(model=choice)).tensors if "weight" in each.name)


@pytest.mark.parametrize("name", NAMES)
def test_on_the_hub(name: str, model: Path, online: LoopbackHub, run_cli: Run) -> None:
    named(model, name)
    online.add("lab/named", files_of(model))
    arguments = ("run", "ab", "-s", "logits", "-m", "lab/named", "--json")
    dry = run_cli(*arguments, "--dry-run")
    assert dry.exit_code == 0, dry.stderr
    planned = json.loads(dry.stdout)["loading"]
    assert "model.safetensors" not in {each["path"] for each in planned["files"]}
    assert planned["download_bytes"]
    here = json.loads(run_cli("run", "ab", "-s", "logits", "-m", model, "--json").stdout)
    there = json.loads(run_cli(*arguments).stdout)
    assert there["tensors"][0]["stats"] == here["tensors"][0]["stats"]
    assert not any(path.endswith("/model.safetensors") for _, path in online.requests)
    offline = json.loads(run_cli(*arguments, "--offline").stdout)
    assert offline["tensors"][0]["stats"] == here["tensors"][0]["stats"]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("../x.safetensors", r"transformers_weights is '../x.safetensors': give the name of a file in its folder"),
        ("/etc/x.safetensors", "give the name of a file in its folder"),
        ("pytorch_model.bin", "give the name of a file in its folder"),
        (3, "transformers_weights is 3: give the name of a file in its folder"),
        ("gone.safetensors", "has no file gone.safetensors, which its config.json names as its weights"),
    ],
)
def test_a_name_of_no_weights(value: Any, says: str, model: Path) -> None:
    change_config(model, transformers_weights=value)
    query = RunQuery(model=ModelChoice(name=str(model)), text="ab", stages=("logits",))
    for each in (query, PlanQuery(model=query.model, of=query)):
        with pytest.raises(InspectError, match=says):
            inspect(each)
