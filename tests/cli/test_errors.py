"""Bad use of a good model: its exit code, its one sentence, and nothing on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.making.bad_input import EMBED, Bad, Run, cases, complain, in_model, sentence, usage
from tests.making.checkpoints import (
    change_config,
)
from txinspect.errors import InspectError, SourceError, StageError, UsageError

# What is asked of a good model


@cases(
    Bad("empty text", in_model("tokenize", "", "--no-special"), ("''", "no tokens", "at least one character")),
    Bad("empty stdin", in_model("embed", "-", "--no-special"), ("''", "no tokens")),
    Bad("only a line end", in_model("embed", "-", "--no-special"), ("no tokens",), stdin=b"\n"),
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
        from tests.making.models import save_tiny

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
        (("attn", "--layer", "one"), ("--layer 'one'", "0,2-3")),
        (("attn", "--layer", "0--1"), ("--layer 0--1", "both ends")),
        (("attn", "--layer", "0", "--layer", "x"), ("--layer '0,x'", "0,2-3")),
        (("attn", "--layer", "0-1", "--skip-norm"), ("--skip-norm", "one --layer")),
        (("attn", "--fail-on", "zero"), ("--fail-on 'zero'", "nan or inf")),
        (("attn", "--fail-on", "nan", "--dry-run"), ("--fail-on", "--dry-run")),
        (("tree", "a", "-m", "b"), ("'a'", "-m b", "one of them")),
        (("attn", "--layer", "1.0"), ("--layer '1.0'", "0,2-3")),
        (("attn", "--layer", "1_0"), ("--layer '1_0'", "0,2-3")),
        (("attn", "--layer", ""), ("--layer ''", "0,2-3")),
        (("attn", "--layer", "٣"), ("--layer '٣'", "0,2-3")),
        (("attn", "--head", "٣"), ("--head '٣'", "0,2-3")),
        (("tree", "--depth", "x"), ("--depth 'x'", "whole number")),
        (("tree", "--depth", "2.0"), ("--depth '2.0'", "whole number")),
        (("tree", "--depth", "1", "--json"), ("--depth", "--json", "omit one")),
        (("tree", "--params", "--json"), ("--params", "--json", "omit one")),
        (("embed", "--8bit", "--int8-threshold", "x"), ("--int8-threshold 'x'", "number")),
        (("embed", "--layer", "0"), ("no such option: --layer", "attn, lens, heads, ablate, patch, steer have")),
        (("embed", "--vlues"), ("did you mean --values",)),
        (("--no-special", "tokenize"), ("--no-special", "after the command")),
        (("--json", "schema"), ("--json", "schema")),
        (("attn", "--head", "3-1"), ("--head", "3-1", "backwards", "1-3")),
        (("attn", "--head", "x"), ("--head", "'x'", "0,2-3")),
        (("attn", "--head", ""), ("--head", "''", "0,2-3")),
        (("attn", "--head", "0,,1"), ("--head", "0,,1", "0,2-3")),
        (("attn", "--query", "1.5"), ("--query", "1.5", "0,2-3")),
        (("attn", "--head", "9999999"), ("--head 9999999", "out of range")),
        (("attn", "--head", "0-999999999999"), ("--head", "out of range")),
        (("tree", "--depth", "-1"), ("--depth -1", "0 or more")),
        (("embed", "--dtype", "int8"), ("--dtype", "int8", "auto", "float32", "float16", "bfloat16")),
        (("embed", "--device-map", "moon"), ("--device-map", "'moon'", "auto")),
        (("attn", "--keys", "--json"), ("--keys", "--json", "omit one")),
        (("attn", "--scale", "log"), ("--scale 'log'", "head, row or 0-1")),
        (("attn", "--theme", "pink"), ("--theme 'pink'", "auto, dark or light")),
        (("attn", "--check", "--skip-norm"), ("--check", "--skip-norm")),
        (("embed", "--device", "tpu"), ("--device", "'tpu'", "cpu", "cuda:N", "mps")),
        (("embed", "--device", "cuda:x"), ("--device", "'cuda:x'")),
        (("embed", "--device", "cpu:1"), ("--device", "'cpu:1'")),
        (("embed", "--device", ""), ("--device", "''")),
        (("embed", "--device", "cpu", "--device-map", "auto"), ("--device cpu", "--device-map auto", "one of them")),
        (("embed", "--4bit-type", "fp8", "--4bit"), ("--4bit-type", "'fp8'", "nf4", "fp4")),
        (("embed", "--int8-threshold", "2"), ("--int8-threshold", "add --8bit")),
        (("embed", "--8bit", "--int8-threshold", "-1"), ("--int8-threshold", "-1")),
        (("embed", "--skip-module", "fc1"), ("--skip-module", "add --8bit or --4bit")),
        (("embed", "--dry-run", "--save", "x.npz"), ("--save", "--dry-run", "omit one")),
        (("embed", "--dry-run", "--values", "--json"), ("--values", "--dry-run", "omit one")),
        (("tokenize", "--8bit"), ("--8bit", "'txinspect tokenize --help'")),
        (("tree", "--device", "cuda:3"), ("--device", "'txinspect tree --help'")),
        (("stages", "--device-map", "auto"), ("--device-map",)),
        (("schema", "--json"), ("--json",)),
        (("--no-such-option",), ("--no-such-option", "'txinspect --help'")),
        (("embed", "--save", "x.bin"), ("--save", "'x.bin'", ".safetensors", ".npz")),
        (("embed", "--save", "x"), ("--save", "'x'", ".safetensors", ".npz")),
        (("embed", "--save", ".npz"), ("--save", "'.npz'")),
        (("embed", "--8bit", "--4bit"), ("--8bit", "--4bit", "one of them")),
        (("embed", "--8bit", "--dtype", "float32"), ("--8bit", "half precision", "float16", "bfloat16")),
        (("embed", "--8bit", "--dtype", "fp32"), ("--8bit", "half precision", "omit --dtype float32")),
        (("embed", "--dtype", "fp8"), ("--dtype 'fp8'", "give auto, float32, float16 or bfloat16")),
        (("embed", "text", "--file", "story.txt"), ("TEXT", "--file", "one of them")),
        (("embed", "-", "--file", "story.txt"), ("TEXT", "--file", "one of them")),
        (("run", "hi", "--values"), ("--stage",)),
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
        result = run_cli(*EMBED, "--save", target, "--overwrite")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert all(word in sentence(result) for word in (str(target), "could not be written", "nothing was saved"))
    assert target.read_bytes() == b"kept"
    assert sorted(path.name for path in model.parent.iterdir()) == ["model", target.name]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_save_into_a_folder_that_may_not_be_written(model: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)  # root may write everywhere
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
    from txinspect.measure import stats

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
