"""A model's name → its files: the order of resolution, and the Hub as a server on 127.0.0.1 plays it."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import close_session
from safetensors.torch import load_file
from typer.testing import Result

from tests.making.checkpoints import change_config, change_weights, sharded_bin, to_shards
from tests.making.hub import BROKEN, GATED, PRIVATE, LoopbackHub, Refusal, files_of
from tests.making.models import save_tiny
from tests.making.strangers.gguf_files import gguf
from txinspect.errors import SourceError, UsageError
from txinspect.model_choice import ModelChoice
from txinspect.sources import bundled_models
from txinspect.sources.hub import Repository
from txinspect.sources.names import CONFIG_FILES, SAFETENSORS_FILES
from txinspect.sources.resolving import resolve
from txinspect.sources.source import Source

REPO = "team/tiny-opt"
Run = Callable[..., Result]


@pytest.fixture
def tiny(online: LoopbackHub, opt: Path) -> LoopbackHub:
    """The Hub with a tiny OPT, as safetensors beside a pytorch_model.bin and files that nobody needs."""
    online.add(
        REPO,
        files_of(opt)
        | {
            "pytorch_model.bin": b"not to be fetched",
            "tf_model.h5": b"not to be fetched",
            "flax_model.msgpack": b"not to be fetched",
            "README.md": b"# tiny",
        },
    )
    return online


def torch_files(folder: Path, scratch: Path) -> dict[str, bytes]:
    """A checkpoint as OPT has it on the Hub: pytorch_model.bin, no safetensors."""
    files = files_of(folder)
    del files["model.safetensors"]
    torch.save(load_file(folder / "model.safetensors"), scratch / "pytorch_model.bin")
    return files | {"pytorch_model.bin": (scratch / "pytorch_model.bin").read_bytes()}


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub waits a second before each of five retries: let it not."""
    from huggingface_hub import file_download

    monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda _: None))


def sentence(result: Result, code: int = 1) -> str:
    """The one line of a failure."""
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("txinspect: ")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def report(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


# The order of resolution


@pytest.fixture
def bundled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of bundled models with one in it, called mini."""
    folder = tmp_path / "bundled"
    (folder / "mini").mkdir(parents=True)
    (folder / "mini" / "config.json").write_text("{}")
    (folder / "half-made").mkdir()
    monkeypatch.setattr(bundled_models, "BUNDLED", folder)
    return folder


def test_bundled_models_are_those_with_a_config(bundled: Path) -> None:
    assert bundled_models.bundled_models() == ["mini"]


def test_bundled_name_comes_before_a_directory(bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mini").mkdir()
    monkeypatch.chdir(tmp_path)
    found = resolve(ModelChoice(name="mini"))
    assert (found.place.kind, found.path) == ("bundled", bundled / "mini")


def test_directory_comes_before_the_hub(bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "team" / "tiny-opt").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve(ModelChoice(name=REPO)).place.kind == "directory"


def test_a_path_reaches_a_directory_that_a_bundled_name_hides(
    bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mini").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve(ModelChoice(name="./mini")).place.kind == "directory"


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve(ModelChoice(name="~/model")).path == tmp_path / "model"


def test_gguf_file_is_a_kind_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    assert resolve(ModelChoice(name=str(file))).place.kind == "gguf"


def test_a_file_that_only_is_called_gguf_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"<html>")
    with pytest.raises(SourceError, match="is not a GGUF file: it begins with b'<htm'"):
        resolve(ModelChoice(name=str(file)))


@pytest.mark.parametrize("name", ["gpt2", "facebook/opt-1.3b", "a/b_c-d.e"])
def test_other_names_are_hub_ids(name: str) -> None:
    with pytest.raises(SourceError, match=f"^'{name}' is not in the local cache, and HF_HUB_OFFLINE=1 is set"):
        resolve(ModelChoice(name=name))


@pytest.mark.parametrize(
    "name", ["./not-there", "/not/there", "~/not-there", "../x", "a/b/c", "model.gguf", "", " ", "a b", "-", "C:\\x"]
)
def test_a_path_that_is_not_there_is_named_with_the_alternatives(name: str, bundled: Path) -> None:
    with pytest.raises(SourceError, match="no file or directory") as caught:
        resolve(ModelChoice(name=name))
    assert repr(name) in str(caught.value)
    assert all(word in str(caught.value) for word in ("mini", "directory", ".gguf", "Hub id"))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("opt-min", "opt-mini"),
        ("OPT_Mini", "opt-mini"),
        ("facebook/opt1.3b", "facebook/opt-1.3b"),
        ("opt-1.3B", "facebook/opt-1.3b"),
        ("meta/opt-1.3b", "facebook/opt-1.3b"),
        ("gpt-neo", None),
        ("opt", None),
        ("", None),
        ("opt-mini", None),
    ],
)
def test_the_model_that_a_name_is_like(name: str, meant: str | None) -> None:
    assert bundled_models.lookalike(name, ["opt-mini", "facebook/opt-1.3b"]) == meant


def test_no_model_is_like_any_where_there_is_none() -> None:
    assert bundled_models.lookalike("opt-mini", []) is None


@pytest.mark.parametrize("name", ["./mini", "mini/", "min i"])
def test_a_path_that_is_like_a_bundled_model(name: str, bundled: Path, tmp_path: Path, run_cli: Run) -> None:
    said = sentence(run_cli("tree", name))
    assert "no file or directory" in said
    assert said.endswith("; did you mean 'mini'?\n")


@pytest.mark.parametrize("case", ["not on the Hub", "offline", "not reached"])
def test_a_wrong_name_that_is_like_one_that_is_here(
    case: str, tiny: LoopbackHub, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(run_cli("tree", REPO, "--json"))
    if case == "not reached":
        tiny.close()
        close_session()
    options = ["--offline"] if case == "offline" else []
    words = {"not on the Hub": "here or on the Hub", "offline": "asked offline", "not reached": "cannot be reached"}
    for name, meant in (("team/tinyopt", REPO), ("tiny-opt", REPO), ("opt-min", "opt-mini"), ("zzz/qqq", None)):
        said = sentence(run_cli("tree", name, *options))
        assert words[case] in said
        assert said.endswith(f"did you mean {meant!r}?\n" if meant else "a .gguf file or a Hub id\n"), said


def test_a_file_is_no_model(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(SourceError, match="is a file, not a model: give the directory"):
        resolve(ModelChoice(name=str(file)))


@pytest.mark.parametrize("name", ["a--b", "a..b", "a/b.", "a/b-", "x" * 200])
def test_a_name_that_the_hub_refuses_is_one_sentence(name: str, tiny: LoopbackHub, run_cli: Run) -> None:
    assert name[:20] in sentence(run_cli("tree", name))


# What is fetched


@pytest.mark.parametrize(
    ("command", "fetched"),
    [
        (["tree"], ["config.json"]),
        (["stages"], ["config.json"]),
        (["tokenize", "hi", "-m"], ["config.json", "tokenizer.json", "tokenizer_config.json"]),
        (["embed", "hi", "-m"], ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_only_what_is_needed_is_fetched(
    command: list[str], fetched: list[str], tiny: LoopbackHub, run_cli: Run
) -> None:
    report(run_cli(*command, REPO, "--json"))
    assert [name for name in tiny.fetched() if name != "generation_config.json"] == fetched


def test_second_use_fetches_nothing(tiny: LoopbackHub, run_cli: Run) -> None:
    first = report(run_cli("tree", REPO, "--json"))
    tiny.requests.clear()
    assert report(run_cli("tree", REPO, "--json")) == first
    assert tiny.fetched() == []


def test_torch_weights_are_fetched_where_there_is_no_safetensors(
    online: LoopbackHub, opt: Path, tmp_path: Path, run_cli: Run
) -> None:
    online.add(REPO, torch_files(opt, tmp_path))
    found = report(run_cli("embed", "hi", "-m", REPO, "--json"))
    assert "pytorch_model.bin" in online.fetched()
    expected = report(run_cli("embed", "hi", "-m", opt, "--json"))
    assert found["tensors"] == expected["tensors"]


def test_torch_weights_work_offline_afterwards(online: LoopbackHub, opt: Path, tmp_path: Path, run_cli: Run) -> None:
    online.add(REPO, torch_files(opt, tmp_path))
    first = report(run_cli("embed", "hi", "-m", REPO, "--json"))
    online.close()
    assert report(run_cli("embed", "hi", "-m", REPO, "--json", "--offline")) == first


def test_only_shards_in_use_are_fetched(online: LoopbackHub, opt: Path, tmp_path: Path, run_cli: Run) -> None:
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(opt).save_pretrained(tmp_path, max_shard_size="200KB")
    files = files_of(opt)
    del files["model.safetensors"]
    shards = {name: content for name, content in files_of(tmp_path).items() if name.startswith("model")}
    assert len(shards) > 2
    online.add(REPO, files | shards)
    assert report(run_cli("embed", "hi", "-m", REPO, "--json"))["tensors"][0]["shape"] == [1, 3, 64]
    few = set(shards) & set(online.fetched())
    weight_map = json.loads(shards["model.safetensors.index.json"])["weight_map"]
    assert few == {"model.safetensors.index.json", weight_map["model.decoder.embed_tokens.weight"]}
    asked = ("run", "hi", "-m", REPO, "--json", "--values", "-s", "logits")
    whole = report(run_cli(*asked))
    assert set(shards) <= set(online.fetched())
    assert whole["tensors"][0]["values"] == report(run_cli(*asked[:3], str(opt), *asked[4:]))["tensors"][0]["values"]
    assert report(run_cli(*asked, "--offline"))["tensors"] == whole["tensors"]


@pytest.mark.parametrize("offline", [False, True])
def test_one_file_comes_before_shards_as_in_transformers(
    offline: bool, online: LoopbackHub, model: Path, tmp_path: Path, run_cli: Run
) -> None:
    """A repository that was converted: a file of safetensors, shards of it with other numbers, an index of torch's."""
    whole = files_of(model)
    change_weights(model, lambda tensors: [tensor.add_(1) for tensor in tensors.values()] and None)
    expected = report(run_cli("embed", "hi", "-m", "./model", "--json"))["tensors"]
    to_shards(model)
    shards = {name: content for name, content in files_of(model).items() if name.startswith("model")}
    index = {
        "pytorch_model.bin.index.json": b'{"metadata": {}, "weight_map": {"a": "pytorch_model-00001-of-00001.bin"}}'
    }
    online.add(REPO, whole | shards | index)
    asked = ("embed", "hi", "-m", REPO, "--json")
    found = report(run_cli(*asked))
    assert [Path(each["path"]).name for each in found["loading"]["files"]] == ["model.safetensors"]
    assert found["tensors"] != expected
    more = ["--offline"] * offline
    assert report(run_cli(*asked, *more))["tensors"] == found["tensors"]
    plan = report(run_cli(*asked, "--dry-run", *more))
    assert [Path(each["path"]).name for each in plan["loading"]["files"]] == ["model.safetensors"]


def test_an_adapter_alone_on_the_hub(online: LoopbackHub, opt: Path, tmp_path: Path, run_cli: Run) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(opt), config)
    model.save_pretrained(str(tmp_path / "adapter"))
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": REPO}))
    online.add(REPO, files_of(opt))
    online.add("team/adapter", files_of(tmp_path / "adapter"))
    asked = ("run", "hi", "-s", "logits", "--json", "--values", "-m")
    found = report(run_cli(*asked, "team/adapter"))
    assert found["tensors"][0]["values"] == report(run_cli(*asked, tmp_path / "adapter"))["tensors"][0]["values"]
    assert found["tensors"][0]["values"] != report(run_cli(*asked, opt))["tensors"][0]["values"]
    assert report(run_cli(*asked, "team/adapter", "--offline"))["tensors"] == found["tensors"]


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return save_tiny("bert", tmp_path / "bert", task="masked-lm")


def sentence_files(encoder: Mapping[str, bytes], inner: str = "") -> dict[str, bytes]:
    """A sentence-transformers model of an encoder's files, by default in its own folder."""
    modules = [(inner, "Transformer"), ("1_Pooling", "Pooling")]
    content: dict[str, Any] = {
        "modules.json": [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in modules],
        "1_Pooling/config.json": {"pooling_mode": "mean", "include_prompt": False},
        "config_sentence_transformers.json": {"prompts": {"q": "Find: "}, "default_prompt_name": "q"},
    }
    within = {"sentence_bert_config.json": b'{"max_seq_length": 12}', **encoder}
    files = {name: json.dumps(each).encode() for name, each in content.items()}
    return files | {f"{inner}/{name}" if inner else name: each for name, each in within.items()}


def in_folder(files: Mapping[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_sentence_encoder_on_the_hub(online: LoopbackHub, bert: Path, tmp_path: Path, run_cli: Run) -> None:
    """What is beside the model is fetched with it."""
    files = sentence_files(files_of(bert))
    online.add(REPO, files)
    asked = ("embed", "one two three four", "--pooled", "--json", "--values", "-m")
    wanted = report(run_cli(*asked, in_folder(files, tmp_path / "local")))
    found = report(run_cli(*asked, REPO))
    assert found["tensors"] == wanted["tensors"]
    assert found["notes"] == wanted["notes"]
    assert "12 of " in found["notes"][-1]
    assert "'Find: '" in found["notes"][-1]
    assert report(run_cli(*asked, REPO, "--offline"))["tensors"] == wanted["tensors"]


def test_an_encoder_in_a_folder_of_a_repository(online: LoopbackHub, bert: Path, tmp_path: Path, run_cli: Run) -> None:
    files = sentence_files(files_of(bert), "0_Transformer")
    online.add(REPO, files)
    said = sentence(run_cli("embed", "hi", "-m", REPO, "--pooled"))
    assert f"{REPO!r} on the Hub has its encoder in a folder of its own, 0_Transformer" in said
    assert f"'hf download {REPO} --local-dir FOLDER'" in said
    local = in_folder(files, tmp_path / "local")
    assert report(run_cli("embed", "hi", "-m", local, "--pooled", "--json"))["tensors"][0]["name"] == "pooled"


def test_an_adapter_of_a_sentence_encoder(online: LoopbackHub, bert: Path, tmp_path: Path, run_cli: Run) -> None:
    """The modules are the adapter's, not those of its base."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    config = LoraConfig(r=2, target_modules=["query"], init_lora_weights=False)
    model = get_peft_model(AutoModelForMaskedLM.from_pretrained(bert), config)
    model.save_pretrained(str(tmp_path / "adapter"))
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": REPO}))
    online.add(REPO, files_of(bert))
    tokenizer = {name: each for name, each in files_of(bert).items() if name.startswith("tokenizer")}
    online.add("team/adapter", sentence_files(files_of(tmp_path / "adapter") | tokenizer))
    found = report(run_cli("embed", "one two", "--pooled", "--json", "--values", "-m", "team/adapter"))
    text = "Find: one two"
    ids = AutoTokenizer.from_pretrained(bert)(text, truncation=True, max_length=12)["input_ids"]
    prompt = len(AutoTokenizer.from_pretrained(bert)("Find: ")["input_ids"]) - 1  # without its [SEP]
    with torch.no_grad():
        states = model.eval()(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
    assert found["tensors"][0]["values"][0] == pytest.approx(states[prompt:].mean(0).tolist(), abs=1e-5)
    assert "does not say how it pools" in sentence(run_cli("embed", "one", "--pooled", "-m", REPO))


def test_gguf_files_alone_on_the_hub(online: LoopbackHub, model: Path, run_cli: Run) -> None:
    gguf()(model)
    content = (model.parent / "model.gguf").read_bytes()
    online.add("team/one", {"m.gguf": content})
    online.add("team/two", {"m.Q4_0.gguf": content, "m.Q8_0.gguf": content, "README.md": b"# two"})
    expected = report(run_cli("tokenize", "hi", "-m", "./model.gguf", "--json"))["input"]
    for name in ("team/one", "team/two/m.Q8_0.gguf"):
        assert report(run_cli("tokenize", "hi", "-m", name, "--json"))["input"] == expected
        assert report(run_cli("tokenize", "hi", "-m", name, "--json", "--offline"))["input"] == expected
    said = sentence(run_cli("tokenize", "hi", "-m", "team/two"))
    assert "holds 2 .gguf files, m.Q4_0.gguf, m.Q8_0.gguf: give one of them, such as team/two/m.Q4_0.gguf" in said
    assert "has no file 'x.gguf'" in sentence(run_cli("tokenize", "hi", "-m", "team/two/x.gguf"))


def test_surplus_tensors_in_shards_that_are_not_fetched(online: LoopbackHub, model: Path, run_cli: Run) -> None:
    change_config(model, num_hidden_layers=2)
    to_shards(model)
    online.add(REPO, files_of(model))
    asked = ("embed", "hi", "-m", REPO, "--json")
    said = "The checkpoint holds 16 tensors that config.json has no place for"
    for arguments in ((*asked, "--dry-run"), asked, (*asked, "--offline"), ("tree", REPO, "--json")):
        assert len([note for note in report(run_cli(*arguments))["notes"] if said in note]) == 1, arguments
    snapshot = resolve(ModelChoice(name=REPO, offline=True)).config_folder()
    assert len(list(snapshot.glob("model-*"))) == 1, "of the two shards, the other is known by the index alone"


def test_a_plan_fetches_headers_alone(online: LoopbackHub, opt: Path, tmp_path: Path, run_cli: Run) -> None:
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(opt).save_pretrained(tmp_path, max_shard_size="200KB")
    shards = {name: content for name, content in files_of(tmp_path).items() if name.startswith("model-")}
    index = (tmp_path / "model.safetensors.index.json").read_bytes()
    small = {name: content for name, content in files_of(opt).items() if name != "model.safetensors"}
    online.add(REPO, small | shards | {"model.safetensors.index.json": index})
    asked = ("embed", "hi", "-m", REPO, "--json")
    planned = report(run_cli(*asked, "--dry-run"))["loading"]
    needed = json.loads(index)["weight_map"]["model.decoder.embed_tokens.weight"]
    assert [(file["path"], file["origin"], file["repository"]) for file in planned["files"]] == [(needed, "hub", REPO)]
    assert planned["download_bytes"] == len(shards[needed])
    assert [name for name in online.fetched() if name in shards] == sorted(name for name, _ in online.ranges)
    assert max(size for _, size in online.ranges) <= 100_001, "what huggingface_hub asks of a file to read its header"
    done = report(run_cli(*asked))["loading"]
    assert done["disk_bytes"] == planned["disk_bytes"]
    assert [(Path(file["path"]).name, file["origin"]) for file in done["files"]] == [(needed, "cache")]
    again = report(run_cli(*asked, "--dry-run"))["loading"]
    assert (again["download_bytes"], again["disk_bytes"]) == (0, planned["disk_bytes"])


def test_a_plan_of_a_pytorch_checkpoint_counts_the_whole_file(
    online: LoopbackHub, opt: Path, tmp_path: Path, run_cli: Run
) -> None:
    files = torch_files(opt, tmp_path)
    online.add(REPO, files)
    planned = report(run_cli("embed", "hi", "-m", REPO, "--json", "--dry-run"))["loading"]
    assert planned["download_bytes"] == planned["disk_bytes"] == len(files["pytorch_model.bin"])
    assert planned["files"][0]["tensors"] is None
    assert "pytorch_model.bin" not in online.fetched()


def test_a_plan_of_pytorch_shards_counts_those_in_use(
    online: LoopbackHub, opt: Path, tmp_path: Path, run_cli: Run
) -> None:
    stored = sharded_bin(opt, tmp_path / "stored")
    weight_map = json.loads((stored / "pytorch_model.bin.index.json").read_bytes())["weight_map"]
    small = {name: content for name, content in files_of(opt).items() if name != "model.safetensors"}
    online.add(REPO, small | files_of(stored))
    needed = weight_map["model.decoder.embed_tokens.weight"]
    planned = report(run_cli("embed", "hi", "-m", REPO, "--json", "--dry-run"))["loading"]
    assert [file["path"] for file in planned["files"]] == [needed]
    assert planned["download_bytes"] == (stored / needed).stat().st_size
    done = report(run_cli("embed", "hi", "-m", REPO, "--json"))["loading"]
    assert [Path(file["path"]).name for file in done["files"]] == [needed]


def test_a_plan_offline_of_what_was_never_fetched(tiny: LoopbackHub, run_cli: Run) -> None:
    run_cli("tree", REPO)
    assert "not in the local cache" in sentence(run_cli("embed", "hi", "-m", REPO, "--dry-run", "--offline"))


# Revisions


def test_the_commit_is_reported(tiny: LoopbackHub, run_cli: Run) -> None:
    commit = tiny.repositories[REPO].references["main"]
    assert report(run_cli("tree", REPO, "--json"))["model"]["revision"] == commit
    assert report(run_cli("tokenize", "hi", "-m", REPO, "--json"))["model"]["revision"] == commit


def test_a_directory_has_no_revision(opt: Path, run_cli: Run) -> None:
    assert report(run_cli("tokenize", "hi", "-m", opt, "--json"))["model"]["revision"] is None


@pytest.mark.parametrize("by", ["branch", "commit"])
def test_revision_picks_a_branch_or_a_commit(by: str, tiny: LoopbackHub, opt_variant: Any, run_cli: Run) -> None:
    commit = tiny.add(REPO, files_of(opt_variant("no_bias")), revision="no-bias")
    asked = "no-bias" if by == "branch" else commit
    chosen = report(run_cli("tree", REPO, "--revision", asked, "--json"))["model"]
    plain = report(run_cli("tree", REPO, "--json"))["model"]
    assert chosen["revision"] == commit
    assert plain["revision"] != commit
    assert chosen["num_parameters"] < plain["num_parameters"]


def test_a_missing_revision_is_named(tiny: LoopbackHub, run_cli: Run) -> None:
    said = sentence(run_cli("tree", REPO, "--revision", "v9"))
    assert all(word in said for word in (repr(REPO), "'v9'", "--revision"))


# Offline


@pytest.mark.parametrize("how", ["option", "environment", "no server"])
def test_a_fetched_model_works_without_the_server(
    how: str, tiny: LoopbackHub, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = report(run_cli("embed", "hi", "-m", REPO, "--json"))
    tiny.close()
    close_session()  # a new process has no open connection
    if how == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    options = ["--offline"] if how == "option" else []
    assert report(run_cli("embed", "hi", "-m", REPO, "--json", *options)) == first


def test_offline_asks_nothing(tiny: LoopbackHub, run_cli: Run) -> None:
    said = sentence(run_cli("tree", REPO, "--offline"))
    assert tiny.requests == []
    assert all(word in said for word in (repr(REPO), "not in the local cache", "--offline"))


def test_weights_that_were_never_fetched_are_missed_offline(tiny: LoopbackHub, run_cli: Run) -> None:
    report(run_cli("tokenize", "hi", "-m", REPO, "--json"))
    said = sentence(run_cli("embed", "hi", "-m", REPO, "--offline"))
    assert all(word in said for word in (repr(REPO), "not in the local cache", "--offline"))


@pytest.mark.parametrize(
    ("environment", "cause"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE=1"),
        ({"HF_HUB_OFFLINE": "yes", "TRANSFORMERS_OFFLINE": "1"}, "HF_HUB_OFFLINE=yes"),
        ({"TRANSFORMERS_OFFLINE": "True"}, "TRANSFORMERS_OFFLINE=True"),
        ({"HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": "ON"}, "TRANSFORMERS_OFFLINE=ON"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_offline_by_the_environment_names_the_variable(
    environment: dict[str, str], cause: str, tiny: LoopbackHub, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every sentence: no snapshot, a snapshot without weights, planned and run."""
    report(run_cli("tokenize", "hi", "-m", REPO, "--json"))
    tiny.requests.clear()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for asked in (("tree", "team/other"), ("embed", "hi", "-m", REPO), ("embed", "hi", "-m", REPO, "--dry-run")):
        said = sentence(run_cli(*asked))
        assert f"{cause} is set: unset it to ask the Hub" in said
        assert "--offline" not in said
        assert f"{cause} is set" not in sentence(run_cli(*asked, "--offline")), "without the option, too, it says so"
    assert tiny.requests == []


@pytest.mark.parametrize("value", ["0", "no", ""])
def test_a_variable_that_forbids_nothing(value: str, tiny: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub asks the second variable only where the first is empty."""
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert resolve(ModelChoice(name=REPO)).place == Repository(REPO)
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    found = resolve(ModelChoice(name=REPO)).place
    assert isinstance(found, Repository)
    assert found.offline == (value == "")


@pytest.mark.parametrize(
    ("offline_by", "next_step"),
    [
        (None, "the Hub cannot be asked offline: run once without offline"),
        ("HF_HUB_OFFLINE=1", "HF_HUB_OFFLINE=1 is set: unset it to ask the Hub"),
    ],
)
def test_shards_that_are_not_in_the_cache(offline_by: str | None, next_step: str, model: Path) -> None:
    to_shards(model)
    shards = sorted(model.glob("model-*.safetensors"))
    shards[1].unlink()
    patterns = (CONFIG_FILES, SAFETENSORS_FILES, tuple(shard.name for shard in shards))
    hub = Repository(REPO, None, True, offline_by, snapshots=dict.fromkeys(patterns, model))
    with pytest.raises(SourceError) as raised:
        Source(REPO, hub).weights()
    assert str(raised.value) == f"'{REPO}' is not fully in the local cache: it lacks {shards[1].name}; {next_step}"


def test_a_repository_without_weights_says_so(online: LoopbackHub, opt: Path, run_cli: Run) -> None:
    files = files_of(opt)
    del files["model.safetensors"]
    online.add(REPO, files)
    said = sentence(run_cli("embed", "hi", "-m", REPO))
    assert all(word in said for word in (repr(REPO), "no weights", "model.safetensors", "pytorch_model.bin"))


def test_a_repository_without_a_config_says_so(online: LoopbackHub, run_cli: Run) -> None:
    online.add(REPO, {"README.md": b"# nothing"})
    assert "no config.json" in sentence(run_cli("tree", REPO))


# What the Hub refuses


@pytest.mark.parametrize(
    ("refusal", "fragments"),
    [
        (GATED, ("permission", "hf auth login")),
        (PRIVATE, ("no model", "private", "a local directory")),
        (BROKEN, ("Hub",)),
        (Refusal(403, ""), ("Hub",)),
    ],
    ids=["gated", "private", "broken", "forbidden"],
)
def test_a_refusal_is_one_sentence(
    refusal: Refusal, fragments: tuple[str, ...], online: LoopbackHub, run_cli: Run
) -> None:
    online.refuse(REPO, refusal)
    said = sentence(run_cli("tree", REPO))
    assert repr(REPO) in said
    assert all(fragment in said for fragment in fragments), said


@pytest.mark.parametrize("status", [500, 403])
def test_a_server_that_answers_is_not_called_unreachable(status: int, online: LoopbackHub, run_cli: Run) -> None:
    online.refuse(REPO, Refusal(status, ""))
    said = sentence(run_cli("tree", REPO))
    assert str(status) in said
    assert "check the network" not in said


def test_a_repository_that_does_not_exist(online: LoopbackHub, run_cli: Run) -> None:
    said = sentence(run_cli("tree", "team/no-such-model"))
    assert all(word in said for word in ("'team/no-such-model'", "no model", "private"))


def test_verbose_shows_where_it_came_from(online: LoopbackHub, run_cli: Run) -> None:
    result = run_cli("tree", "team/no-such-model", "-v")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Traceback" in result.stderr
    assert "RepositoryNotFoundError" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("txinspect: ")


def test_a_server_that_dies_in_the_middle_is_one_sentence(
    tiny: LoopbackHub, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    tiny.dies_in = "model.safetensors"
    said = sentence(run_cli("embed", "hi", "-m", REPO))
    assert "unexpected" not in said
    assert repr(REPO) in said
    assert "Hub" in said


def test_what_a_dying_server_left_is_not_taken_for_a_model(
    tiny: LoopbackHub, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    tiny.dies_in = "model.safetensors"
    assert run_cli("embed", "hi", "-m", REPO).exit_code == 1
    said = sentence(run_cli("embed", "hi", "-m", REPO, "--offline"))
    assert repr(REPO) in said
    assert "not in the local cache" in said


@pytest.mark.parametrize("kind", ["no safetensors", "no weights", "dying"])
def test_huggingface_hub_itself_says_nothing(
    kind: str,
    online: LoopbackHub,
    opt: Path,
    tmp_path: Path,
    run_cli: Run,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    impatient(monkeypatch)
    files = torch_files(opt, tmp_path)
    online.dies_in = "pytorch_model.bin" if kind == "dying" else None
    online.add(
        REPO, {name: content for name, content in files.items() if name.endswith("json") or kind != "no weights"}
    )
    assert run_cli("embed", "hi", "-m", REPO).exit_code == (0 if kind == "no safetensors" else 1)
    # Its logger writes warnings to stderr, beside the one sentence.
    assert [record.getMessage() for record in caplog.records if record.name.startswith("huggingface_hub")] == []


# In a process of its own, as a person runs it: the environment alone decides


def environment(hub: str, home: Path) -> Mapping[str, str]:
    return {
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": hub,
        "HF_HOME": str(home / "hf"),
        "HF_HUB_CACHE": str(home / "hf" / "hub"),
        "TXINSPECT_CACHE": str(home / "txinspect"),
    }


Process = Callable[..., subprocess.CompletedProcess[bytes]]


def test_a_process_downloads_into_its_home_and_works_offline_afterwards(
    hub: LoopbackHub, opt: Path, tmp_path: Path, run_process: Process
) -> None:
    commit = hub.add(REPO, files_of(opt))
    variables = environment(hub.url, tmp_path)
    first = run_process("tokenize", "hi", "-m", REPO, "--json", **variables)
    assert (first.returncode, first.stderr) == (0, b"")
    assert json.loads(first.stdout)["model"]["revision"] == commit
    assert (tmp_path / "hf" / "hub" / "models--team--tiny-opt" / "snapshots" / commit / "tokenizer.json").exists()
    assert "model.safetensors" not in hub.fetched()
    hub.close()
    again = run_process("tokenize", "hi", "-m", REPO, "--json", "--offline", **variables)
    assert (again.returncode, again.stdout) == (0, first.stdout)


def test_a_hub_that_cannot_be_reached(tmp_path: Path, run_process: Process) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refused = f"http://127.0.0.1:{unused.getsockname()[1]}"  # bound, but nobody listens
        result = run_process("tokenize", "hi", "-m", REPO, **environment(refused, tmp_path))
    assert (result.returncode, result.stdout) == (1, b"")
    said = result.stderr.decode()
    assert said.startswith("txinspect: ")
    assert said.count("\n") == 1
    assert all(word in said for word in (repr(REPO), "cannot be reached", "network"))


def test_a_revision_of_what_is_no_hub_model_is_refused(tmp_path: Path, bundled: Path) -> None:
    for name in ("mini", str(tmp_path)):
        with pytest.raises(UsageError, match=r"^revision picks a snapshot on the Hub"):
            resolve(ModelChoice(name=name, revision="main"))
