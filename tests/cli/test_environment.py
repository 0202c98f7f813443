"""The environment: what it is now, and another in its place, as a process that stays answers in its client's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from txinspect.cli import environment
from txinspect.cli.app import app
from txinspect.cli.environment import Environment


def client(directory: Path | None = None, text: bytes = b"", **variables: str) -> Environment:
    """The environment of somebody else: streams in memory, a folder, and variables of their own."""
    inherited = {name: value for name, value in os.environ.items() if name.startswith(("HF_", "TXINSPECT_CACHE"))}
    stdin, stdout, stderr = (TextIOWrapper(BytesIO(content), encoding="utf-8") for content in (text, b"", b""))
    return Environment(stdin, stdout, stderr, inherited | variables, directory)


def said(stream: Any) -> str:
    """What was written to a stream of a client."""
    stream.flush()
    return str(stream.buffer.getvalue().decode())


def answered(other: Environment, *arguments: str) -> int:
    """The exit code of a command that is asked in another environment."""
    with environment.replaced(other), pytest.raises(SystemExit) as end:
        app(list(arguments), prog_name="txinspect")
    return int(end.value.code or 0)


def test_it_is_the_process_s_own_at_the_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before, stream = environment.current(), StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setattr("sys.stdin", None)
    monkeypatch.setenv("TERM", "vt100")
    monkeypatch.chdir(tmp_path)
    here = environment.current()
    assert (here.stdin, here.stdout, here.stderr) == (None, stream, before.stderr)
    assert (here.term, here.directory) == ("vt100", tmp_path)
    assert not environment.is_terminal(here.stdin)
    assert not environment.is_terminal(here.stdout)
    assert (environment.encoding(None), environment.encoding(stream)) == ("utf-8", "utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use cannot be deleted there")
def test_a_folder_that_is_gone_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shutil.rmtree(folder)
    assert environment.current().directory is None
    with environment.replaced(client(tmp_path)):
        assert environment.current().directory == tmp_path


def test_another_takes_its_place_and_goes(tmp_path: Path) -> None:
    before, variables, other = environment.current(), dict(os.environ), client(tmp_path, COLUMNS="63", ONLY="theirs")
    with pytest.raises(ValueError, match="on the way"), environment.replaced(other):  # noqa: PT012
        here = environment.current()
        assert here[:3] == (sys.stdin, sys.stdout, sys.stderr) == other[:3]
        assert (dict(here.variables), here.directory, Path.cwd()) == (other.variables, tmp_path, tmp_path)
        assert environment.width() == 63
        raise ValueError("on the way")
    assert environment.current() == before
    assert dict(os.environ) == variables


def test_one_that_shares_the_variables_loses_none() -> None:
    variables = dict(os.environ)
    with environment.replaced(environment.current()._replace(stdin=None)):
        assert dict(os.environ) == variables
    assert dict(os.environ) == variables


def test_a_question_is_answered_in_the_client_s(tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text("Once upon")
    other = client(tmp_path, TXINSPECT_MODEL="transformer-mini")
    assert answered(other, "tokenize", "--file", "story.txt", "--json") == 0
    report = json.loads(said(other.stdout))
    assert (report["model"]["name"], report["input"]["text"]) == ("transformer-mini", "Once upon")
    assert said(other.stderr) == ""


def test_what_is_piped_is_the_client_s(tmp_path: Path) -> None:
    other = client(tmp_path, b"From afar\n")
    assert answered(other, "tokenize", "--json") == 0
    assert json.loads(said(other.stdout))["input"]["text"] == "From afar"


def test_help_is_as_wide_as_the_client_s_terminal() -> None:
    widths = []
    for columns in ("60", "100"):
        other = client(COLUMNS=columns)
        assert answered(other, "tree", "--help") == 0
        widths.append(max(map(len, said(other.stdout).splitlines())))
    assert 50 < widths[0] <= 60 < 90 < widths[1] <= 100


def test_a_complaint_is_said_on_the_client_s_stderr() -> None:
    other = client()
    assert answered(other, "nonsense") == 2
    assert said(other.stdout) == ""
    assert said(other.stderr) == "txinspect: no such command 'nonsense'; see 'txinspect --help'\n"
    nobody = other._replace(stderr=None)
    assert answered(nobody, "nonsense") == 2
    assert said(other.stdout) == ""


_SERVER = """
import json, os, sys
from pathlib import Path
from txinspect.cli import environment
from txinspect.cli.app import app

for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        for number, name in enumerate(asked["streams"]):
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT)
            os.dup2(descriptor, number)
        streams = [open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False) for number in range(3)]
        other = environment.Environment(*streams, asked["variables"], Path(asked["directory"]))
        with environment.replaced(other):
            app(asked["arguments"], prog_name="txinspect")
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process can be forked there")
def test_a_server_forks_a_child_for_each_question(tmp_path: Path) -> None:
    asked = {"first": ("Two foxes", ()), "second": ("A bear", ("--file", "text"))}
    lines = []
    for name, (text, options) in asked.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "text").write_text(text)
        question: dict[str, Any] = {"streams": [str(folder / stream) for stream in ("text", "out", "err")]}
        question |= {"variables": dict(os.environ), "directory": str(folder)}
        lines.append(json.dumps(question | {"arguments": ["embed", "--json", *options]}))
    server = [sys.executable, "-c", _SERVER]
    done = subprocess.run(server, input="\n".join(lines), capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout.split(), done.stderr) == (["0", "0"], "")
    for name, (text, _) in asked.items():
        assert json.loads((tmp_path / name / "out").read_text())["input"]["text"] == text
        assert (tmp_path / name / "err").read_text() == ""
