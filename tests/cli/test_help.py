"""The help as we draw it: short for -h, in full for --help, in columns at any width."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from itertools import pairwise
from typing import Any

import pytest
import typer
from typer.testing import Result

from tests.cli.test_app import COMMANDS, shown_on_terminal
from txinspect.cli import help_pages
from txinspect.cli.app import app
from txinspect.cli.command_line import long_of
from txinspect.cli.streams import console

pytestmark = pytest.mark.screens

Run = Callable[..., Result]
GROUP: Any = typer.main.get_command(app)


def shown(run_cli: Run, *arguments: str) -> str:
    """A page of help."""
    result = run_cli(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert not result.stdout.endswith("\n\n")
    return result.stdout


def headings(page: str) -> list[str]:
    """The headings of a page's sections of options and commands."""
    return [line for line, below in pairwise(page.splitlines()) if re.match("[A-Z]", line) and below.startswith("  ")]


def options(page: str) -> set[str]:
    """The long options that a page lists."""
    return set(re.findall(r"^  (?:-\w, |    )(--[\w-]+)", page, re.MULTILINE))


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make the terminal so wide."""
    return lambda width: monkeypatch.setenv("COLUMNS", str(width))


@pytest.mark.parametrize("command", COMMANDS)
def test_in_short_it_has_the_command_s_own_options(command: str, run_cli: Run, columns: Callable[[int], None]) -> None:
    columns(80)
    page = shown(run_cli, command, "-h")
    own = {long_of(each) for each in GROUP.built(command).params if not each.rich_help_panel}
    assert options(page) == {each for each in own if each.startswith("--")} | {"--help"}
    assert headings(page) == ["Examples:", "Options"]
    assert re.search(r"^More with --help: .*Output\.$", page, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_in_full_it_has_every_option_once(command: str, run_cli: Run, columns: Callable[[int], None]) -> None:
    columns(200)
    page = shown(run_cli, command, "--help")
    listed = re.findall(r"^  (-\w(?:, --[\w-]+)*|    --[\w-]+)", page, re.MULTILINE)
    declared = [
        ", ".join([*(short for short in each.opts if not short.startswith("--")), long_of(each)])
        for each in GROUP.built(command).params
        if long_of(each).startswith("--")
    ]
    assert sorted(each.strip() for each in listed) == sorted([*declared, "-h, --help"])
    known = ["Options", "Against", "Input", "Model", "Loading", "Output"]
    assert headings(page)[1:] == [each for each in known if each in headings(page)]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("names", [(), *((command,) for command in COMMANDS)], ids=lambda names: " ".join(names))
def test_no_line_is_wider_than_the_terminal_and_no_word_is_broken(
    names: tuple[str, ...], width: int, run_cli: Run, columns: Callable[[int], None]
) -> None:
    for option in ("-h", "--help"):
        columns(width)
        page = shown(run_cli, *names, option)
        whole = 60 if width < 80 else width  # of what has no blank, such as a program for jq
        assert max(map(len, page.splitlines())) <= whole, page
        columns(1000)
        if option == "--help":
            assert page.split() == shown(run_cli, *names, option).split()


def test_what_is_said_of_an_option_is_in_a_column_with_its_default_and_variable(
    run_cli: Run, columns: Callable[[int], None]
) -> None:
    columns(80)
    page = shown(run_cli, "attn", "--help")
    assert (
        "  -m, --model MODEL  A bundled model, a local directory, a .gguf file or a Hub\n"
        "                     id, in that order of resolution.\n"
        "                     [env var: TXINSPECT_MODEL] [default: opt-mini]\n"
    ) in page
    assert "      --skip-norm    Feed the attention the layer's input without the norm, as\n" in page
    assert "  TEXT               The text; if not given, what is piped in, else the lesson's\n" in page
    assert "all. [default: 0]" not in page
    assert "may be repeated. [default: 0]" in page
    assert "[default: False]" not in page
    assert "[default: None]" not in page


def test_in_short_a_line_that_is_too_long_is_its_first_clause(run_cli: Run, columns: Callable[[int], None]) -> None:
    columns(80)
    assert "  TEXT               The text.\n" in shown(run_cli, "attn", "-h")
    columns(250)
    assert "The text; if not given, what is piped in, else the lesson's" in shown(run_cli, "attn", "-h")


def test_what_is_below_the_options_is_only_in_full(run_cli: Run) -> None:
    said = "A sink is a key that a share of all heads gives more than 0.3"
    assert said in " ".join(shown(run_cli, "heads", "--help").split())
    assert said not in " ".join(shown(run_cli, "heads", "-h").split())


@pytest.mark.parametrize(
    "line",
    [
        ("attn", "text", "--layer", "0", "--help"),
        ("attn", "--help", "text", "--layer", "0"),
        ("--no-pager", "attn", "--help"),
        ("attn", "-q", "--help", "-h"),
    ],
)
def test_it_stands_anywhere_in_the_line(line: tuple[str, ...], run_cli: Run) -> None:
    assert shown(run_cli, *line) == shown(run_cli, "attn", "--help")


def test_beside_what_is_wrong(run_cli: Run) -> None:
    """A value is checked after the help is asked for; an option that is none, before."""
    assert shown(run_cli, "attn", "--layer", "x", "-h") == shown(run_cli, "attn", "-h")
    assert shown(run_cli, "attn", "-qh") == shown(run_cli, "attn", "-h")
    result = run_cli("attn", "--nonsense", "--help")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("txinspect: no such option: --nonsense")
    assert run_cli("tokenize", "--json", "--", "--help").exit_code == 0


# The list of commands


def test_the_short_list_fits_on_a_terminal(run_cli: Run, columns: Callable[[int], None]) -> None:
    columns(80)
    lines = shown(run_cli, "-h").splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    named = [name for line in lines if re.match("  [A-Z]", line) for name in re.findall(r"\b[a-z]+", line)]
    assert named == list(COMMANDS)


def test_however_many_commands_there_are(columns: Callable[[int], None]) -> None:
    columns(80)
    many = {group: [f"command{number}" for number in range(40)] for group in ("Text", "Model", "Run", "Machines")}
    lines = [line.plain for line in help_pages._named(many, console(StringIO()))]
    assert len(lines) == 4
    assert all(len(line) <= 80 for line in lines)
    assert lines[2] == "  Run       command0, command1, command2, command3, command4 and 35 more"


def test_its_examples_run(run_cli: Run) -> None:
    from txinspect.cli.greeting import EXAMPLES

    page = shown(run_cli, "-h")
    assert [line[4:] for line in page.splitlines() if line.startswith("  $ ")] == list(EXAMPLES)
    for example in EXAMPLES:
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', example)]
        assert run_cli(*words[1:]).exit_code == (1 if "facebook/" in example else 0)  # which is on the Hub


def test_the_full_list_has_every_sentence(run_cli: Run, columns: Callable[[int], None]) -> None:
    columns(80)
    page = shown(run_cli, "--help")
    words = " ".join(page.split())
    assert all(f" {command.name} {str(command.help).splitlines()[0]}" in words for command in app.registered_commands)
    assert headings(page) == [
        *("Options", "Completion", "Before or after the command"),
        *("Text", "Model", "Run", "Cause", "Share", "Machines"),
    ]
    assert page.endswith("txinspect COMMAND --help says more about each.\n")


# Where it goes


@pytest.mark.processes
def test_on_a_terminal_headings_are_bold_and_names_have_a_colour() -> None:
    code, page = shown_on_terminal("attn", "-h", TERM="xterm-256color", PAGER="", COLUMNS="80")
    assert code == 0
    assert "\x1b[1mOptions\x1b[0m\n" in page
    assert "\x1b[36m-l, --layer\x1b[0m N" in page
    assert "\x1b[2m[default: head]\x1b[0m" in page


@pytest.mark.processes
@pytest.mark.parametrize("arguments", ["--help", "-h", "attn --help", "help attn"])
def test_a_closed_stdout_is_one_sentence(arguments: str) -> None:
    command = f"{sys.executable} -m txinspect {arguments} >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False, timeout=120)
    assert done.returncode == 1
    assert done.stderr == b"txinspect: standard output is closed: there is nowhere to write the report\n"


def test_no_page_needs_what_draws_typer_s() -> None:
    code = "import sys\nfrom txinspect.cli.app import app\ntry:\n    app(['attn', '--help'])\nfinally:\n"
    code += "    print('typer.rich_utils' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"False\n")
