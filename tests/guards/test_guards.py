"""Tokenizers and templates that panic, never end or fill the memory: one sentence, wherever the program runs."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.making.checkpoints import change_config, rewrite_header
from txinspect import HeadsQuery, InspectError, LensQuery, LogitsQuery, ModelChoice, TokenizeQuery, answers, inspect
from txinspect.answers.session import Session
from txinspect.guards import trial
from txinspect.texts import trying

HELLO = "hello aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"

GROWING = {"type": "Replace", "pattern": {"Regex": "."}, "content": "a" * 10}

TOKENIZERS: dict[str, dict[str, Any]] = {
    "panics": {
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
        "pre_tokenizer": {"type": "UnicodeScripts"},
        "model": {"type": "Unigram", "vocab": [["h", -1.0]], "unk_id": 0, "byte_fallback": False},
    },
    "explodes": {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}] * 22,
        }
    },
    "decodes too much": {"decoder": {"type": "Sequence", "decoders": [GROWING] * 5}},
}
"""What is changed in a tokenizer.json."""

SAYS = re.compile(r"the tokenizer of '.*' (panicked in|crashed in|makes many times more|takes more than 10 seconds)")

TEMPLATES = {
    "never ends": "{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}{% endfor %}"
    "{% endfor %}{% endfor %}",
    "repeats": "{{ 'a' * 10000000000 }}",
    "doubles": "{% set n = namespace(l=[1]) %}{% for i in range(40) %}{% set n.l = n.l + n.l %}{% endfor %}x",
    "formats": "{{ '%1000000000d' % 1 }}",
    "centres": "{{ 'a' | center(3000000000) }}",
    "is long": "{{ 'abc' * 5000000 }}",
}


def changed(file: Path, values: dict[str, Any]) -> Path:
    """Sets values of a JSON file of a model; returns the model's folder."""
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    return file.parent


def damaged(model: Path, kind: str) -> Path:
    return changed(model / "tokenizer.json", TOKENIZERS[kind])


def with_template(model: Path, template: str) -> Path:
    return changed(model / "tokenizer_config.json", {"chat_template": template})


@pytest.mark.strangers
@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_tokenizer_is_tried_in_a_fork(kind: str, model: Path) -> None:
    with pytest.raises(InspectError, match=SAYS):
        inspect(TokenizeQuery(model=ModelChoice(name=str(damaged(model, kind))), text=HELLO))


@pytest.mark.strangers
@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_tokenizer_is_tried_beside_threads(kind: str, model: Path) -> None:
    with pytest.raises(InspectError, match=SAYS):
        inspect(TokenizeQuery(model=ModelChoice(name=str(damaged(model, kind))), text=HELLO))


@pytest.mark.strangers
@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_template_is_tried(kind: str, model: Path) -> None:
    with pytest.raises(InspectError, match=r"the chat template of '.*' (does not get done|makes more than|brings)"):
        inspect(TokenizeQuery(model=ModelChoice(name=str(with_template(model, TEMPLATES[kind]))), text="hi", chat=True))


@pytest.mark.parametrize("template", ["{{ 'x' }}\ud800", "{{ '\\ud800' }}"])
def test_a_template_of_half_a_character(template: str, model: Path) -> None:
    query = TokenizeQuery(model=ModelChoice(name=str(with_template(model, template))), chat=True)
    with pytest.raises(InspectError, match="writes half a surrogate pair"):
        inspect(query)


@pytest.mark.strangers
@pytest.mark.usefixtures("started")
def test_a_template_is_tried_beside_threads(model: Path) -> None:
    query = TokenizeQuery(model=ModelChoice(name=str(with_template(model, TEMPLATES["is long"]))), chat=True)
    with pytest.raises(InspectError, match="makes more than 8,000,000 characters"):
        inspect(query)


def on_a_terminal(*arguments: object) -> tuple[int, str]:
    """The command line with a pseudo-terminal for all its streams."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "txinspect", *map(str, arguments)]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    limit = threading.Timer(120, process.kill)
    limit.start()
    said = b""
    try:
        while part := os.read(ours, 1 << 16):
            said += part
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(ours)
        limit.cancel()
    return process.wait(timeout=120), said.decode()


@pytest.mark.strangers
@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("command", ["tokenize", "embed"])
def test_at_a_terminal(command: str, kind: str, model: Path) -> None:
    code, said = on_a_terminal(command, HELLO, "-m", damaged(model, kind))
    assert code == 1
    assert SAYS.search(" ".join(said.split())), said
    assert "panicked at" not in said
    assert "RUST_BACKTRACE" not in said


def steers(model: Path) -> str:
    rewrite_header(model / "model.safetensors", lambda header: header[max(header)].update(dtype="F32\x1b]0;x\x07"))
    return "params"


def never_ends(model: Path) -> str:
    with_template(model, TEMPLATES["never ends"])
    return "tokenize hi --chat"


def is_endless(model: Path) -> str:
    file = model / "model.safetensors"
    file.unlink()
    with file.open("wb") as stream:
        stream.write((8 << 30).to_bytes(8, "little"))
        stream.truncate(9 << 30)
    return "embed hi"


def runs(model: Path) -> str:
    change_config(model, _attn_implementation="owner/repository")
    return "embed hi"


WORST = [
    (steers, "is damaged or truncated"),
    (never_ends, "does not get done in 10 seconds"),
    (is_endless, "header too large"),
    (runs, "transformers would fetch and run native code for it"),
]


@pytest.mark.strangers
@pytest.mark.parametrize(("damage", "says"), WORST, ids=[each.__name__ for each, _ in WORST])
def test_the_worst_at_a_terminal(damage: Callable[[Path], str], says: str, model: Path) -> None:
    code, said = on_a_terminal(*damage(model).split(), "-m", model)
    assert (code, says in " ".join(said.split())) == (1, True), said
    assert "\x1b]" not in said
    assert "Traceback" not in said


def test_beside_a_silent_pipe(model: Path) -> None:
    """As under cron: the pipe is waited for, then the tokenizer is tried all the same."""
    ours, theirs = os.pipe()
    try:
        command = [sys.executable, "-m", "txinspect", "tokenize", "-m", str(damaged(model, "panics"))]
        done = subprocess.run(command, stdin=ours, capture_output=True, text=True, timeout=120, check=False)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 1
    assert SAYS.search(done.stderr), done.stderr
    assert "panicked at" not in done.stderr


# What it is tried on


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The texts of each trial."""
    texts: list[Any] = []

    def attempt(work: partial[bool], *_: Any) -> str:
        if work.func is trying.is_bounded:
            texts.append(list(work.args[2]))
        return "well"

    monkeypatch.setattr(trial, "attempt", attempt)
    return texts


Asked = Callable[[ModelChoice], Any]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (lambda model: TokenizeQuery(model=model, text="one"), ["one"]),
        (
            lambda model: LogitsQuery(model=model, text="one", targets=("t",), continuations=(" c",)),
            ["one", "t", " c", "onet", "one c"],
        ),
        (lambda model: LensQuery(model=model, text="one", targets=("t",)), ["one", "t", "onet"]),
        (lambda model: HeadsQuery(model=model, text="one two"), ["one two"]),
    ],
)
def test_one_trial_is_of_all_that_is_asked(asked: Asked, wanted: list[str], model: Path, trials: list[Any]) -> None:
    session, query = Session(), asked(ModelChoice(name=str(model)))
    for _ in range(2):
        answers.module_of(query).answer(query, session)
    assert len(trials) == 1
    assert set(wanted) <= set(trials[0])


def test_a_pair_is_tried_together(model: Path, trials: list[Any]) -> None:
    with pytest.raises(InspectError, match="knows no pairs"):
        inspect(TokenizeQuery(model=ModelChoice(name=str(model)), text="one", pair="two"))
    assert ("one", "two") in trials[0]


def test_what_is_in_no_file_of_its_own_is_tried_on_later_texts(model: Path, trials: list[Any]) -> None:
    """A rendered conversation comes after the tokenizer was made, here of a vocabulary and merges."""
    state = json.loads((model / "tokenizer.json").read_text())["model"]
    (model / "vocab.json").write_text(json.dumps(state["vocab"]))
    merges = [each if isinstance(each, str) else " ".join(each) for each in state["merges"]]
    (model / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    (model / "tokenizer.json").unlink()
    with_template(changed(model / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"}), "{{ 'rendered' }}")
    inspect(TokenizeQuery(model=ModelChoice(name=str(model)), text="one", chat=True))
    assert any("rendered" in texts for texts in trials)


def test_a_panic_beyond_the_trial_is_one_sentence(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        """As pyo3 names it."""

    def panic(*_: Any) -> None:
        raise PanicException("index out of bounds")

    monkeypatch.setattr("txinspect.answers.tokenize.encode", panic)
    with pytest.raises(InspectError, match="a library panicked over a file of the model, or over the text"):
        inspect(TokenizeQuery(model=ModelChoice(name=str(model))))
