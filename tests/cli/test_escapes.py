"""An escape in every string of every kind of file and option: no screen shows it as one, that of -v neither."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import Result

import txinspect
from tests.making.checkpoints import rewrite_header
from tests.making.strangers.judging import RAW
from txinspect.cli.app import app

pytestmark = pytest.mark.strangers

Run = Callable[..., Result]

STEERING = "\x1b[31m\x9b2J\x07\u202e"

GROUP: Any = typer.main.get_command(app)

COMMANDS = {
    "tree": (),
    "stages": (),
    "params": (),
    "tokenize": ("hi",),
    "logits": ("hi",),
    "plan": ("hi", "-s", "logits"),
}
"""What is asked of each model, and the texts that the command needs."""

SKIPPED = {"--help", "--save", "--json"}
"""Options that take no text of a person's, or write a file of that name."""


def seen(result: Result, what: object) -> None:
    """Nothing that a terminal would obey is on either stream."""
    for stream in (result.stdout, result.stderr):
        assert not RAW.search(stream), (what, stream)


def options() -> Iterator[tuple[str, str]]:
    """Every option of every command that takes a value, the text itself as ""."""
    for name in GROUP.commands:
        for parameter in GROUP.built(name).params:
            if parameter.param_type_name == "argument":
                yield name, ""
            elif not parameter.is_flag and not SKIPPED & set(parameter.opts):
                yield name, parameter.opts[0]


@pytest.mark.parametrize("command", GROUP.commands)
def test_in_every_option(command: str, run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = [] if command in ("tree", "stages", "params", "models", "schema", "diff") else ["hi"]
    for name, option in options():
        if name != command:
            continue
        for value in (STEERING, f"1{STEERING}", f"{STEERING}=1"):
            arguments = [value] if not option else [*text, option, value]
            for more in ((), ("-v",)):
                seen(run_cli(command, *arguments, *more), (option, value))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where strings are in what a file of JSON holds, of long lists and vocabularies the first; keys by a None."""
    if isinstance(value, str):
        yield path
    entries = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, each in entries[:6] if len(entries) > 60 else entries:
        if isinstance(key, str) and path:
            yield (*path, key, None)
        yield from places(each, (*path, key))


def steered(value: Any, path: tuple[Any, ...]) -> Any:
    """The same with an escape in one place."""
    if not path:
        return value + STEERING
    key, *rest = path
    if rest == [None]:
        return {(each + STEERING if each == key else each): inner for each, inner in value.items()}
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = steered(value[key], tuple(rest))
    return copy


KINDS = {
    "opt-mini": ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"),
    "transformer-mini": ("config.json", "tokenizer_config.json", "generation_config.json"),
}


@pytest.mark.parametrize(("kind", "file"), [(kind, file) for kind, files in KINDS.items() for file in files])
def test_in_every_string_of_a_file(
    kind: str, file: str, run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(Path(txinspect.__file__).parent / "bundled" / kind, "model")
    path = Path("model") / file
    if not path.exists():
        pytest.skip("it has none")
    whole = json.loads(path.read_text())
    commands = ("tokenize",) if file.startswith("tokenizer") else ("tree", "logits")
    found = list(places(whole))
    assert found
    for place in found:
        path.write_text(json.dumps(steered(whole, place)))
        for command in commands:
            seen(run_cli(command, *COMMANDS[command], "-m", "./model", "-v"), place)


def test_in_the_names_and_types_of_weights(model: Path, run_cli: Run) -> None:
    file = model / "model.safetensors"
    tensors = load_file(file)
    name = next(iter(tensors))
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    save_file(
        {(f"{each}{STEERING}" if each == name else each): tensor for each, tensor in tensors.items()}, file, metadata
    )
    for command, text in COMMANDS.items():
        for more in ((), ("-v",)):
            seen(run_cli(command, *text, "-m", "./model", *more), command)
    save_file(tensors, file, metadata)

    def steer(header: dict[str, Any]) -> None:
        header[name]["dtype"] += STEERING
        header["__metadata__"] = {STEERING: STEERING}

    rewrite_header(file, steer)
    for command, text in COMMANDS.items():
        for more in ((), ("-v",)):
            seen(run_cli(command, *text, "-m", "./model", *more), command)
