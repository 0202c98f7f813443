"""Options before the command mean what they mean after it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_args

import pytest
from typer.testing import Result

from txinspect import inspecting
from txinspect.cli import before, streams
from txinspect.commands import NAMES
from txinspect.model_choice import ModelChoice
from txinspect.option import option_of

Run = Callable[..., Result]


def refused(result: Result) -> str:
    """The one sentence of wrong usage."""
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize("options", [("--json",), ("--json", "-q"), ("-v", "--json", "--color", "never", "--no-pager")])
def test_before_is_as_after(options: tuple[str, ...], run_cli: Run) -> None:
    first, after = run_cli(*options, "tokenize", "hi"), run_cli("tokenize", "hi", *options)
    assert (first.exit_code, first.stderr, after.exit_code) == (0, "", 0)
    assert json.loads(first.stdout)["input"]["text"] == "hi"
    assert first.stdout == after.stdout
    both = run_cli(*options, "tokenize", "hi", *options)
    assert (both.exit_code, both.stdout) == (0, after.stdout)


@pytest.mark.parametrize("is_before", [True, False])
def test_what_a_command_is_told(is_before: bool, run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(streams, "show", lambda report, output, *_: told.append(output))
    monkeypatch.setattr(inspecting, "inspect", lambda query, *_: told.append(query))
    options = ("-q", "-v", "--json", "--offline")
    assert run_cli(*(options if is_before else ()), "embed", "hi", *(() if is_before else options)).exit_code == 0
    query, output = told
    assert (output.quiet, output.verbose, output.json, query.model.offline) == (True, True, True, True)
    assert run_cli("embed", "hi").exit_code == 0
    query, output = told[2:]
    assert (output.quiet, output.verbose, output.json, query.model.offline) == (False, False, False, False)


@pytest.mark.parametrize("command", ["env", "schema", "help", *NAMES])
def test_what_rules_no_report_stands_before_every_command(command: str, run_cli: Run) -> None:
    for options in (["-q"], ["-v"], ["--color", "never"], ["--color=auto"], ["--no-pager"]):
        result = run_cli(*options, command, "--help")
        assert (result.exit_code, result.stderr) == (0, "")
        assert f"txinspect {command}" in result.stdout


@pytest.mark.parametrize(
    ("option", "command"),
    [("--json", "schema"), ("--json", "help"), ("--offline", "schema"), ("--offline", "models"), ("--offline", "env")],
)
def test_what_a_command_would_drop_is_refused(option: str, command: str, run_cli: Run) -> None:
    said = f"{command} has no {option}, which stands before it; see 'txinspect {command} --help'"
    assert refused(run_cli(option, command)) == f"txinspect: {said}\n"


@pytest.mark.parametrize("option", ["--json", "--offline"])
def test_where_there_is_no_command(option: str, run_cli: Run) -> None:
    said = f"{option} is about a command: give one, such as txinspect {option} tree"
    assert refused(run_cli(option)) == f"txinspect: {said}\n"
    assert run_cli("-q").stdout == run_cli().stdout


@pytest.mark.parametrize("option", ["--layer", "-m", "--dtype", "--table"])
def test_others_belong_after_the_command(option: str, run_cli: Run) -> None:
    said = f"no such option: {option}, which belongs after the command; see 'txinspect --help'"
    assert refused(run_cli(option, "attn")) == f"txinspect: {said}\n"


def test_a_traceback_is_asked_for_before(run_cli: Run) -> None:
    result = run_cli("-v", "tree", "./nowhere")
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback")
    assert run_cli("-v", "schema", "nothing").stderr.startswith("Traceback")
    assert not run_cli("schema", "nothing").stderr.startswith("Traceback")


def test_they_stand_in_the_list_of_commands(run_cli: Run) -> None:
    shown = run_cli("--help").stdout
    panel = shown.partition("Before or after the command\n")[2].partition("\n\n")[0]
    assert all(
        option in panel for option in ("--json", "--quiet", "--verbose", "--color", "--no-pager", "--offline")
    ), panel
    offline, declared = get_args(before.Offline)[1], option_of(ModelChoice, "offline")
    assert declared is not None
    assert offline.help == declared.help
