"""The glossary: every title of a column on every screen is in it, and every term is on a screen."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from typer.testing import Result

from tests.conftest import NEEDED
from tests.making.reports import REPORTS, drawn
from tests.render.test_terminal import EVERYTHING
from txinspect.commands import LISTED
from txinspect.render.content.terms import TERMS, terms
from txinspect.render.tables import Table
from txinspect.render.terminal import frame

pytestmark = pytest.mark.screens

Run = Callable[..., Result]


def words_of(command: str) -> set[str]:
    """The words that are explained for a command's screens."""
    return {word for term in TERMS if command in term.commands for word in term.word.split(", ")} | {
        term.word for term in TERMS if command in term.commands
    }


@pytest.mark.parametrize("name", [each for each in REPORTS if each != "lesson"])  # which explains its own
def test_every_column_is_explained(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: set[str] = set()
    made = frame.Frame.__init__

    def watched(self: frame.Frame, table: Table, bars: int = frame.BAR) -> None:
        titles.update(column.title for column in table.columns)
        made(self, table, bars)

    monkeypatch.setattr(frame.Frame, "__init__", watched)
    report, _ = REPORTS[name]()
    for view in {None, EVERYTHING.get(name)}:
        drawn(report, 200, view=view)
    # A tensor's own name, a range of norms and a token are no words of the program.
    own = {each for each in titles if re.match(r"(norm \d|rank of |(decoder\.)?layers\.0\.)", each)} | {""}
    assert titles - own <= words_of(report.command)


def test_every_term_is_of_a_command() -> None:
    for term in TERMS:
        assert set(term.commands) <= set(LISTED), term
        assert len(term.word) <= 32
        assert not term.meaning.endswith(".")


def test_a_legend_is_below_the_drawing(run_cli: Run) -> None:
    plain, legend = run_cli("heads").stdout, run_cli("heads", "--legend").stdout
    assert legend.startswith(plain)
    below = " ".join(legend[len(plain) :].split())
    for term in (each for each in TERMS if "heads" in each.commands):
        assert term.word in below
        assert term.meaning in below.replace(" - ", "-") or term.meaning.split()[0] in below
    assert "kurtosis" not in below
    assert len(terms("heads").rows) < len(terms().rows) == len(TERMS)


@pytest.mark.parametrize("command", LISTED)
def test_every_command_has_a_legend(command: str, run_cli: Run) -> None:
    extra = NEEDED.get(command, [])
    shown = run_cli(command, "--legend", *extra)
    assert shown.exit_code == 0, shown.stderr
    assert "on the screen" in shown.stdout
    refused = run_cli(command, "--legend", "--json", *extra)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--legend and --json cannot be combined" in refused.stderr
