"""--csv: the rows of every report, as exact as its JSON; nothing lost."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.conftest import NEEDED
from txinspect.commands import LISTED

pytestmark = pytest.mark.screens

Run = Callable[..., Result]


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("command", LISTED)
def test_every_command_has_rows(command: str, run_cli: Run, tmp_path: Path) -> None:
    extra = NEEDED.get(command, [])
    result = run_cli(command, *extra, "--json", "--csv", str(tmp_path / "a.csv"))
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["command"] in (command, "stages")  # run lists its stages
    rows = table(tmp_path / "a.csv")
    assert len(rows) > 0
    assert all(None not in row and None not in row.values() for row in rows)  # every row has every column


def records(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**row, **cell} for row in report["rows"] for cell in row["cells"]]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("heads",), lambda report: [[each["head"], each["entropy"]] for each in report["heads"]]),
        (("run", "-s", "layers.*.output"), lambda report: [[t["name"], t["stats"]["l2"]] for t in report["tensors"]]),
        (("lens",), lambda report: [[each["layer"], each["kl"]] for each in records(report)]),
        (("tokenize", 'a\nb, "c"'), lambda report: [[t["text"], t["id"]] for t in report["input"]["tokens"]]),
        (("logits",), lambda report: [[p["token"], p["surprisal"]] for p in report["predictions"]]),
    ],
)
def test_numbers_are_those_of_the_json(
    arguments: tuple[str, ...], wanted: Callable[[Any], list[list[Any]]], run_cli: Run, tmp_path: Path
) -> None:
    report = json.loads(run_cli(*arguments, "--json", "--csv", str(tmp_path / "a.csv")).stdout)
    columns = {
        "heads": ("head", "entropy"),
        "run": ("name", "stats.l2"),
        "lens": ("layer", "kl"),
        "tokenize": ("text", "id"),
        "logits": ("token", "surprisal"),
    }[arguments[0]]
    rows = [[row[name] for name in columns] for row in table(tmp_path / "a.csv")]
    assert rows == [["" if each is None else str(each) for each in row] for row in wanted(report)]


def test_a_drawing_says_where_the_rows_are(run_cli: Run, tmp_path: Path) -> None:
    shown = run_cli("heads", "--csv", str(tmp_path / "a.csv")).stdout
    assert f"rowsin{tmp_path / 'a.csv'}" in "".join(shown.split())


def test_rows_of_the_same_kind_are_replaced_and_no_others(run_cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    for text in ("one", "one two three"):
        assert run_cli("tokenize", text, "--csv", str(file)).exit_code == 0
    kept = file.read_bytes()
    refused = run_cli("heads", "--csv", str(file))
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "holds no such rows" in refused.stderr
    assert file.read_bytes() == kept
    assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("a.tsv", 2, "not a name that ends in .csv"),
        ("no/a.csv", 1, "no directory"),
        ("folder.csv", 1, "is a directory"),
    ],
)
def test_where_rows_cannot_be_written(name: str, code: int, says: str, run_cli: Run, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    result = run_cli("tokenize", "--csv", str(tmp_path / name))
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr
