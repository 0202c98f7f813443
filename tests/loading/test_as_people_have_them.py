"""Checkpoints as people have them, from every tool there is: what transformers loads is loaded, to the last bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from tests.making.bad_input import EMBED, Run, in_model, sentence
from tests.making.checkpoints import LFS_POINTER, change_config, change_weights, to_shards
from tests.making.models import save_tiny
from tests.making.strangers.gguf_files import gguf
from txinspect import ModelChoice, RunQuery, TokenizeQuery, inspect
from txinspect.commands.plan import PlanQuery
from txinspect.commands.tree import TreeQuery
from txinspect.texts import kept

pytestmark = pytest.mark.strangers

TEXT = "abc def"


def logits(folder: Path, text: str = TEXT) -> torch.Tensor:
    query = RunQuery(model=ModelChoice(name=str(folder)), text=text, stages=("logits",), values=True)
    return torch.tensor(inspect(query).tensors[0].values)


def plain_logits(folder: Path, text: str = TEXT, kind: Any = AutoModelForCausalLM) -> torch.Tensor:
    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        found: torch.Tensor = kind.from_pretrained(folder).eval()(input_ids=ids).logits
    return found


# Ties


@pytest.mark.parametrize("kept", ["head", "embeddings", "both"])
@pytest.mark.parametrize("kind", ["llama", "opt", "gpt2", "gemma3_text"])
def test_ties_are_what_is_stored(kind: str, kept: str, tmp_path: Path) -> None:
    """One tensor of two that are tied is enough, whichever it is; two that differ are two."""
    folder = save_tiny(kind, tmp_path / "m")
    change_config(folder, tie_word_embeddings=True)

    def keep(tensors: dict[str, Any]) -> None:
        name = next(each for each in tensors if each.endswith(("embed_tokens.weight", "wte.weight")))
        table = tensors[name]
        tensors["lm_head.weight"] = table + 1 if kept == "both" else table.clone()
        if kept == "head":
            del tensors[name]
        elif kept == "embeddings":
            del tensors["lm_head.weight"]

    change_weights(folder, keep)
    assert torch.equal(logits(folder), plain_logits(folder))
    choice = ModelChoice(name=str(folder))
    tree = inspect(TreeQuery(model=choice))
    heads = [each for module in tree.modules for each in module.parameters if module.name == "lm_head"]
    assert [each.tied_to is None for each in heads] == [kept == "both"]
    plain = AutoModelForCausalLM.from_pretrained(folder)
    assert tree.model.num_parameters == sum(each.numel() for each in plain.parameters())
    query = RunQuery(model=choice, text=TEXT, stages=("logits",))
    plan, run = inspect(PlanQuery(of=query)).loading, inspect(query).loading
    assert (plan.memory_bytes, plan.disk_bytes) == (run.memory_bytes, run.disk_bytes)


# Adapters


def test_an_adapter_on_resized_embeddings_is_what_peft_loads(tmp_path: Path) -> None:
    base, adapter = save_tiny("llama", tmp_path / "base"), tmp_path / "adapter"
    tokenizer = AutoTokenizer.from_pretrained(base)
    small = AutoModelForCausalLM.from_pretrained(base)
    small.resize_token_embeddings(len(tokenizer))
    small.save_pretrained(base)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|a|>", "<|b|>"]})
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(len(tokenizer))
    config = LoraConfig(
        r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"], task_type="CAUSAL_LM"
    )
    get_peft_model(model, config).save_pretrained(str(adapter))
    tokenizer.save_pretrained(adapter)
    text = "ab <|b|> c"
    assert torch.equal(logits(adapter, text), plain_logits(adapter, text, AutoPeftModelForCausalLM))
    report = inspect(RunQuery(model=ModelChoice(name=str(adapter)), text=text, stages=("logits",)))
    assert report.model.vocab_size == len(tokenizer) == report.tensors[0].shape[-1]


# What other tools write


@pytest.mark.parametrize("key", ["torch_dtype", "dtype"])
def test_a_type_by_its_name_in_torch(key: str, model: Path, run_cli: Run) -> None:
    change_config(model, **({"dtype": None} | {key: "torch.float16"}))
    assert run_cli("tokenize", "hi", "-m", "./model").exit_code == 0
    assert "float16" in run_cli("tree", "./model").stdout
    assert json.loads(run_cli(*EMBED, "--json").stdout)["tensors"][0]["dtype"] == "float16"


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "fp8"])
def test_full_weights_under_a_quantization_config(method: str, model: Path, run_cli: Run) -> None:
    """Plan and run say it in the same words."""
    change_config(model, quantization_config={"quant_method": method, "load_in_4bit": True, "bits": 4})
    said = {sentence(run_cli(*command)) for command in (in_model("plan", "hi"), EMBED)}
    assert said == {
        f"txinspect: config.json of './model' has a quantization_config of {method!r}, but the weights are stored in "
        f"full precision (float32): take the key quantization_config out of it\n"
    }


@pytest.mark.parametrize(("prefix", "by"), [("module.", "DataParallel"), ("_orig_mod.", "torch.compile")])
def test_the_prefix_of_a_wrapper_is_named(prefix: str, by: str, model: Path, run_cli: Run) -> None:
    def rename(tensors: dict[str, Any]) -> None:
        for name in list(tensors):
            tensors[prefix + name] = tensors.pop(name)

    change_weights(model, rename)
    said = {sentence(run_cli(*command)) for command in (in_model("plan", "hi"), EMBED)}
    assert len(said) == 1
    assert f"is named {prefix}…, as {by} names" in said.pop()


def test_an_index_without_metadata(model: Path, run_cli: Run) -> None:
    expected = json.loads(run_cli(*EMBED, "--json").stdout)["tensors"]
    to_shards(model)
    index = model / "model.safetensors.index.json"
    odd: tuple[dict[str, Any], ...] = ({"metadata": None}, {"metadata": []}, {})
    for metadata in odd:
        content = json.loads(index.read_text())
        content.pop("metadata", None)
        index.write_text(json.dumps(content | metadata))
        assert json.loads(run_cli(*EMBED, "--json").stdout)["tensors"] == expected
        assert run_cli(*in_model("plan", "hi")).exit_code == 0


def test_links_that_lead_nowhere_are_named(model: Path, run_cli: Run) -> None:
    """A snapshot that was copied without its blobs."""
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        content = (model / name).read_bytes()
        (model / name).unlink()
        (model / name).symlink_to(f"../../blobs/{name}")
        said = sentence(run_cli(*EMBED))
        assert f"is a link to ../../blobs/{name}, which is not there" in said
        (model / name).unlink()
        (model / name).write_bytes(content)


def test_a_tokenizer_that_is_a_pointer(model: Path, run_cli: Run) -> None:
    (model / "tokenizer.json").write_bytes(LFS_POINTER)
    said = sentence(run_cli("tokenize", "hi", "-m", "./model"))
    assert said.startswith(
        "txinspect: tokenizer.json of './model' is a Git LFS pointer, not the file: run 'git lfs pull'"
    )


def test_a_sentencepiece_model_needs_sentencepiece(model: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).unlink()
    (model / "tokenizer.model").write_bytes(b"\n\x05\n\x01a\x15\x00")
    monkeypatch.setattr("txinspect.texts.auto_tokenizer.is_installed", lambda _: False)
    said = sentence(run_cli("tokenize", "hi", "-m", "./model"))
    assert "needs sentencepiece and protobuf: install with 'pip install sentencepiece protobuf'" in said


# Names and places


def test_a_folder_that_hides_a_model_of_the_hub(tmp_path: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gpt2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "the local folder ./gpt2 hides the Hub's 'gpt2'" in sentence(run_cli("tokenize", "hi", "-m", "gpt2"))
    assert "hides" not in sentence(run_cli("tokenize", "hi", "-m", "./gpt2"))


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-of-this-name/model", "a\0b"])
def test_names_that_cannot_be_looked_up(name: str, run_cli: Run) -> None:
    assert len(sentence(run_cli("tree", name))) < 600


def test_gguf_files_by_other_names(model: Path, run_cli: Run) -> None:
    gguf()(model)
    file = model.parent / "model.gguf"
    shutil.copy(file, model.parent / "MODEL.GGUF")
    assert run_cli("params", "./MODEL.GGUF").exit_code == 0
    (model.parent / "folder").mkdir()
    shutil.copy(file, model.parent / "folder")
    assert "no config.json, but model.gguf: give the file itself, such as 'folder/model.gguf'" in sentence(
        run_cli("tree", "folder")
    )
    part = shutil.copy(file, model.parent / "m-00001-of-00003.gguf")
    said = {sentence(run_cli(*command, Path(part).name)) for command in (("tree",), ("plan", "hi", "-m"), ("params",))}
    assert len(said) == 1
    assert "is part 1 of 3 of a split .gguf" in said.pop()


# Tokens


def test_every_file_that_a_tokenizer_of_transformers_reads_is_known() -> None:
    """What each class calls its files, read from the sources."""
    import re
    from fnmatch import fnmatch

    import transformers

    from txinspect.sources.names import TOKENIZER_FILES

    found = set[str]()
    for source in Path(transformers.__file__).parent.glob("models/*/tokenization*.py"):
        if table := re.search(
            r"VOCAB_FILES_NAMES\s*(?::[^=]*)?=\s*\{(.*?)\}", source.read_text(encoding="utf-8"), re.DOTALL
        ):
            found |= set(re.findall(r":\s*\"([^\"]+)\"", table[1]))
    assert len(found) > 15
    assert [name for name in sorted(found) if not any(fnmatch(name, each) for each in TOKENIZER_FILES)] == []


def save_tokenizer(folder: Path, tokenizer: Tokenizer, **options: Any) -> None:
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>", **options)
    fast.save_pretrained(folder)


def byte_level() -> Tokenizer:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {token: index for index, token in enumerate(["<s>", "<unk>", "｜begin｜", *sorted(alphabet)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def metaspace() -> Tokenizer:
    words = ["<s>", "<unk>", "▁", "▁a", *"abcdefghijklmnopqrstuvwxyz ", *[f"<0x{byte:02X}>" for byte in range(256)]]
    tokenizer = Tokenizer(
        models.BPE({word: index for index, word in enumerate(words)}, [], unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


@pytest.mark.parametrize("make", [byte_level, metaspace])
@pytest.mark.parametrize("text", ["a b", "  a▁b  ", "a <x> b", "a<x>b", "naïve 🦊", "\n\ta ", "<s>a"])
def test_tokens_reassemble_the_text(make: Callable[[], Tokenizer], text: str, model: Path) -> None:
    """Added tokens that take in the blanks beside them, a ▁ of the text's own, bytes of a character."""
    from tokenizers import AddedToken

    tokenizer = make()
    tokenizer.add_tokens([AddedToken("<x>", lstrip=True, rstrip=True)])
    save_tokenizer(model, tokenizer)
    tokens = inspect(TokenizeQuery(model=ModelChoice(name=str(model)), text=text, special=False)).input.tokens
    pieces = [each.text.encode() if each.text is not None else bytes.fromhex(each.bytes or "") for each in tokens]
    assert b"".join(pieces).decode() == text


def test_a_special_token_outside_the_byte_alphabet(model: Path) -> None:
    from tokenizers import processors

    tokenizer = byte_level()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="｜begin｜ $A", special_tokens=[("｜begin｜", tokenizer.token_to_id("｜begin｜"))]
    )
    save_tokenizer(model, tokenizer)
    first = inspect(TokenizeQuery(model=ModelChoice(name=str(model)), text="a")).input.tokens[0]
    assert (first.token, first.text) == ("｜begin｜", "｜begin｜")


@pytest.mark.parametrize("before", [None, "a", "<s>"])
def test_ids_do_not_depend_on_what_was_tokenized_before(before: str | None, model: Path) -> None:
    """A tokenizer that splits special tokens within a text: its fast form alone does not."""
    save_tokenizer(model, byte_level(), split_special_tokens=True)
    choice = ModelChoice(name=str(model))
    if before is not None:
        inspect(TokenizeQuery(model=choice, text=before))
    found = inspect(TokenizeQuery(model=choice, text="a<s>b")).input.input_ids[0]
    assert found == AutoTokenizer.from_pretrained(model)("a<s>b")["input_ids"]


def test_the_weights_of_a_gguf_are_not_read_for_its_tokenizer(
    model: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What decides a tokenizer is in the file's header."""
    from txinspect.sources.resolving import resolve

    gguf()(model)
    file = model.parent / "model.gguf"
    source = resolve(ModelChoice(name=str(file)))
    before = kept.digest(file.parent, source)
    with file.open("r+b") as stream:
        stream.seek(-8, 2)
        stream.write(b"\1" * 8)
    assert kept.digest(file.parent, source) == before


def test_a_user_without_a_home(model: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: Any) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("TXINSPECT_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_path", nowhere)
    assert run_cli("tokenize", "hi", "-m", "./model").exit_code == 0
    assert run_cli(*EMBED).exit_code == 0


# Sizes


def as_gptq(tensors: dict[str, Any]) -> None:
    """Codes, scales and zero points in the place of each projection, as GPTQ stores them."""
    for name in [each for each in tensors if each.endswith("_proj.weight")]:
        rows, columns = tensors.pop(name).shape
        path = name.removesuffix("weight")
        tensors[f"{path}qweight"] = torch.zeros(columns // 8, rows, dtype=torch.int32)
        tensors[f"{path}qzeros"] = torch.zeros(1, rows // 8, dtype=torch.int32)
        tensors[f"{path}scales"] = torch.ones(1, rows, dtype=torch.float16)
        tensors[f"{path}g_idx"] = torch.zeros(columns, dtype=torch.int32)


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_a_tree_of_a_quantized_checkpoint_needs_no_package(method: str, tmp_path: Path, run_cli: Run) -> None:
    folder = save_tiny("llama", tmp_path / "m")
    change_config(folder, quantization_config={"quant_method": method, "bits": 4, "group_size": 128})
    change_weights(folder, as_gptq)
    tree = inspect(TreeQuery(model=ModelChoice(name=str(folder))))
    in_file = {name: each.nbytes for name, each in load_file(folder / "model.safetensors").items()}
    assert tree.totals.bytes == sum(in_file.values())
    path = "model.layers.0.self_attn.q_proj"
    own = next(each for each in tree.modules if each.name == path)
    assert own.bytes == sum(size for name, size in in_file.items() if name.startswith(f"{path}."))
    assert (own.parameters[0].dtype, own.parameters[0].shape) == (method, [64, 64])
    assert any("pip install" in note for note in tree.notes)
    assert run_cli("stages", folder).exit_code == 0
    assert "which needs the package" in sentence(run_cli("embed", "hi", "-m", folder))


@pytest.mark.parametrize("kind", ["4bit", "8bit"])
def test_sizes_of_a_checkpoint_of_bitsandbytes_are_its_headers_s(kind: Any, tmp_path: Path) -> None:
    from transformers import BitsAndBytesConfig

    folder = save_tiny("llama", tmp_path / "m")
    config = BitsAndBytesConfig(load_in_4bit=kind == "4bit", load_in_8bit=kind == "8bit")
    stored = tmp_path / "stored"
    AutoModelForCausalLM.from_pretrained(folder, quantization_config=config, device_map="cpu").save_pretrained(stored)
    AutoTokenizer.from_pretrained(folder).save_pretrained(stored)
    tree = inspect(TreeQuery(model=ModelChoice(name=str(stored))))
    in_file = load_file(stored / "model.safetensors")
    assert tree.totals.bytes == sum(each.nbytes for each in in_file.values())
