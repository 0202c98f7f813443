"""Completion: models and stage names, as functions and through the protocol that the shells speak, without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import shellingham
from huggingface_hub import constants

from tests.conftest import UPDATE_GOLDEN
from tests.making.bad_input import sentence, usage
from txinspect.cli import completing
from txinspect.sources import bundled_models
from txinspect.stage_names import stage_names
from txinspect.stages import ATTENTION_PARTS


def context(model: object = None) -> Any:
    """The command line so far, as far as completion reads it."""
    return SimpleNamespace(params={"model": model})


def cache_model(hub_cache: Path, name: str, config: dict[str, object]) -> None:
    """A model in the Hub's local cache, with its config.json only."""
    folder = hub_cache / f"models--{name.replace('/', '--')}"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc" / "config.json").write_text(json.dumps(config))


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hub cache with two models, and a folder of bundled models with one."""
    bundled = tmp_path / "bundled"
    (bundled / "opt-mini").mkdir(parents=True)
    (bundled / "opt-mini" / "config.json").write_text('{"num_hidden_layers": 4}')
    cache = tmp_path / "hub"
    cache_model(cache, "facebook/opt-1.3b", {"num_hidden_layers": 24})
    cache_model(cache, "gpt2", {"num_hidden_layers": 12})
    (cache / "datasets--a--b").mkdir()
    monkeypatch.setattr(bundled_models, "BUNDLED", bundled)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


@pytest.mark.parametrize(
    ("incomplete", "names"),
    [
        ("opt", ["opt-mini"]),
        ("face", ["facebook/opt-1.3b"]),
        ("gp", ["gpt2"]),
        ("zzz", []),
        ("", ["opt-mini", "facebook/opt-1.3b", "gpt2"]),
    ],
)
def test_models_are_the_bundled_and_the_cached(incomplete: str, names: list[str], hub_cache: Path) -> None:
    assert completing.models(incomplete) == names


def test_no_cache_is_no_model(hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "none"))
    assert completing.models("") == ["opt-mini"]


def test_stages_of_a_directory(opt: Path) -> None:
    assert completing.stages(context(str(opt)), "") == stage_names(3)


@pytest.mark.parametrize(
    ("model", "layers"), [(None, 4), ("opt-mini", 4), ("facebook/opt-1.3b", 24)], ids=["default", "bundled", "cached"]
)
def test_stages_have_as_many_layers_as_the_model(model: str | None, layers: int, hub_cache: Path) -> None:
    assert completing.stages(context(model), "") == stage_names(layers)


@pytest.mark.parametrize(
    ("incomplete", "some"),
    [
        ("lay", ["layers.0.input", "layers.2.output"]),
        ("layers.1.attention.w", ["layers.1.attention.weights"]),
        ("log", ["logits"]),
    ],
)
def test_stages_begin_with_what_is_typed(incomplete: str, some: list[str], opt: Path) -> None:
    found = completing.stages(context(str(opt)), incomplete)
    assert set(some) <= set(found)
    assert all(name.startswith(incomplete) for name in found)


@pytest.mark.parametrize("name", ["no/such-model", "./nowhere", "", "a b"])
def test_an_unknown_model_still_completes(name: str, hub_cache: Path) -> None:
    assert "logits" in completing.stages(context(name), "")


@pytest.mark.parametrize("config", ["{", "[]", '{"num_hidden_layers": "x"}', '{"num_hidden_layers": true}', "\xff"])
def test_a_damaged_config_still_completes(config: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config, encoding="latin-1")
    assert "layers.0.output" in completing.stages(context(str(tmp_path)), "")


# Through the shells' protocol

ROOT = Path(__file__).parents[2]
SCRIPT = str(Path(sys.executable).with_name("txinspect"))
Complete = Callable[..., list[str]]


@pytest.fixture
def complete(tmp_path: Path) -> Complete:
    """What the shell gets for a command line whose last word is being typed."""
    cache = tmp_path / "hub"
    cache_model(cache, "facebook/opt-1.3b", {"num_hidden_layers": 24})
    # Anything that imports torch or transformers fails, and says so.
    for name in ("torch", "transformers"):
        (tmp_path / "poison" / name).mkdir(parents=True)
        (tmp_path / "poison" / name / "__init__.py").write_text(f"raise SystemExit('{name} was imported')")

    def run(line: str, shell: str = "bash") -> list[str]:
        words = line.split(" ")
        typed = (
            {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
            if shell == "bash"
            else {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
        )
        done = subprocess.run(
            [SCRIPT],
            env=os.environ
            | typed
            | {"_TXINSPECT_COMPLETE": f"complete_{shell}", "HF_HUB_CACHE": str(cache)}
            | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "poison"), str(ROOT)])},
            capture_output=True,
            check=False,
            timeout=120,
        )
        assert done.stderr == b""
        return done.stdout.decode().splitlines()

    return run


def test_stage_names_through_the_protocol(complete: Complete, opt: Path) -> None:
    found = complete(f"txinspect run -m {opt} --stage lay")
    assert found == [name for name in stage_names(3) if name.startswith("layers")]


def test_stage_names_of_a_cached_model_through_the_protocol(complete: Complete) -> None:
    assert "layers.23.output" in complete("txinspect run --model facebook/opt-1.3b --stage layers.23")


@pytest.mark.parametrize("line", ["txinspect embed hi -m face", "txinspect tree face"])
def test_cached_models_through_the_protocol(line: str, complete: Complete) -> None:
    assert complete(line) == ["facebook/opt-1.3b"]


def test_bundled_models_through_the_protocol(complete: Complete) -> None:
    assert complete("txinspect attn -m opt") == [
        name for name in bundled_models.bundled_models() if name.startswith("opt")
    ]


def test_commands_of_schema_through_the_protocol(complete: Complete) -> None:
    assert complete("txinspect schema attn") == ["attn"]


def test_commands_of_help_through_the_protocol(complete: Complete) -> None:
    assert complete("txinspect help sc") == ["schema"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("txinspect embed --dtype b", ["bfloat16"]),
        ("txinspect embed --4bit-type ", ["nf4", "fp4"]),
        ("txinspect embed --device c", ["cpu", "cuda"]),
        ("txinspect embed --device-map bal", ["balanced", "balanced_low_0"]),
        ("txinspect stages --dtype float3", ["float32"]),
        ("txinspect stages --color ", ["auto", "always", "never"]),
        ("txinspect schema --color n", ["never"]),
        ("txinspect --color a", ["auto", "always"]),
        ("txinspect --color never -q --json stages --dtype float3", ["float32"]),
        ("txinspect --json schema attn", ["attn"]),
        ("txinspect --color never stages --color always --dtype float3", ["float32"]),
    ],
)
def test_values_that_are_a_choice(line: str, found: list[str], complete: Complete) -> None:
    assert sorted(complete(line)) == sorted(found)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(shell: str, complete: Complete, opt: Path) -> None:
    assert any("layers.2.output" in line for line in complete(f"txinspect run -m {opt} --stage layers.2", shell))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_files_are_what_the_program_generates(shell: str) -> None:
    script = Path(sys.executable).parent / "txinspect"
    done = subprocess.run(
        [script],
        env=os.environ | {"_TXINSPECT_COMPLETE": f"source_{shell}"},
        capture_output=True,
        text=True,
        check=False,
    )
    path = ROOT / "completions" / f"txinspect.{shell}"
    # A first line of #compdef is what zsh looks for, so the blank one that Typer prints before it is left out.
    generated = done.stdout.lstrip("\n")
    if UPDATE_GOLDEN:
        path.write_text(generated)
    assert "txinspect" in generated
    assert path.read_text() == generated


# Installed

PLACES = {
    "bash": ".bash_completions/txinspect.sh",
    "zsh": ".zfunc/_txinspect",
    "fish": ".config/fish/completions/txinspect.fish",
}
Process = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.mark.parametrize("shell", PLACES)
def test_completion_is_installed_for_the_shell_that_is_named(shell: str, tmp_path: Path, run_process: Process) -> None:
    done = run_process("--install-completion", shell, HOME=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, b"")
    place = tmp_path / PLACES[shell]
    assert done.stdout.decode() == f"completion for {shell} is installed in {place}: it begins with the next terminal\n"
    script = (ROOT / "completions" / f"txinspect.{shell}").read_text().strip()
    assert place.read_text().strip() == script
    others = {tmp_path / other for other in PLACES.values()} - {place}
    assert not [path for path in others if path.exists()]
    shown = run_process("--show-completion", shell, HOME=str(tmp_path))
    assert (shown.returncode, shown.stdout.decode().strip()) == (0, script)


@pytest.mark.parametrize("shell", ["powershell", "pwsh"])
def test_the_script_of_a_powershell(shell: str, run_process: Process) -> None:
    done = run_process("--show-completion", shell)
    assert done.returncode == 0
    assert b"Register-ArgumentCompleter -Native -CommandName txinspect" in done.stdout


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="needs bash")
def test_completion_is_installed_for_the_shell_that_is_running(tmp_path: Path) -> None:
    command = f"{sys.executable} -m txinspect --install-completion; {sys.executable} -m txinspect --show-completion"
    done = subprocess.run(
        ["/bin/bash", "-c", f"{command}; true"],
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stderr == ""
    assert (tmp_path / PLACES["bash"]).read_text().strip() in done.stdout


@pytest.mark.parametrize("option", ["--install-completion", "--show-completion"])
def test_an_unknown_shell_is_wrong_usage(
    option: str, run_cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shells = "give bash, zsh, fish, powershell or pwsh"
    assert usage(run_cli(option, "tcsh")) == f"txinspect: {option} 'tcsh' is no shell that completes: {shells}\n"

    def none(_: int) -> None:
        raise shellingham.ShellDetectionFailure

    monkeypatch.setattr(shellingham, "detect_shell", none)
    assert usage(run_cli(option)) == f"txinspect: {option} cannot tell which shell is running: name it, such as bash\n"


def test_a_home_that_cannot_be_written_is_one_sentence(
    run_cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    said = sentence(run_cli("--install-completion", "fish"))
    assert "completion for fish could not be installed" in said
    assert str(tmp_path / "file") in said


def test_stages_of_an_encoder_decoder() -> None:
    found = completing.stages(context("transformer-mini"), "decoder.layers.1.cross")
    assert found == [f"decoder.layers.1.cross_attention.{part}" for part in ATTENTION_PARTS]
    assert "encoder.layers.1.output" in completing.stages(context("transformer-mini"), "enc")
    assert completing.stages(context("transformer-mini"), "lay") == []
