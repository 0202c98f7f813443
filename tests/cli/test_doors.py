"""What must not reach a terminal, a number, a text or a pickle without end: one sentence, or shown as signs."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from safetensors.torch import save_file
from typer.testing import Result

from tests.making.checkpoints import rewrite_header
from txinspect import LensQuery, LogitsQuery, TokenizeQuery
from txinspect.errors import SourceError, UsageError
from txinspect.render.terminal.glyphs import Seen
from txinspect.sources import torch_files

Run = Callable[..., Result]

STEERING = "\x1b]0;title\x07\x1b[2J\u202e\x9b31m"

# Escapes


def obeyed(shown: str) -> list[str]:
    """What a terminal would obey in it, colours aside."""
    import re

    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    return [each for each in plain if (ord(each) < 32 and each not in "\n\r") or each in "\x7f\x9b\u202e"]


def test_whatever_is_drawn_is_seen() -> None:
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system="truecolor")
    console.push_render_hook(Seen(console))
    table = Table(STEERING)
    table.add_row(Text(STEERING, style="red"))
    console.print(table)
    console.print(Text(f"a\nb {STEERING}"))
    console.print(STEERING, markup=False)
    assert obeyed(file.getvalue()) == []
    assert "a\nb" in file.getvalue()
    assert "\x1b[31m" in file.getvalue()  # colours of its own are there


def test_a_dtype_of_a_header_is_shown(model: Path, run_cli: Run) -> None:
    def steer(header: dict[str, Any]) -> None:
        next(each for name, each in header.items() if name != "__metadata__")["dtype"] = STEERING

    rewrite_header(model / "model.safetensors", steer)
    for options in ((), ("-v",)):
        for command in (("tree", str(model)), ("run", "hi", "-s", "logits", "-m", str(model)), ("params", str(model))):
            result = run_cli(*command, *options)
            assert obeyed(result.stdout + result.stderr) == [], command


def test_roles_of_messages_are_shown(model: Path, run_cli: Run) -> None:
    file = model / "tokenizer_config.json"
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": template}))
    messages = json.dumps([{"role": STEERING, "content": STEERING}, {"role": "user", "content": "x"}])
    for command in ("tokenize", "embed", "logits"):
        result = run_cli(command, "-", "--chat", "-m", model, stdin=messages)
        assert result.exit_code == 0, result.stderr
        assert obeyed(result.stdout + result.stderr) == [], command


@pytest.mark.parametrize(
    "arguments",
    [
        ("tokenize", STEERING),
        ("embed", "hi", "-m", STEERING),
        ("run", "hi", "-s", STEERING),
        ("logits", "hi", "--target", STEERING),
        ("logits", "hi", "--continuation", STEERING),
        ("embed", "hi", "--mask", STEERING),
        ("embed", "hi", "--dtype", STEERING),
        ("attn", "hi", "--layer", STEERING),
        ("embed", "hi", "--save", f"{STEERING}.npz"),
        ("tokenize", "hi", "--chat", "--system", STEERING),
    ],
    ids=lambda arguments: " ".join(each for each in arguments if each != STEERING)[:30],
)
@pytest.mark.parametrize("verbose", [False, True])
def test_arguments_are_shown(verbose: bool, arguments: tuple[str, ...], model: Path, run_cli: Run) -> None:
    named = () if "-m" in arguments else ("-m", str(model))
    result = run_cli(*arguments, *named, *(("-v",) if verbose else ()))
    assert obeyed(result.stdout + result.stderr) == []


# Numbers and texts


@pytest.mark.parametrize(
    "arguments",
    [
        ("attn", "--layer", "9" * 5_000),
        ("attn", "--head", f"0-{'9' * 5_000}"),
        ("attn", "--query", f"-{'9' * 5_000}"),
        ("logits", "--position", "9" * 5_000),
        ("logits", "--top-k", "9" * 5_000),
        ("embed", "--new", "9" * 5_000, "-m", "transformer-mini"),
        ("embed", "--new", "1000000000", "-m", "transformer-mini"),
        ("embed", "--new", "1" + "0" * 30, "-m", "transformer-mini"),
        ("embed", "--mask", "9" * 5_000),
        ("embed", "--ids", "9" * 5_000),
    ],
    ids=lambda arguments: " ".join(each[:12] for each in arguments),
)
def test_numbers_without_end(arguments: tuple[str, ...], run_cli: Run) -> None:
    result = run_cli(*arguments)
    assert result.exit_code in (1, 2)
    assert result.stdout == ""
    assert "unexpected" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: TokenizeQuery(text="\ud800"),
        lambda: TokenizeQuery(pair="\ud800"),
        lambda: TokenizeQuery(masks=("\ud800",)),
        lambda: LogitsQuery(decoder="\ud800"),
        lambda: LogitsQuery(targets=("\ud800",)),
        lambda: LogitsQuery(continuations=("a", "\ud800")),
        lambda: LensQuery(targets=("\ud800",)),
    ],
)
def test_half_surrogate_pairs(make: Callable[[], Any]) -> None:
    with pytest.raises(UsageError, match="is no text in UTF-8: write it as characters"):
        make()


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("embed", "--help"), ("models",)])
def test_a_pipe_that_nobody_reads_ends_well(arguments: tuple[str, ...]) -> None:
    command = " ".join([sys.executable, "-m", "txinspect", *arguments])
    code = f"set -o pipefail; {command} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout.strip(), done.stderr) == ("0", "")


# Pickles


def as_checkpoint(file: Path, content: bytes) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return file


def nested(depth: int) -> Any:
    value: Any = ()
    for _ in range(depth):
        value = (value, value)
    return value


def keyed_by_tuples() -> bytes:
    """{t: 1}, where t is a tuple of itself twice, 60 deep: memoized, so that it is short."""
    twice = b"".join(b"q%c0h%ch%c\x86" % (i, i, i) for i in range(60))
    return b"\x80\x02}" + b")" + twice + b"K\x01s."


def test_keys_of_tuples_are_no_names(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="under a tuple in the place of a name"):
        torch_files.read(as_checkpoint(tmp_path / "x.bin", keyed_by_tuples()))


def test_ranks_that_no_tensor_has(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "x.bin")
    with zipfile.ZipFile(tmp_path / "x.bin") as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    name = next(each for each in contents if each.endswith("data.pkl"))
    axes = b"(" + b"K\x01" * 100_000 + b"t"
    changed = contents[name].replace(b"K\x02\x85", axes, 1)
    assert changed != contents[name]
    with zipfile.ZipFile(tmp_path / "y.bin", "w") as archive:
        for each, content in contents.items():
            archive.writestr(each, changed if each == name else content)
    with pytest.raises(SourceError, match="has 100,000 axes, and torch's have at most 64"):
        torch_files.read(tmp_path / "y.bin")


@pytest.mark.parametrize("content", [pickle.dumps({"a": {1, 2}}, 4), pickle.dumps({"a": frozenset([1])}, 4)])
def test_sets_are_none_of_a_checkpoint_s(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="it holds a set"):
        torch_files.read(as_checkpoint(tmp_path / "x.bin", content))


def test_a_pickle_larger_than_any_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_files, "_LARGEST_PICKLE", 1_000)
    torch.save({"a": torch.ones(2), "b": ["x" * 2_000]}, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(SourceError, match="what names its tensors takes more than 1,000 bytes"):
        torch_files.read(tmp_path / "old.bin")


def test_what_torch_saves_is_read_as_before(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(2, 3), "b": torch.arange(4).half(), "c": torch.nn.Parameter(torch.ones(1))}
    for name, zipped in (("new.bin", True), ("old.bin", False)):
        torch.save(tensors, tmp_path / name, _use_new_zipfile_serialization=zipped)
        found = torch_files.read(tmp_path / name)
        assert {key: each.shape for key, each in found.items()} == {"a": (2, 3), "b": (4,), "c": (1,)}


# Files of a model's kind


def test_a_layer_behind_the_pooling_goes_through_the_one_opening(tmp_path: Path, run_cli: Run) -> None:
    from tests.making.kinds import encoder_in

    folder = encoder_in(tmp_path / "encoder")
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "config.json").write_text(
        json.dumps({"in_features": 16, "out_features": 4, "activation_function": "torch.nn.Tanh"})
    )
    file = folder / "2_Dense" / "model.safetensors"
    arguments = ("embed", "a bad cab", "--pooled", "-m", folder)
    save_file({"linear.weight": torch.ones(4, 16), "linear.bias": torch.ones(4)}, file)
    assert run_cli(*arguments).exit_code == 0
    save_file({"linear.weight": torch.ones(4, 16), "linear.bias": torch.ones(1)}, file)
    assert "holds a bias of [1] beside a weight of [4, 16]" in run_cli(*arguments).stderr
    save_file({"linear.weight": torch.ones(4, 16)}, file)

    def wild(header: dict[str, Any]) -> None:
        header["linear.weight"]["data_offsets"] = [-300, -300 + 256]

    rewrite_header(file, wild)
    result = run_cli(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "damaged or truncated" in result.stderr


def test_a_pipe_called_like_weights_is_not_waited_for(model: Path, run_cli: Run) -> None:
    import os

    config = json.loads((model / "config.json").read_text())
    config.pop("dtype", None)
    (model / "config.json").write_text(json.dumps(config))
    os.mkfifo(model / "model-0.safetensors")
    for command in (("run", "hi", "-s", "logits", "-m", model), ("tree", model)):
        result = run_cli(*command)
        assert "is a named pipe, not a file" in result.stderr, result.stderr
