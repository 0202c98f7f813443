"""Colours: where they are seen, where a variable or --color asks for them; on stderr as on stdout."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable

import pytest
from typer.testing import Result

from tests.cli.test_app import on_terminal, shown_on_terminal
from txinspect.cli import appearance
from txinspect.cli.appearance import WHEN, Appearance
from txinspect.errors import UsageError

Run = Callable[..., Result]
Process = Callable[..., subprocess.CompletedProcess[bytes]]

RED = "\x1b[31merror:\x1b[0m no such command 'foo'\n\x1b[36mhint:\x1b[0m see 'txinspect --help'\n"

ASKED: list[tuple[dict[str, str], tuple[str, ...], bool]] = [
    ({}, (), False),
    ({}, ("--color", "auto"), False),
    ({}, ("--color", "never"), False),
    ({}, ("--color=always",), True),
    ({"TERM": "dumb"}, ("--color=always",), True),
    ({"CLICOLOR_FORCE": "1"}, (), True),
    ({"CLICOLOR_FORCE": "1", "TERM": "dumb"}, (), True),
    ({"CLICOLOR_FORCE": "0"}, (), False),
    ({"CLICOLOR_FORCE": ""}, (), False),
    ({"FORCE_COLOR": "1"}, (), True),
    ({"FORCE_COLOR": "1"}, ("--color", "never"), False),
    ({"CLICOLOR_FORCE": "1"}, ("--color", "never"), False),
    ({"NO_COLOR": "1"}, ("--color", "always"), True),
    ({"NO_COLOR": "1", "CLICOLOR_FORCE": "1"}, (), False),
    ({"NO_COLOR": "", "CLICOLOR_FORCE": "1"}, (), True),
]
"""Variables, options, and whether there are colours in a pipe."""


def is_coloured(text: str) -> bool:
    """Whether a colour is in it; bold and dim are none."""
    return re.search(r"\x1b\[[0-9;]*\b(3[0-9]|9[0-7]|4[0-9])[0-9;]*m", text) is not None


@pytest.mark.parametrize(("variables", "options", "coloured"), ASKED, ids=str)
def test_colours_in_a_pipe(
    variables: dict[str, str],
    options: tuple[str, ...],
    coloured: bool,
    run_cli: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    plain = run_cli("tokenize", "hi", "--color", "never").stdout
    assert "\x1b" not in plain
    for arguments in ([*options, "tokenize", "hi"], ["tokenize", "hi", *options]):
        result = run_cli(*arguments)
        assert (result.exit_code, is_coloured(result.stdout)) == (0, coloured)
        assert re.sub(r"\x1b\[[0-9;]*m", "", result.stdout) == plain
    assert is_coloured(run_cli(*options, "foo").stderr) == coloured
    assert is_coloured(run_cli("tree", "--bad", *options).stderr) == coloured
    assert is_coloured(run_cli("attn", "0", "-m", "./nowhere", *options).stderr) == coloured


def test_json_has_none(run_cli: Run) -> None:
    plain = run_cli("models", "--json")
    result = run_cli("--color", "always", "models", "--json")
    assert (result.exit_code, result.stdout) == (0, plain.stdout)


@pytest.mark.parametrize("word", ["", "x", "Always", "yes"])
def test_another_word_is_wrong_usage(word: str, run_cli: Run) -> None:
    for arguments in (["--color", word, "tree"], ["tree", "--color", word], ["schema", f"--color={word}"]):
        result = run_cli(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == f"txinspect: --color {word!r} is unknown: give auto, always or never\n"


def test_two_words_are_wrong_usage(run_cli: Run) -> None:
    result = run_cli("--color", "never", "tree", "--color", "always")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "txinspect: --color is given as always and as never: give one of them\n"
    assert run_cli("--color", "never", "models", "--color=never").exit_code == 0


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ((), Appearance()),
        (("tree", "--color", "never"), Appearance("never")),
        (("--no-pager", "--color=always", "tree"), Appearance("always", pager=False)),
        (("tokenize", "--", "--color=always", "--no-pager"), Appearance()),
        (("tokenize", "--color"), Appearance()),
        (("tokenize", "--color", "red"), Appearance()),
    ],
)
def test_what_a_line_asks_for(line: tuple[str, ...], asked: Appearance) -> None:
    appearance.read(line)
    assert appearance.asked() == asked
    appearance.read(asked.words)
    assert appearance.asked() == asked
    appearance.read(())


def test_of_two_words_none_is_taken() -> None:
    with pytest.raises(UsageError, match="as always and as never"):
        appearance.read(("--color", "always", "--color", "never"))
    assert appearance.asked() == Appearance()


def test_help_has_the_colours_that_are_asked_for(run_process: Process) -> None:
    for arguments in (["--help"], ["tree", "--help"], ["help", "tree"]):
        assert b"\x1b" not in run_process(*arguments).stdout
        always = run_process(*arguments, "--color", "always", TERM="dumb", NO_COLOR="1").stdout
        assert is_coloured(always.decode())
        assert b"\x1b" not in run_process("--color=never", *arguments, FORCE_COLOR="1").stdout
        assert run_process(*arguments, CLICOLOR_FORCE="1", TERM="xterm").stdout == always


def test_variables_are_left_as_they_were(monkeypatch: pytest.MonkeyPatch, run_cli: Run) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    before = dict(os.environ)
    for when in WHEN:
        for arguments in (["--help"], ["tree", "--help"], ["help"]):
            assert run_cli("--color", when, *arguments).exit_code == 0
            assert dict(os.environ) == before


def test_never_on_a_terminal() -> None:
    for arguments in (["models"], ["models", "--help"]):
        code, shown = shown_on_terminal(*arguments, TERM="xterm-256color", PAGER="")
        assert (code, "\x1b" in shown) == (0, True)
        code, shown = shown_on_terminal(*arguments, "--color", "never", TERM="xterm-256color", PAGER="")
        assert (code, "\x1b" in shown) == (0, False)


def test_an_error_on_a_terminal() -> None:
    assert on_terminal("foo")[2].replace("\r\n", "\n") == RED
    assert "\x1b" not in on_terminal("foo", "--color", "never")[2]
    assert "\x1b" not in on_terminal("--color", "never", "tree", "--bad")[2]


def test_an_error_on_a_terminal_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in on_terminal("foo")[2]
    assert on_terminal("foo", "--color", "always")[2].replace("\r\n", "\n") == RED
