"""A command is three files and a line: one is declared in a temporary package and run through the real door."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module, reload
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import txinspect.answers
import txinspect.commands
import txinspect.render.terminal
from txinspect import commands
from txinspect.cli import app as app_room
from txinspect.inspecting import inspect

jsonschema: Any = import_module("jsonschema")  # it carries no types

DECLARATION = '''
"""How loud a text is."""

from dataclasses import dataclass
from typing import Annotated, Literal

from txinspect.commands.command import Command
from txinspect.errors import UsageError, spelled
from txinspect.model_choice import PLACEMENT, PRECISION
from txinspect.option import Option
from txinspect.queries import TextQuery
from txinspect.records import InputRecord, ModelReport, doc


@dataclass(frozen=True, kw_only=True)
class LoudQuery(TextQuery["LoudReport"]):
    """Show a text louder."""

    idle = (*PRECISION, *PLACEMENT)

    times: Annotated[int, Option("-t/--times", "How much louder.", "N")] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.times < 1:
            raise UsageError(f"{spelled('times')} {self.times} is not louder: give 1 or more")


@dataclass(frozen=True, kw_only=True)
class LoudView:
    """How it is drawn."""

    frame: Annotated[bool, Option("--frame", "Draw a frame around it.")] = False


class LoudReport(ModelReport, frozen=True, kw_only=True):
    """Report of `loud`."""

    command: Annotated[Literal["loud"], doc("The command that made the report.")]
    input: InputRecord
    loud: Annotated[str, doc("The text, louder.")]


COMMAND = Command("loud", LoudQuery, LoudReport, examples=("txinspect loud 'Hello' --times 2",), view=LoudView)
'''

ANSWER = '''
"""How loud a text is."""

from txinspect.texts.reading import encode
from txinspect.answers.reporting import head
from txinspect.commands.loud import LoudQuery, LoudReport
from txinspect.loading import describing


def answer(query, session):
    """The report of `loud`."""
    opened = session.opened(query.model)
    session.notify("shouting")
    return LoudReport(
        **head("loud", ["Mind your ears."]),
        model=describing.unbuilt_model_record(opened.source, opened.source.config),
        input=encode(query, opened),
        loud=query.text.upper() + "!" * query.times,
    )
'''

DRAWING = '''
"""The drawing of `loud`."""

from rich.panel import Panel
from rich.text import Text

from txinspect.commands.loud import LoudView


def draw(report, console, view=LoudView()):
    """The text, in a frame where one is asked for."""
    return Panel(report.loud) if view.frame else Text(report.loud)
'''

CHEER = {
    "commands": '''
"""A cheer, for which no model is needed."""

from dataclasses import dataclass
from typing import Annotated, Literal

from txinspect.commands.command import Command
from txinspect.option import Option
from txinspect.queries import Query
from txinspect.records import Report, doc


@dataclass(frozen=True, kw_only=True)
class CheerQuery(Query["CheerReport"]):
    """Cheer."""

    times: Annotated[int, Option("--times", "How often.", "N")] = 1


class CheerReport(Report, frozen=True, kw_only=True):
    """Report of `cheer`."""

    command: Annotated[Literal["cheer"], doc("The command that made the report.")]
    cheer: Annotated[str, doc("The cheer.")]


COMMAND = Command("cheer", CheerQuery, CheerReport, examples=("txinspect cheer",))
''',
    "answers": '''
"""A cheer."""

from txinspect.answers.reporting import head
from txinspect.commands.cheer import CheerQuery, CheerReport


def answer(query, session):
    """The report of `cheer`."""
    return CheerReport(**head("cheer"), cheer="hurrah " * query.times)
''',
    "render.terminal": '''
"""The drawing of `cheer`."""

from rich.text import Text


def draw(report, console):
    """The cheer."""
    return Text(report.cheer)
''',
}
"""A command that asks nothing of a model."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The command line with `loud` and `cheer` in it: three files each, in their places, and a line in the list."""
    places: list[tuple[Any, str]] = [
        (txinspect.commands, DECLARATION),
        (txinspect.answers, ANSWER),
        (txinspect.render.terminal, DRAWING),
    ]
    for package, code in places:
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / "loud.py").write_text(code)
        (folder / "cheer.py").write_text(CHEER[package.__name__.removeprefix("txinspect.")])
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    lines = {
        "loud": commands.Listed("Text", "Show a text louder."),
        "cheer": commands.Listed("Run", "Cheer."),
    }
    monkeypatch.setattr(commands, "LISTED", commands.LISTED | lines)
    monkeypatch.setattr(commands, "NAMES", tuple(commands.LISTED))
    before = app_room.app
    app = reload(app_room).app
    yield lambda *arguments: CliRunner().invoke(app, list(arguments))
    commands.named.cache_clear()
    for name in [name for name in sys.modules if name.endswith((".loud", ".cheer"))]:
        package, _, stem = name.rpartition(".")
        delattr(import_module(package), stem)
        del sys.modules[name]
    app_room.app = before


def test_its_help(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: Result = run("loud", "--help")
    assert shown.exit_code == 0
    words = " ".join(shown.stdout.split())
    for said in ("Show a text louder.", "-t", "--times", "How much louder.", "--frame", "Draw a frame", "--model"):
        assert said in words
    assert "$ txinspect loud 'Hello' --times 2" in words
    assert "--8bit" not in words
    assert "Show a text louder." in " ".join(run("--help").stdout.split())


def test_its_report_as_json_and_its_schema(run: Any) -> None:
    report = json.loads(run("loud", "Hello", "--times", "3", "--json").stdout)
    assert (report["command"], report["loud"], report["model"]["name"]) == ("loud", "HELLO!!!", "opt-mini")
    schema = json.loads(run("schema", "loud").stdout)
    jsonschema.validate(report, schema, jsonschema.Draft202012Validator)
    assert schema["$defs"]["LoudReport"]["properties"]["loud"]["description"] == "The text, louder."
    everything = json.loads(run("schema").stdout)
    jsonschema.validate(report, everything, jsonschema.Draft202012Validator)


def test_its_drawing(run: Any) -> None:
    shown = run("loud", "Hello").stdout.splitlines()
    assert shown[0].startswith("opt-mini · OPTForCausalLM")
    assert [line.rstrip() for line in shown[1:]] == ["HELLO!", "Mind your ears."]
    framed = run("loud", "Hello", "--frame").stdout
    assert "╭" in framed
    assert "│ HELLO!" in framed


def test_its_errors_in_both_voices(run: Any) -> None:
    result = run("loud", "-t", "0")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "txinspect: --times 0 is not louder: give 1 or more\n"
    assert run("loud", "-t", "many").exit_code == 2
    query: Any = txinspect.LoudQuery
    with pytest.raises(txinspect.InspectError, match=r"^times 0 is not louder"):
        query(times=0)


def test_its_query_in_python(run: Any) -> None:
    said: list[str] = []
    query: Any = txinspect.LoudQuery
    assert inspect(query(text="Hi", times=2), said.append).loud == "HI!!"
    assert said == ["shouting"]


def test_a_command_without_a_model(run: Any) -> None:
    shown: Result = run("cheer", "--times", "2")
    assert (shown.exit_code, shown.stdout.rstrip()) == (0, "hurrah hurrah")
    report = json.loads(run("cheer", "--json").stdout)
    assert report == {
        "schema_version": 1,
        "txinspect": txinspect.__version__,
        "command": "cheer",
        "notes": [],
        "cheer": "hurrah ",
    }
    words = run("cheer", "--help").stdout
    assert "--times" in words
    assert not [option for option in ("--model", "MODEL", "--revision", "--dtype", "--8bit") if option in words]
    assert (run("cheer", "-m", "opt-mini").exit_code, run("cheer", "opt-mini").exit_code) == (2, 2)
