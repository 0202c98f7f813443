"""What a person gives that is no file, or of no such kind: dumps, lenses, places to save to, references in a cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import txinspect
from tests.making.bad_input import EMBED, Run, in_model, sentence, usage
from tests.making.checkpoints import change_config, change_tokenizer, to_torch
from txinspect import DiffQuery, RunQuery, inspect

pytestmark = pytest.mark.strangers

LOGITS = "logits"
TEXT = "hi there"

Process = Callable[..., "subprocess.CompletedProcess[bytes]"]

FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
"""Of an added token."""

BUNDLED = Path(txinspect.__file__).parent / "bundled"


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.tensor(inspect(RunQuery(text=TEXT, stages=(LOGITS,), values=True)).tensors[0].values)


@pytest.fixture
def seq2seq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An encoder–decoder of its own, as ./model in the working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(BUNDLED / "transformer-mini", tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_is_no_file(tmp_path: Path, run_cli: Run) -> None:
    """A pipe would be waited for."""
    for name in ("pipe.npz", "pipe.safetensors", "pipe.pt"):
        os.mkfifo(tmp_path / name)
    for arguments in (
        ("run", "hi", "-s", LOGITS, "--save", tmp_path / "pipe.npz"),
        ("run", "hi", "-s", LOGITS, "--save", tmp_path / "pipe.safetensors", "--overwrite"),
        ("diff", "hi", "--against-file", tmp_path / "pipe.npz"),
        ("diff", "hi", "--against-file", tmp_path / "pipe.safetensors"),
        ("lens", "hi", "--lens", tmp_path / "pipe.pt"),
    ):
        assert "is a named pipe, not a file: give" in sentence(run_cli(*arguments))


def test_a_link_to_itself_cannot_be_written(tmp_path: Path, run_cli: Run) -> None:
    (tmp_path / "loop.npz").symlink_to("loop.npz")
    sentence(run_cli("run", "hi", "-s", LOGITS, "--save", tmp_path / "loop.npz"))


def test_dumps_of_every_type(tmp_path: Path, logits: torch.Tensor, run_cli: Run) -> None:
    def compared(**tensors: Any) -> Any:
        save_file(tensors, tmp_path / "x.safetensors")
        return inspect(DiffQuery(text=TEXT, against_file=tmp_path / "x.safetensors", stages=(LOGITS,)))

    assert 0 < compared(logits=logits.to(torch.float8_e4m3fn)).stages[0].rel_l2 < 0.1
    assert compared(logits=logits > 0).stages[0].rel_l2 > 0.1
    np.savez(tmp_path / "big.npz", logits=logits.numpy().astype(">f4"))
    report = inspect(DiffQuery(text=TEXT, against_file=tmp_path / "big.npz", stages=(LOGITS,), tolerance=0.0))
    assert report.stages[0].rel_l2 == 0.0
    save_file({LOGITS: logits.to(torch.complex64)}, tmp_path / "x.safetensors")
    asked = ("diff", TEXT, "--against-file")
    assert f"holds complex numbers in {LOGITS!r}" in sentence(run_cli(*asked, tmp_path / "x.safetensors"))
    np.savez(tmp_path / "none.npz")
    assert "holds no tensors" in sentence(run_cli(*asked, tmp_path / "none.npz"))
    np.savez(tmp_path / "other.npz", other=np.zeros(3))
    assert "it has other; name the stages" in sentence(run_cli(*asked, tmp_path / "other.npz"))
    said = sentence(run_cli(*asked, tmp_path / "other.npz", "--map", "other=nope"))
    assert "no stage 'nope' was compared" in said


def test_a_dump_that_unpacks_without_end(tmp_path: Path, run_cli: Run) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", logits=np.zeros(2 * 10**8, np.int8))
    said = sentence(run_cli("diff", TEXT, "--against-file", tmp_path / "bomb.npz"))
    assert "would unpack 194 kB of logits.npy to 200 MB" in said


@pytest.mark.parametrize("dtype", ["complex64", "bool", "int8"])
def test_a_lens_is_of_real_numbers(dtype: str, tmp_path: Path, run_cli: Run) -> None:
    save_file({"0.weight": torch.zeros(128, 128).to(getattr(torch, dtype))}, tmp_path / "x.safetensors")
    assert f"its layer 0 is of type {dtype}" in sentence(run_cli("lens", "hi", "--lens", tmp_path / "x.safetensors"))


@pytest.mark.parametrize("value", [{}, {"bits": 4}, {"quant_method": None}, {"load_in_8bit": False}])
def test_a_quantization_config_of_no_method(value: Any, model: Path, run_cli: Run) -> None:
    change_config(model, quantization_config=value)
    said = {sentence(run_cli(*command)) for command in (in_model("plan", "hi"), EMBED, ("tree", "./model"))}
    assert len(said) == 1
    assert "quantization_config" in said.pop()


@pytest.mark.parametrize("protocol", [4, 5])
def test_a_protocol_of_pickle_that_torch_does_not_read(protocol: int, model: Path, run_cli: Run) -> None:
    to_torch(model, lambda tensors, file: torch.save(tensors, file, pickle_protocol=protocol))
    assert "save it again by torch.save without pickle_protocol" in sentence(run_cli(*EMBED))
    assert run_cli("params", "./model").exit_code == 0


@pytest.mark.parametrize(
    ("content", "works"), [(b"{commit}\n", True), (b"", False), (b"\xff\x1b[31m", False), (b"{commit}", True)]
)
def test_references_in_the_hub_s_cache(
    content: bytes, works: bool, model: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, commit = model.parent / "hub", "a" * 40
    repository = cache / "models--u--m"
    (repository / "snapshots").mkdir(parents=True)
    model.rename(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_bytes(content.replace(b"{commit}", commit.encode()))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    result = run_cli("embed", "hi", "-m", "u/m")
    if works:
        assert result.exit_code == 0, result.stderr
    else:
        assert "in the local cache holds no commit: remove it" in sentence(result)
    assert run_cli("models").exit_code == 0


def test_standard_input_that_cannot_be_read() -> None:
    with Path(os.devnull).open("wb") as nowhere:
        done = subprocess.run(
            [sys.executable, "-m", "txinspect", "tokenize", "-"], stdin=nowhere, capture_output=True, check=False
        )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"txinspect: standard input cannot be read: ")


def test_a_dump_of_many_arrays_that_unpack_without_end(tmp_path: Path, run_cli: Run) -> None:
    arrays: dict[str, Any] = {f"a{index}": np.zeros(3 * 10**7, np.int8) for index in range(5)}
    np.savez_compressed(tmp_path / "bomb.npz", **arrays)
    said = sentence(run_cli("diff", TEXT, "--against-file", tmp_path / "bomb.npz"))
    assert "of a0.npy, a1.npy and 3 more to 150 MB: those are no tensors of a model" in said


def test_a_lens_of_steps_without_end(tmp_path: Path, run_cli: Run) -> None:
    for steps, says in ((5_000_000, "has more steps than any checkpoint needs"), (70_000_000, "larger than any of")):
        with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
            archive.writestr("a/data.pkl", b"\x80\x02" + b"N" * steps + b"}.")
        assert says in sentence(run_cli("lens", "hi", "--lens", tmp_path / "x.pt"))


@pytest.mark.parametrize("kind", ["meta", "sparse"])
def test_a_lens_of_no_plain_tensors(kind: str, tmp_path: Path, run_cli: Run) -> None:
    matrix = torch.eye(128)
    torch.save({"0.weight": matrix.to("meta") if kind == "meta" else matrix.to_sparse()}, tmp_path / "x.pt")
    assert "which is no plain tensor" in sentence(run_cli("lens", "hi", "--lens", tmp_path / "x.pt"))


def test_a_name_that_no_screen_can_show(model: Path, run_cli: Run) -> None:
    save_file({"a" * 20_000: torch.zeros(1)}, model / "model.safetensors")
    for command in (("params", "./model"), EMBED):
        assert "a tensor's name has 20,000 characters, 'aaa" in sentence(run_cli(*command))


def test_pooling_in_ways_without_end(model: Path, run_cli: Run) -> None:
    (model / "pool").mkdir()
    (model / "pool" / "config.json").write_text(json.dumps({"pooling_mode": ["mean"] * 100_000}))
    modules = [{"idx": 0, "path": "", "type": "Transformer"}, {"idx": 1, "path": "pool", "type": "Pooling"}]
    (model / "modules.json").write_text(
        json.dumps([each | {"type": f"sentence_transformers.models.{each['type']}"} for each in modules])
    )
    assert "pools in 100,000 ways, of which there are" in sentence(run_cli("embed", "hi", "--pooled", "-m", "./model"))


@pytest.mark.parametrize("value", [True, "2", 1.5, [], [[1]], {}, -1, 10**30, ["1"], [True]], ids=str)
def test_what_a_decoder_begins_with(value: Any, seq2seq: Path, run_cli: Run) -> None:
    change_config(seq2seq, decoder_start_token_id=value)
    for command in (("tree", "./model"), in_model("logits", "hi")):
        said = sentence(run_cli(*command))
        assert "says decoder_start_token_id is " in said
        assert said.endswith("it must be the id of a token\n")


def test_a_decoder_begins_within_its_vocabulary(seq2seq: Path, run_cli: Run) -> None:
    (seq2seq / "generation_config.json").unlink()
    change_config(seq2seq, decoder_start_token_id=10**9)
    said = sentence(run_cli(*in_model("logits", "hi")))
    assert "would begin with the token 1000000000, but its vocabulary has 1,013: mend decoder_start_token_id" in said


def test_classes_that_are_none_of_models(model: Path, run_cli: Run) -> None:
    for name in ("AutoModel", "pipeline", "AutoTokenizer", "BertConfig", "__version__"):
        change_config(model, architectures=[name])
        assert run_cli(*in_model("logits", "hi")).exit_code == 0


def test_special_tokens_without_end(model: Path, run_cli: Run) -> None:
    change_tokenizer(model, additional_special_tokens=[f"<x{index}>" for index in range(20_000)])
    assert "has 20,000 additional_special_tokens: no tokenizer has more than 10,000" in sentence(run_cli(*EMBED))


def test_special_tokens_that_are_more_than_a_text_may_have(model: Path, run_process: Process, tmp_path: Path) -> None:
    """The whole tokenizer warns of so many; nothing is said."""
    change_tokenizer(model, additional_special_tokens=[f"<x{index}>" for index in range(300)], model_max_length=100)
    done = run_process("tokenize", "hi", "-m", model, TXINSPECT_CACHE=str(tmp_path / "cache"))
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_tokenizer_that_is_two(model: Path, run_cli: Run) -> None:
    change_tokenizer(model, tokenizer_class="RagTokenizer")
    said = sentence(run_cli(*EMBED))
    assert "in tokenizer_config.json its tokenizer_class is 'RagTokenizer'" in said


@pytest.mark.parametrize("value", [{"AutoTokenizer": [["a"], {}]}, {"AutoTokenizer": {"a": 1}}], ids=str)
def test_classes_of_values_that_are_no_names(value: Any, model: Path, run_cli: Run) -> None:
    change_tokenizer(model, auto_map=value)
    assert "comes with Python code of its own" in sentence(run_cli(*EMBED))
    assert "its auto_map is {'AutoTokenizer'" in sentence(run_cli(*EMBED, "--trust-remote-code"))


def test_what_a_normalizer_removes_is_not_the_texts_fault(model: Path, run_cli: Run) -> None:
    file = model / "tokenizer.json"
    nothing = {"type": "Replace", "pattern": {"Regex": "."}, "content": ""}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"normalizer": nothing}))
    for options, named in (((), "'hi'"), (("--pair", "ho"), "'hi' with 'ho'")):
        said = sentence(run_cli(*EMBED, "--no-special", *options))
        assert f"the text {named} yields no tokens: the tokenizer makes none of it; give another" in said


def test_a_token_of_a_megabyte_is_drawn(model: Path, run_cli: Run) -> None:
    file = model / "tokenizer.json"
    state = json.loads(file.read_text())
    state["added_tokens"].append({"id": len(state["model"]["vocab"]), "content": "y" * 1_000_000} | FLAGS)
    file.write_text(json.dumps(state))
    result = run_cli("tokenize", "-m", "./model", stdin=b"y" * 1_000_000)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count("y") > 1_000_000


def test_a_dump_of_a_smaller_vocabulary(tmp_path: Path, run_cli: Run) -> None:
    np.savez(tmp_path / "x.npz", logits=np.ones((1, 4, 5), np.float32))
    result = run_cli("diff", TEXT, "--against-file", tmp_path / "x.npz", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 0, result.stderr
    assert (len(report["stages"]), report["logits"]) == (1, None)
    assert any("the logits are 5 wide on one side" in note for note in report["notes"])


@pytest.mark.parametrize("pairs", [("a=logits", "b=logits"), ("a=logits", "a=final_norm")], ids=str)
def test_a_name_has_one_partner(pairs: tuple[str, ...], tmp_path: Path, run_cli: Run) -> None:
    given = [argument for pair in pairs for argument in ("--map", pair)]
    said = usage(run_cli("diff", TEXT, "--against-file", tmp_path / "x.npz", *given))
    assert "twice: give each name one partner" in said


def test_a_dump_of_a_pickle(tmp_path: Path, run_cli: Run) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("logits.npy", b"\x80\x04K\x01.")
    said = sentence(run_cli("diff", TEXT, "--against-file", tmp_path / "x.npz"))
    assert "holds 'logits', which is no array" in said


def test_a_head_that_the_checkpoint_lacks(model: Path, run_cli: Run) -> None:
    change_config(model, tie_word_embeddings=False)
    said = sentence(run_cli(*in_model("logits", "hi")))
    assert "the checkpoint lacks what the head of OPTForCausalLM needs: it is loaded as the bare model" in said


def test_a_size_of_zero_is_named(model: Path, run_cli: Run) -> None:
    change_config(model, num_attention_heads=0)
    assert "its num_attention_heads is 0" in sentence(run_cli(*in_model("logits", "hi")))


def test_nothing_is_predicted_by_logits_that_are_no_numbers(model: Path, run_cli: Run) -> None:
    tensors = load_file(model / "model.safetensors")
    tensors["model.decoder.final_layer_norm.weight"].fill_(float("nan"))
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    for command in ("logits", "lens"):
        result = run_cli(*in_model(command, "hi"))
        assert result.exit_code == 0
        assert ": nothing: not all of its logits are numbers" in " ".join(result.stdout.split())


def test_messages_after_a_byte_order_mark(model: Path, run_cli: Run) -> None:
    change_tokenizer(model, chat_template="{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}")
    given = b"\xef\xbb\xbf" + json.dumps([{"role": "user", "content": "hi"}]).encode()
    report = json.loads(run_cli("tokenize", "--chat", "-m", "./model", "--json", stdin=given).stdout)
    assert report["input"]["text"] == "user: hi"


def test_tokens_beyond_what_the_model_says(seq2seq: Path, run_cli: Run) -> None:
    file = seq2seq / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_new_tokens": 3}))
    result = run_cli(*in_model("embed", "The quick brown fox jumps over the lazy dog"), "--json")
    notes = json.loads(result.stdout)["notes"]
    assert "generation_config.json has max_new_tokens 3, and as many as were asked for were generated." in notes


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"pooling_mode_evil": True}, "says pooling_mode_evil is True: which is none of pooling_mode_cls_token"),
        ({"pooling_mode_cls_token": "false"}, "says pooling_mode_cls_token is 'false': it is true or false"),
    ],
)
def test_flags_of_pooling(value: Any, says: str, model: Path, run_cli: Run) -> None:
    (model / "pool").mkdir()
    (model / "pool" / "config.json").write_text(json.dumps(value))
    modules = [{"idx": 0, "path": "", "type": "Transformer"}, {"idx": 1, "path": "pool", "type": "Pooling"}]
    (model / "modules.json").write_text(
        json.dumps([each | {"type": f"sentence_transformers.models.{each['type']}"} for each in modules])
    )
    assert says in sentence(run_cli("embed", "hi", "--pooled", "-m", "./model"))
