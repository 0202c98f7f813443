"""Every kind of bad input: its exit code, its one sentence, and nothing on stdout."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import Result

from tests.test_checkpoint import (
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
from txinspect.errors import InspectError, SourceError, StageError, UsageError

Run = Callable[..., Result]
EMBEDDING = "model.decoder.embed_tokens.weight"
FC1 = "model.decoder.layers.0.fc1.weight"


def sentence(result: Result, code: int = 1) -> str:
    """The one sentence of a failure: what is wrong, on stderr, with nothing on stdout and no traceback."""
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    assert result.stderr.startswith("txinspect: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert not result.stderr.startswith("txinspect: unexpected ")
    assert not result.stderr.endswith(":\n")  # cut off before it says why
    assert "\x1b" not in result.stderr
    return result.stderr


def usage(result: Result) -> str:
    """What is said about a wrong command line: in a sentence of ours or in Typer's frame, put back into one line."""
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert "Traceback" not in result.stderr
    assert "\x1b" not in result.stderr
    return " ".join(result.stderr.replace("│", " ").split())


@dataclass(frozen=True)
class Bad:
    """A bad input, and what its sentence must hold."""

    id: str
    arguments: tuple[str, ...]
    says: tuple[str, ...]
    damage: Callable[[Path], object] = lambda _: None
    """What is done to a good checkpoint, which is the model `model`."""
    stdin: bytes = b""


def cases(*bad: Bad) -> pytest.MarkDecorator:
    """Parametrize a test with bad inputs."""
    return pytest.mark.parametrize("bad", bad, ids=lambda bad: bad.id)


@pytest.fixture
def model(opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good checkpoint of its own, as ./model in the working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(opt, tmp_path / "model")
    return tmp_path / "model"


def complain(bad: Bad, model: Path, run_cli: Run) -> None:
    """Run a bad input and look at its sentence."""
    bad.damage(model)
    said = sentence(run_cli(*bad.arguments, stdin=bad.stdin))
    missing = [fragment for fragment in bad.says if fragment not in said]
    assert not missing, said


def in_model(*arguments: str) -> tuple[str, ...]:
    """A command line about ./model."""
    return (*arguments, "-m", "./model")


EMBED = in_model("embed", "hi")
TREE = ("tree", "./model")


# What is asked of a good model


@cases(
    Bad("empty text", in_model("tokenize", "", "--no-special"), ("''", "no token", "at least one character")),
    Bad("empty stdin", in_model("embed", "-", "--no-special"), ("''", "no token")),
    Bad("only a line end", in_model("embed", "-", "--no-special"), ("no token",), stdin=b"\n"),
    Bad("too long", in_model("embed", "x" * 128), ("129 tokens", "'./model'", "128 positions", "shorten")),
    Bad("too long for attn", in_model("attn", "x" * 500), ("501 tokens", "128 positions")),
    Bad("too long from stdin", in_model("run", "-", "--stage", "logits"), ("200 tokens",), stdin=b"x" * 199),
    Bad("layer", in_model("attn", "hi", "--layer", "3"), ("layer 3", "out of range", "'./model'", "layers 0 to 2")),
    Bad("head", in_model("attn", "hi", "--head", "4"), ("head 4", "out of range", "heads 0 to 3")),
    Bad("one head of many", in_model("attn", "hi", "--head", "0,2-9"), ("head 4", "heads 0 to 3")),
    Bad("query", in_model("attn", "hi", "--query", "3"), ("query 3", "out of range", "tokens 0 to 2")),
    Bad("layer in a name", in_model("run", "--stage", "layers.9.output"), ("layer 9", "layers 0 to 2")),
    Bad("misspelt stage", in_model("run", "--stage", "logit"), ("'logit'", "did you mean", "logits")),
    Bad(
        "misspelt part",
        in_model("run", "--stage", "layers.0.attention.wieghts"),
        ("'layers.0.attention.wieghts'", "did you mean layers.0.attention.weights"),
    ),
    Bad("misspelt module", in_model("run", "--stage", "model.decoder.layers.0.fc3"), ("fc3'", "layers.0.fc1")),
    Bad("nothing alike", in_model("run", "--stage", "zzzzzzzz"), ("'zzzzzzzz'", "txinspect stages", "txinspect tree")),
    Bad("glob that picks nothing", in_model("run", "--stage", "**.no_proj"), ("'**.no_proj'", "no stage or module")),
    Bad("broken glob", in_model("run", "--stage", "layers.[9-1].input"), ("'layers.[9-1].input'", "no stage")),
    Bad("empty stage", in_model("run", "--stage", ""), ("''", "no stage")),
    Bad("list of modules", in_model("run", "--stage", "model.decoder.layers"), ("never runs itself", "ask for one")),
    Bad("one good, one bad", in_model("run", "--stage", "logits", "--stage", "logit"), ("'logit'", "logits")),
    Bad("cuda", in_model("embed", "hi", "--device", "cuda"), ("'cuda'", "no CUDA device", "--device cpu")),
    Bad("cuda:3", in_model("embed", "hi", "--device", "cuda:3"), ("'cuda:3'", "--device cpu")),
    Bad("mps", in_model("embed", "hi", "--device", "mps"), ("'mps'", "--device cpu")),
)
def test_of_a_good_model(bad: Bad, model: Path, run_cli: Run) -> None:
    if "cuda" in bad.id and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    if bad.id == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has Metal")
    complain(bad, model, run_cli)


def test_text_of_exactly_as_many_tokens_as_positions_runs(model: Path, run_cli: Run) -> None:
    result = run_cli("run", "x" * 127, "-m", "./model", "--stage", "logits", "--json")
    assert json.loads(result.stdout)["tensors"][0]["shape"] == [1, 128, 384]


@pytest.mark.parametrize("stage", ["position_embeddings", "final_norm"])
def test_a_stage_that_this_model_does_not_have_says_why(
    stage: str, opt_variant: Callable[[str], Path], tmp_path: Path, run_cli: Run
) -> None:
    if stage == "position_embeddings":
        from tests.tiny_models import save_tiny

        folder = save_tiny("mamba", tmp_path)
        said = sentence(run_cli("pos", "hi", "-m", folder))
        assert "recurrent layers" in said
    else:
        folder = opt_variant("post_norm")
    said = sentence(run_cli("run", "hi", "-m", folder, "--stage", stage))
    assert all(word in said for word in (repr(str(folder)), repr(stage))), said
    assert len(said.split(": ", 2)[2]) > 20


# The command line itself


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("attn", "--layer", "-1"), ("--layer", "greater than or equal to 0")),
        (("attn", "--layer", "one"), ("--layer", "integer")),
        (("attn", "--head", "3-1"), ("--head", "3-1", "backwards", "1-3")),
        (("attn", "--head", "x"), ("--head", "'x'", "0,2-3")),
        (("attn", "--head", ""), ("--head", "''", "0,2-3")),
        (("attn", "--head", "-1"), ("--head", "-1", "0,2-3")),
        (("attn", "--head", "0,,1"), ("--head", "0,,1", "0,2-3")),
        (("attn", "--query", "1.5"), ("--query", "1.5", "0,2-3")),
        (("attn", "--head", "9999999"), ("--head", "9999999")),
        (("tree", "--depth", "-1"), ("--depth", "greater than or equal to 0")),
        (("embed", "--dtype", "int8"), ("--dtype", "int8", "auto", "float32", "float16", "bfloat16")),
        (("embed", "--device-map", "moon"), ("--device-map", "'moon'", "auto")),
        (("embed", "--values"), ("--values", "--json")),
        (("attn", "--check", "--skip-norm"), ("--check", "--skip-norm")),
        (("embed", "--device", "tpu"), ("--device", "'tpu'", "cpu", "cuda:N", "mps")),
        (("embed", "--device", "cuda:x"), ("--device", "'cuda:x'")),
        (("embed", "--device", "cpu:1"), ("--device", "'cpu:1'")),
        (("embed", "--device", ""), ("--device", "''")),
        (("embed", "--save", "x.bin"), ("--save", "'x.bin'", ".safetensors", ".npz")),
        (("embed", "--save", "x"), ("--save", "'x'", ".safetensors", ".npz")),
        (("embed", "--save", ".npz"), ("--save", "'.npz'")),
        (("embed", "--8bit", "--4bit"), ("--8bit", "--4bit", "one of them")),
        (("embed", "--8bit", "--dtype", "float32"), ("--8bit", "half precision", "float16", "bfloat16")),
        (("embed", "text", "--file", "story.txt"), ("TEXT", "--file", "one of them")),
        (("embed", "-", "--file", "story.txt"), ("TEXT", "--file", "one of them")),
        (("run", "hi"), ("--stage",)),
        (("embed", "one", "two"), ("two",)),
        (("embed", "--no-such-option"), ("--no-such-option",)),
        (("no-such-command",), ("no-such-command",)),
        (("schema", "no-such-command"), ("no-such-command", "tokenize", "attn", "run")),
        (("schema", "schema"), ("schema", "tokenize")),
        (("tree", "a", "b"), ("b",)),
        (("tree", "--model"), ("--model",)),
        (("embed", "-m"), ("-m", "argument")),
    ],
    ids=lambda value: " ".join(value) if value and isinstance(value, tuple) else None,
)
def test_wrong_usage(arguments: tuple[str, ...], says: tuple[str, ...], model: Path, run_cli: Run) -> None:
    given = arguments if arguments[0] not in ("embed", "attn") or "-m" in arguments else (*arguments, "-m", "./model")
    said = usage(run_cli(*given))
    missing = [fragment for fragment in says if fragment not in said]
    assert not missing, said


def test_no_arguments_shows_the_help(run_cli: Run) -> None:
    result = run_cli()
    assert result.exit_code == 2
    assert "tokenize" in result.output


# The place of a model


@cases(
    Bad("path that is not there", ("tree", "./nowhere"), ("'./nowhere'", "no file or directory", "Hub id")),
    Bad("name of nothing, offline", ("tree", "nowhere"), ("'nowhere'", "local cache", "offline", "--offline")),
    Bad("name of nothing, told to be offline", ("tree", "a/b", "--offline"), ("'a/b'", "local cache", "--offline")),
    Bad("gguf that is not there", ("tree", "./x.gguf"), ("'./x.gguf'", "no file or directory")),
    Bad("a file", ("tree", "./model/config.json"), ("'./model/config.json'", "is a file", "directory")),
    Bad("empty directory", ("tree", "."), ("'.'", "no config.json", "save_pretrained")),
    Bad("no weights", EMBED, ("'./model'", "no weights"), lambda folder: (folder / "model.safetensors").unlink()),
    Bad(
        "t5",
        TREE,
        ("'./model'", "'t5'", "no causal language model", "opt"),
        lambda f: change_config(f, model_type="t5"),
    ),
    Bad("clip", TREE, ("'clip'", "no causal"), lambda folder: change_config(folder, model_type="clip")),
    Bad("t5, embed", EMBED, ("'t5'", "no causal"), lambda folder: change_config(folder, model_type="t5")),
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
    Bad("a list", TREE, ("config.json of './model'", "no JSON object"), config_text("[1, 2]")),
    Bad("a string", TREE, ("no JSON object",), config_text('"opt"')),
    Bad("null", TREE, ("no JSON object",), config_text("null")),
    Bad("Git LFS pointer", TREE, ("config.json of './model'",), config_text(LFS_POINTER)),
    Bad("no model_type", TREE, ("'./model'", "no model_type", "transformers checkpoint"), config_text("{}")),
    Bad("model_type a number", TREE, ("'./model'", "model_type"), config_text('{"model_type": 5}')),
    Bad("model_type a list", TREE, ("'./model'", "model_type"), config_text('{"model_type": ["opt"]}')),
    Bad("model_type empty", TREE, ("'./model'", "model type ''"), config_text('{"model_type": ""}')),
    Bad("tokenize, not JSON", in_model("tokenize", "hi"), ("config.json of './model'", "not JSON"), config_text("{")),
    Bad("embed, a list", EMBED, ("config.json of './model'", "no JSON object"), config_text("[]")),
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
    Bad("index that is not JSON", EMBED, ("index.json", "not an index"), lambda f: write_index(f, "{")),
    Bad("index that is a list", EMBED, ("index.json", "not an index"), lambda f: write_index(f, "[]")),
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
        ("pytorch_model.bin", "no checkpoint", "<html>"),
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


# Text


@pytest.mark.parametrize("content", [b"\xff", b"caf\xe9", b"\xed\xa0\x80", b"a\x80", b"\xc0\x80", b"\xf0\x9f\x98"])
def test_bytes_that_are_not_utf8(content: bytes, model: Path, run_cli: Run) -> None:
    (model.parent / "story.txt").write_bytes(content)
    for arguments, where in ((("-",), "standard input"), (("--file", "story.txt"), "story.txt")):
        said = sentence(run_cli("tokenize", *arguments, "-m", "./model", stdin=content))
        offset = next(index for index, byte in enumerate(content) if byte > 127)
        assert all(word in said for word in (where, "not UTF-8", f"0x{content[offset]:02x}", f"offset {offset}"))


def test_argument_that_is_not_utf8(model: Path, run_cli: Run) -> None:
    said = sentence(run_cli("tokenize", "caf\udce9", "-m", "./model"))
    assert all(word in said for word in ("TEXT", "not UTF-8", "0xe9", "offset 3"))


ODD_TEXTS = {
    "markup": "[/INST] [bold]x[/bold] [red",
    "escapes": "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J",
    "right to left": "\u202eabc\u202c \u200fשלום",
    "emoji": "😀👨‍👩‍👧🇩🇪❤️",
    "wide": "漢字かな한글",
    "combining": "e\u0301a\u0308\u0323",
    "controls": "a\rb\tc\nd\x08e\x7ff\x0bg",
    "separators": "a\u2028b\u2029c\u0085d\ufeffe",
    "nul": "a\0b",
    "only spaces": "   ",
    "private use": "\ue000\U0010ffff",
}


@pytest.mark.parametrize("kind", ODD_TEXTS)
@pytest.mark.parametrize("command", [("tokenize",), ("embed",), ("attn", "--layer", "0")], ids=lambda c: c[0])
def test_odd_text_is_shown_and_round_trips(kind: str, command: tuple[str, ...], model: Path, run_cli: Run) -> None:
    text = ODD_TEXTS[kind]
    arguments = (command[0], "-", "-m", "./model", *command[1:])
    shown = run_cli(*arguments, stdin=text.encode())
    assert (shown.exit_code, shown.stderr) == (0, "")
    steering = {character for character in shown.stdout if character < " " or "\x7f" <= character <= "\x9f"}
    assert steering <= {"\n"}
    assert not set("\u202e\u202c\u200f\u2028\u2029\ufeff") & set(shown.stdout)
    result = run_cli(*arguments, "--json", stdin=text.encode())
    report = json.loads(result.stdout_bytes)["input"]
    assert report["text"] == text
    tokens = [token for token in report["tokens"] if not token["special"]]
    stored = b"".join(
        token["text"].encode() if token["bytes"] is None else bytes.fromhex(token["bytes"]) for token in tokens
    )
    assert stored == text.encode()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_one_line_end_of_stdin_belongs_to_the_file(end: str, model: Path, run_cli: Run) -> None:
    result = run_cli("tokenize", "-", "-m", "./model", "--json", stdin=("hi" + end).encode())
    assert json.loads(result.stdout)["input"]["text"] == "hi"


# Files to read and to write


@cases(
    Bad("no file", in_model("tokenize", "--file", "none.txt"), ("none.txt", "cannot be read", "No such file")),
    Bad("a directory", in_model("tokenize", "--file", "."), ("cannot be read", "directory")),
    Bad("odd name", in_model("tokenize", "--file", "a\nb\x1b[2J.txt"), ("cannot be read",)),
    Bad("long name", in_model("tokenize", "--file", "x" * 5000), ("cannot be read", "too long")),
    Bad("no folder", (*EMBED, "--save", "none/x.npz"), ("none/x.npz", "no directory none")),
    Bad(
        "folder", (*EMBED, "--save", "model.npz"), ("model.npz", "is a directory"), lambda f: Path("model.npz").mkdir()
    ),
    Bad("folder is a file", (*EMBED, "--save", "model/config.json/x.npz"), ("config.json",)),
    Bad("save, odd name", (*EMBED, "--save", "no\n\x1b[2J/x.npz"), ("no directory",)),
    Bad("save, long name", (*EMBED, "--save", "x" * 300 + ".npz"), ("too long",)),
)
def test_files(bad: Bad, model: Path, run_cli: Run) -> None:
    complain(bad, model, run_cli)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_save_onto_a_full_disk(suffix: str, model: Path, run_cli: Run) -> None:
    import resource

    target = model.parent / f"old{suffix}"
    target.write_bytes(b"kept")
    sentence(run_cli("embed", "", "--no-special", "-m", "./model"))  # the tokenizer is in its cache from here on
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        result = run_cli(*EMBED, "--save", target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert all(word in sentence(result) for word in (str(target), "could not be written", "nothing was saved"))
    assert target.read_bytes() == b"kept"
    assert sorted(path.name for path in model.parent.iterdir()) == ["model", target.name]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_save_into_a_folder_that_may_not_be_written(model: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    said = sentence(run_cli(*EMBED, "--save", "x.npz"))
    assert all(word in said for word in ("x.npz", "no permission"))


# Names with odd characters


def test_a_folder_with_an_odd_name_is_named_in_one_line(model: Path, run_cli: Run) -> None:
    odd = model.rename(model.parent / "a\nb\x1b[2J[red]")
    assert run_cli("tree", odd).exit_code == 0
    (odd / "model.safetensors").write_bytes(b"")
    assert "empty" in sentence(run_cli("embed", "hi", "-m", odd))
    (odd / "model.safetensors").unlink()
    assert "no weights" in sentence(run_cli("embed", "hi", "-m", odd))


def test_a_folder_whose_name_is_not_utf8(model: Path, run_cli: Run) -> None:
    odd = model.rename(model.parent / "caf\udce9")
    result = run_cli("tree", odd, "--json")
    if result.exit_code == 0:
        assert json.loads(result.stdout_bytes)["model"]["num_hidden_layers"] == 3
    else:
        sentence(result)


def test_a_config_with_odd_characters_is_one_line(model: Path, run_cli: Run) -> None:
    change_config(model, model_type="a\nb\x1b[2J[/INST]\u202e")
    sentence(run_cli("tree", "./model"))


def test_a_lone_surrogate_in_a_config(model: Path, run_cli: Run) -> None:
    change_config(model, architectures=["\ud800"])
    result = run_cli("tokenize", "hi", "-m", "./model", "--json")
    if result.exit_code == 0:
        json.loads(result.stdout_bytes.decode())
    else:
        sentence(result)


# The boundary


@pytest.mark.parametrize(
    ("kind", "code"), [(InspectError, 1), (SourceError, 1), (StageError, 1), (UsageError, 2)], ids=lambda v: str(v)
)
def test_each_error_has_its_exit_code(kind: type[InspectError], code: int) -> None:
    assert issubclass(kind, InspectError)
    assert kind.exit_code == code


@pytest.mark.parametrize("verbose", [False, True])
def test_an_unforeseen_error_is_one_sentence(
    verbose: bool, model: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from txinspect import stats

    def fail(_: object) -> None:
        raise ZeroDivisionError("first\nsecond\x1b[2J")

    monkeypatch.setattr(stats, "measure", fail)
    result = run_cli(*EMBED, *(["-v"] if verbose else []))
    assert (result.exit_code, result.stdout) == (1, "")
    last = result.stderr.splitlines()[-1]
    assert last.startswith("txinspect: unexpected ZeroDivisionError: first")
    assert ("Traceback" in result.stderr) is verbose
    assert ("-v" in last) is not verbose
    if not verbose:
        assert result.stderr.count("\n") == 1
        assert "\x1b" not in result.stderr


@pytest.mark.parametrize("flag", ["-v", "--verbose"])
def test_verbose_shows_the_traceback_before_the_sentence(flag: str, model: Path, run_cli: Run) -> None:
    (model / "model.safetensors").write_bytes(b"\0" * 100)
    result = run_cli(*EMBED, flag)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Traceback (most recent call last)" in result.stderr
    assert "SafetensorError" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("txinspect: ")
    assert "Traceback" not in run_cli(*EMBED).stderr
