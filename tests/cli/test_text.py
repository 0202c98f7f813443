"""Where a text comes from, and what a TEXT may have meant instead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.conftest import ProcessRun
from txinspect.queries import LESSON

Run = Callable[..., Result]

TOKENIZE = (sys.executable, "-m", "txinspect", "tokenize", "--json")


def text_of(stdout: str | bytes) -> str:
    text: str = json.loads(stdout)["input"]["text"]
    return text


# What is on standard input


def test_what_is_piped_in_is_the_text(run_process: ProcessRun) -> None:
    done = run_process("tokenize", "--json", stdin=b"hi\n")
    assert (text_of(done.stdout), done.stderr) == ("hi", b"")


@pytest.mark.parametrize("content", [b"a story\n", b""])
def test_a_file_on_standard_input_is_the_text(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "story"
    file.write_bytes(content)
    with file.open("rb") as stream:
        done = subprocess.run(TOKENIZE, stdin=stream, capture_output=True, check=True)
    assert (text_of(done.stdout), done.stderr) == (content.decode().removesuffix("\n"), b"")


def test_a_text_is_taken_before_what_is_piped_in(run_process: ProcessRun) -> None:
    assert text_of(run_process("tokenize", "mine", "--json", stdin=b"other").stdout) == "mine"


def test_nothing_is_no_text(run_process: ProcessRun) -> None:
    done = run_process("tokenize", "--json")  # </dev/null
    assert (text_of(done.stdout), done.stderr) == (LESSON, b"")


def test_a_terminal_is_no_text() -> None:
    ours, theirs = os.openpty()
    done = subprocess.run(TOKENIZE, stdin=theirs, capture_output=True, check=True, timeout=120)
    os.close(ours)
    os.close(theirs)
    assert (text_of(done.stdout), done.stderr) == (LESSON, b"")


@pytest.mark.parametrize(("closed", "says"), [(True, "is empty"), (False, "- as the TEXT waits for one")])
def test_a_silent_pipe_is_not_waited_for(closed: bool, says: str) -> None:
    ours, theirs = os.pipe()
    if closed:
        os.close(theirs)
    done = subprocess.run(TOKENIZE, stdin=ours, capture_output=True, check=True, timeout=120)
    if not closed:
        os.close(theirs)
    os.close(ours)
    assert text_of(done.stdout) == LESSON
    assert done.stderr.decode().startswith("txinspect: ")
    assert says in done.stderr.decode()
    assert "the lesson's sentence" in done.stderr.decode()


def test_a_pipe_that_has_begun_is_read_to_its_end() -> None:
    slow = "import sys, time; sys.stdout.write('a'); sys.stdout.flush(); time.sleep(1.5); sys.stdout.write('b')"
    with subprocess.Popen([sys.executable, "-c", slow], stdout=subprocess.PIPE) as writer:
        done = subprocess.run(TOKENIZE, stdin=writer.stdout, capture_output=True, check=True, timeout=120)
    assert text_of(done.stdout) == "ab"


def test_quiet_keeps_the_hint_away(run_process: ProcessRun) -> None:
    assert run_process("tokenize", "-q", stdin=b"").stderr == b""


# What a TEXT may have meant


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local cache of the Hub with a/model in it."""
    (tmp_path / "hub" / "models--a--model").mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("folder", "a directory"),
        ("./folder", "a directory"),
        ("my.gguf", "a .gguf file"),
        ("opt-mini", "a model that comes with txinspect"),
        ("a/model", "a model in the Hub's local cache"),
    ],
)
@pytest.mark.parametrize("command", [("tokenize",), ("attn",), ("plan",), ("run", "-s", "logits")], ids=" ".join)
def test_a_model_is_no_text(
    text: str, what: str, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "my.gguf").touch()
    result = run_cli(*command, text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"TEXT {text!r} is {what}" in result.stderr
    assert f"-m {text}" in result.stderr
    assert "--file" in result.stderr
    assert text_of(run_cli("tokenize", "-", "--json", stdin=text).stdout) == text


def test_a_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Run) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "is a directory" in run_cli("tokenize", "~/models").stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0", "'0' is the text; for layer 0: --layer 0"),
        ("attn", "'attn' is the text; for the command: txinspect attn"),
        ("facebook/opt-1.3b", "to run a model of that name: -m facebook/opt-1.3b"),
        ("./no/such", "-m ./no/such"),
        ("story.txt", "to read the file: --file story.txt"),
    ],
)
def test_what_may_be_meant_is_said(
    text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "story.txt").touch()
    result = run_cli("tokenize", text, "--json")
    assert text_of(result.stdout) == text
    assert says in result.stderr
    assert run_cli("tokenize", text, "--json", "-q").stderr == ""


@pytest.mark.parametrize(
    "text", ["", "Hello", "and/or not", "10 apples", "x" * 5000, "~nobody/x y", "a\nb", "1.5", "gpt2 is a model", "…"]
)
def test_other_texts_are_taken_without_a_word(text: str, run_cli: Run) -> None:
    result: Any = run_cli("tokenize", text, "--json", "--no-special") if text else run_cli("tokenize", text, "--json")
    assert (result.stderr, text_of(result.stdout)) == ("", text)
