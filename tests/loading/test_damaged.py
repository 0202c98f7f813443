"""Damaged and strange models: the exit code, the one sentence, and nothing on stdout."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.making.bad_input import EMBED, EMBEDDING, FC1, TREE, Bad, Run, cases, complain, in_model, sentence
from tests.making.checkpoints import (
    LFS_POINTER,
    Attack,
    change_config,
    change_weights,
    keep,
    legacy,
    rewrite_header,
    to_shards,
    to_torch,
)

pytestmark = pytest.mark.strangers

# The place of a model


@cases(
    Bad("path that is not there", ("tree", "./nowhere"), ("'./nowhere'", "no file or directory", "Hub id")),
    Bad("name of nothing, offline", ("tree", "nowhere"), ("'nowhere'", "local cache", "HF_HUB_OFFLINE=1", "unset")),
    Bad("name of nothing, told to be offline", ("tree", "a/b", "--offline"), ("'a/b'", "local cache", "--offline")),
    Bad("gguf that is not there", ("tree", "./x.gguf"), ("'./x.gguf'", "no file or directory")),
    Bad("a file", ("tree", "./model/config.json"), ("'./model/config.json'", "is a file", "directory")),
    Bad("empty directory", ("tree", "."), ("'.'", "no config.json", "save_pretrained")),
    Bad("no weights", EMBED, ("'./model'", "no weights"), lambda folder: (folder / "model.safetensors").unlink()),
    Bad("clip", TREE, ("'./model'", "reads images"), lambda folder: change_config(folder, model_type="clip")),
    Bad("vit", TREE, ("'./model'", "reads images"), lambda folder: change_config(folder, model_type="vit")),
    Bad("t5, embed", EMBED, ("'./model'", "lacks"), lambda folder: change_config(folder, model_type="t5")),
    Bad(
        "unknown type",
        TREE,
        ("'frobnicate'", "'./model'", "transformers", "pip install -U"),
        lambda folder: change_config(folder, model_type="frobnicate"),
    ),
    Bad("no tokenizer", EMBED, ("'./model'", "tokenizer"), lambda folder: drop_tokenizer(folder)),
    Bad(
        "tokenizer that is not JSON",
        EMBED,
        ("'./model'", "tokenizer"),
        lambda folder: (folder / "tokenizer.json").write_text("{"),
    ),
    Bad(
        "tokenizer that is a Git LFS pointer",
        EMBED,
        ("'./model'", "tokenizer"),
        lambda folder: (folder / "tokenizer.json").write_bytes(LFS_POINTER),
    ),
)
def test_place(bad: Bad, model: Path, run_cli: Run) -> None:
    complain(bad, model, run_cli)


def drop_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def test_a_tree_needs_no_weights(model: Path, run_cli: Run) -> None:
    (model / "model.safetensors").unlink()
    drop_tokenizer(model)
    assert run_cli("tree", "./model").exit_code == 0
    assert run_cli("stages", "./model").exit_code == 0


# Configs


def config_text(text: str | bytes) -> Callable[[Path], object]:
    content = text if isinstance(text, bytes) else text.encode()
    return lambda folder: (folder / "config.json").write_bytes(content)


@cases(
    Bad("not JSON", TREE, ("config.json of './model'", "not JSON", "again"), config_text("{")),
    Bad("empty", TREE, ("config.json of './model'", "not JSON"), config_text("")),
    Bad("not UTF-8", TREE, ("config.json of './model'", "not JSON"), config_text(b'{"a": "\xff"}')),
    Bad("deep", TREE, ("config.json of './model'", "not JSON"), config_text("[" * 200_000)),
    Bad("a list", TREE, ("config.json of './model'", "not a JSON object"), config_text("[1, 2]")),
    Bad("a string", TREE, ("not a JSON object",), config_text('"opt"')),
    Bad("null", TREE, ("not a JSON object",), config_text("null")),
    Bad("Git LFS pointer", TREE, ("config.json of './model'",), config_text(LFS_POINTER)),
    Bad("no model_type", TREE, ("'./model'", "no model_type", "transformers checkpoint"), config_text("{}")),
    Bad("model_type a number", TREE, ("'./model'", "model_type"), config_text('{"model_type": 5}')),
    Bad("model_type a list", TREE, ("'./model'", "model_type"), config_text('{"model_type": ["opt"]}')),
    Bad("model_type empty", TREE, ("'./model'", "model type ''"), config_text('{"model_type": ""}')),
    Bad("tokenize, not JSON", in_model("tokenize", "hi"), ("config.json of './model'", "not JSON"), config_text("{")),
    Bad("embed, a list", EMBED, ("config.json of './model'", "not a JSON object"), config_text("[]")),
)
def test_config_that_is_none(bad: Bad, model: Path, run_cli: Run) -> None:
    complain(bad, model, run_cli)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"num_attention_heads": 5}, ("64", "5")),
        ({"num_attention_heads": 0}, ()),
        ({"num_attention_heads": -4}, ()),
        ({"hidden_size": -64}, ()),
        ({"hidden_size": 0}, ()),
        ({"hidden_size": "64"}, ("hidden_size", "'64'")),
        ({"hidden_size": None}, ("hidden_size",)),
        ({"hidden_size": 10**30}, ()),
        ({"vocab_size": -1}, ()),
        ({"vocab_size": "many"}, ("vocab_size", "'many'")),
        ({"vocab_size": 1.5}, ("vocab_size", "1.5")),
        ({"vocab_size": float("inf")}, ("vocab_size", "inf")),
        ({"num_hidden_layers": -1}, ()),
        ({"num_hidden_layers": [3]}, ("num_hidden_layers", "[3]")),
        ({"max_position_embeddings": -128}, ()),
        ({"ffn_dim": -1}, ()),
        ({"word_embed_proj_dim": -1}, ()),
        ({"activation_function": "frobnicate"}, ("frobnicate",)),
        ({"activation_function": "\x1b[2Jrelu"}, ()),
        ({"dtype": "float5"}, ("float5",)),
        ({"pad_token_id": 10**6}, ()),
    ],
    ids=repr,
)
def test_absurd_config(values: dict[str, Any], says: tuple[str, ...], model: Path, run_cli: Run) -> None:
    change_config(model, **values)
    for arguments in (TREE, EMBED):
        said = sentence(run_cli(*arguments))
        assert "./model" in said
        missing = [fragment for fragment in says if fragment not in said]
        assert not missing, said


def test_an_unknown_quantization_of_the_checkpoint_is_named(model: Path, run_cli: Run) -> None:
    change_config(model, quantization_config={"quant_method": "frobnicate"})
    assert "frobnicate" in sentence(run_cli(*EMBED))


def test_a_model_without_layers_has_no_layer_0(model: Path, run_cli: Run) -> None:
    change_config(model, num_hidden_layers=0)
    said = sentence(run_cli("attn", "hi", "-m", "./model"))
    assert "layer 0" in said
    assert "-1" not in said


# Weights


@cases(
    Bad(
        "truncated", EMBED, ("model.safetensors", "damaged or truncated"), lambda f: keep(f / "model.safetensors", 0.5)
    ),
    Bad("header cut off", EMBED, ("damaged or truncated",), lambda f: keep(f / "model.safetensors", 0.001)),
    Bad("empty", EMBED, ("model.safetensors", "empty"), lambda f: (f / "model.safetensors").write_bytes(b"")),
    Bad("LFS pointer", EMBED, ("git lfs pull",), lambda f: (f / "model.safetensors").write_bytes(LFS_POINTER)),
    Bad(
        "wrong offsets",
        EMBED,
        ("model.safetensors", "damaged"),
        lambda f: rewrite_header(f / "model.safetensors", lambda h: h[FC1].update(data_offsets=[8, 10**9])),
    ),
    Bad(
        "2^60 of header",
        EMBED,
        ("model.safetensors", "damaged"),
        lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}" * 50),
    ),
    Bad(
        "tensor of another shape",
        ("run", "hi", "-m", "./model", "-s", "logits"),
        ("'./model'", "do not fit", "layers.0.fc1.bias", "[96]", "[80]", "and 8 more tensors"),
        lambda f: change_config(f, ffn_dim=80),
    ),
    Bad(
        "smaller vocabulary",
        EMBED,
        ("do not fit", EMBEDDING, "[384, 64]", "[300, 64]"),
        lambda f: change_config(f, vocab_size=300),
    ),
    Bad("missing tensor", EMBED, ("'./model'", "lacks", FC1), lambda f: change_weights(f, lambda t: t.pop(FC1))),
    Bad(
        "missing tensors",
        EMBED,
        ("'./model'", "lacks", "and 15 more tensors"),
        lambda f: change_config(f, num_hidden_layers=4),
    ),
    Bad("no tensor", EMBED, ("'./model'", "lacks"), lambda f: change_weights(f, lambda t: t.clear())),
    Bad("missing shard", EMBED, ("2 shards", "00002-of-00002", "fetch"), lambda f: drop_shard(f)),
    Bad("index without a shard", EMBED, ("'./model'", "lacks"), lambda f: forget_shard(f)),
    Bad("index that is not JSON", EMBED, ("index.json", "not JSON"), lambda f: write_index(f, "{")),
    Bad("index that is a list", EMBED, ("index.json", "not a JSON object"), lambda f: write_index(f, "[]")),
    Bad("index of nothing", EMBED, ("index.json",), lambda f: write_index(f, '{"weight_map": {}}')),
    Bad("truncated .bin", EMBED, ("pytorch_model.bin", "damaged or truncated"), lambda f: torch_cut(f, torch.save)),
    Bad(
        "truncated .bin of before 1.6",
        EMBED,
        ("pytorch_model.bin", "damaged or truncated"),
        lambda f: torch_cut(f, legacy),
    ),
    Bad(
        "a page in place of .bin",
        EMBED,
        ("pytorch_model.bin", "not a checkpoint", "<html>"),
        lambda f: torch_text(f, b"<html>not found</html>"),
    ),
    Bad("LFS pointer in place of .bin", EMBED, ("git lfs pull",), lambda f: torch_text(f, LFS_POINTER)),
    Bad(".bin of a list", EMBED, ("pytorch_model.bin", "holds a list"), lambda f: torch_object(f, [1, 2, 3])),
)
def test_weights(bad: Bad, model: Path, run_cli: Run) -> None:
    complain(bad, model, run_cli)


def drop_shard(folder: Path) -> None:
    to_shards(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def forget_shard(folder: Path) -> None:
    to_shards(folder)
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    kept = {name: file for name, file in content["weight_map"].items() if "00001" in file}
    index.write_text(json.dumps({**content, "weight_map": kept}))
    (folder / "model-00002-of-00002.safetensors").unlink()


def write_index(folder: Path, text: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(text)


def torch_cut(folder: Path, store: Callable[..., object]) -> None:
    to_torch(folder, store)
    keep(folder / "pytorch_model.bin", 0.7)


def torch_text(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)


def torch_object(folder: Path, value: object) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(value, folder / "pytorch_model.bin")


@pytest.mark.parametrize("store", [torch.save, legacy], ids=["zip", "before 1.6"])
def test_good_torch_weights_are_read(store: Callable[..., object], model: Path, run_cli: Run) -> None:
    expected = json.loads(run_cli(*EMBED, "--json").stdout)["tensors"]
    to_torch(model, store)
    assert json.loads(run_cli(*EMBED, "--json").stdout)["tensors"] == expected


def test_shards_are_read(model: Path, run_cli: Run) -> None:
    expected = json.loads(run_cli(*EMBED, "--json").stdout)["tensors"]
    to_shards(model)
    assert json.loads(run_cli(*EMBED, "--json").stdout)["tensors"] == expected


@pytest.mark.parametrize("store", [torch.save, legacy], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("trusting", [(), ("--trust-remote-code",)], ids=["", "trusting"])
def test_code_in_pickled_weights_never_runs(
    store: Callable[..., object], trusting: tuple[str, ...], model: Path, run_cli: Run
) -> None:
    effect = model.parent / "it ran"
    tensors: dict[str, object] = dict(load_file(model / "model.safetensors"))
    (model / "model.safetensors").unlink()
    store(tensors | {"attack": Attack(effect)}, model / "pytorch_model.bin")
    for command in (EMBED, in_model("plan", "hi")):
        said = sentence(run_cli(*command, *trusting))
        assert not effect.exists()
        assert "pytorch_model.bin" in said
        assert "code" in said


def test_not_finite_weights_are_counted(model: Path, run_cli: Run) -> None:
    row = 8 + ord("h")

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[EMBEDDING][row, :6] = torch.tensor([np.nan, np.nan, np.nan, np.inf, np.inf, -np.inf])
        tensors[EMBEDDING][row, 6] = 0.0

    change_weights(model, spoil)
    shown = run_cli(*EMBED)
    assert shown.exit_code == 0
    assert all(mark in shown.stdout for mark in ("3 NaN", "2 +inf", "1 -inf"))
    result = run_cli(*EMBED, "--json", "--values")
    found = json.loads(result.stdout, parse_constant=pytest.fail)["tensors"][0]
    table = load_file(model / "model.safetensors")[EMBEDDING].double().numpy()
    wanted = table[[2, row, 8 + ord("i")]]
    finite = wanted[np.isfinite(wanted)]
    stats = found["stats"]
    assert (stats["numel"], stats["nan"], stats["posinf"], stats["neginf"]) == (192, 3, 2, 1)
    assert stats["zeros"] == int((finite == 0).sum())
    assert stats["mean"] == pytest.approx(finite.mean(), abs=1e-12)
    assert stats["std"] == pytest.approx(finite.std(), abs=1e-12)
    assert (stats["min"], stats["max"]) == (finite.min(), finite.max())
    assert found["values"][0][1][:7] == [None] * 6 + [0.0]
    assert found["rows"][1]["l2"] == pytest.approx(np.linalg.norm(wanted[1][np.isfinite(wanted[1])]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("command", [("attn", "--layer", "1"), ("run", "--stage", "**")], ids=["attn", "run"])
def test_a_model_of_nan_is_shown(value: float, command: tuple[str, ...], model: Path, run_cli: Run) -> None:
    change_weights(model, lambda tensors: [tensor.fill_(value) for tensor in tensors.values()] and None)
    result = run_cli(command[0], "hi", "-m", "./model", *command[1:])
    assert result.exit_code == 0, result.stderr
    assert "NaN" in result.stdout
    result = run_cli(command[0], "hi", "-m", "./model", *command[1:], "--json", "--values")
    report = json.loads(result.stdout, parse_constant=pytest.fail)
    assert any(tensor["stats"]["nan"] == tensor["stats"]["numel"] for tensor in report["tensors"])


# Code that comes with a model

EFFECT = "from pathlib import Path\nPath('it ran').touch()\n"


def own_model_code(folder: Path) -> None:
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    change_config(folder, model_type="own", auto_map=auto_map)
    (folder / "own.py").write_text(EFFECT)


def own_tokenizer_code(folder: Path) -> None:
    file = folder / "tokenizer_config.json"
    auto_map = {"AutoTokenizer": ["own.OwnTokenizer", None]}
    file.write_text(json.dumps({"tokenizer_class": "OwnTokenizer", "auto_map": auto_map}))
    (folder / "tokenizer.json").unlink()
    (folder / "own.py").write_text(EFFECT)


def own_code(folder: Path) -> None:
    own_model_code(folder)
    own_tokenizer_code(folder)


@cases(
    Bad("model, tree", TREE, ("'./model'", "code of its own", "--trust-remote-code"), own_model_code),
    Bad("model, embed", EMBED, ("'./model'", "code of its own", "--trust-remote-code"), own_model_code),
    Bad("both", in_model("tokenize", "hi"), ("'./model'", "--trust-remote-code"), own_code),
    Bad("tokenizer", in_model("tokenize", "hi"), ("tokenizer of './model'",), own_tokenizer_code),
    Bad("tokenizer, embed", EMBED, ("tokenizer of './model'",), own_tokenizer_code),
)
def test_code_of_a_models_own(bad: Bad, model: Path, run_cli: Run) -> None:
    complain(bad, model, run_cli)
    assert not (model.parent / "it ran").exists()


def test_code_beside_a_type_that_transformers_knows_is_not_needed(model: Path, run_cli: Run) -> None:
    own_model_code(model)
    change_config(model, model_type="opt")
    assert run_cli(*EMBED).exit_code == 0
    assert not (model.parent / "it ran").exists()


PRINTING = """
print("imported")
from transformers import OPTConfig, OPTForCausalLM

class OwnConfig(OPTConfig):
    model_type = "own"

class OwnModel(OPTForCausalLM):
    config_class = OwnConfig

    def __init__(self, config):
        print("built")
        super().__init__(config)

    def forward(self, *inputs, **options):
        print("run")
        return super().forward(*inputs, **options)
"""


@pytest.mark.parametrize("arguments", [TREE, EMBED, in_model("plan", "hi"), in_model("pos", "hi")], ids=lambda a: a[0])
def test_what_a_models_own_code_prints_is_not_the_report(arguments: tuple[str, ...], model: Path, run_cli: Run) -> None:
    own_model_code(model)
    (model / "own.py").write_text(PRINTING)
    result = run_cli(*arguments, "--trust-remote-code", "--json")
    assert json.loads(result.stdout)["model"]["class"] == "OwnModel"
    assert "built" in result.stderr
