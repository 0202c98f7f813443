"""ASCII look-alikes: of the same width, distinct where what is drawn is, and never a question mark."""

from __future__ import annotations

import ast
import subprocess
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len
from typer.testing import Result

import txinspect
from txinspect.cli.lookalikes import ERRORS

HOUSE = Path(txinspect.__file__).parent
ENCODINGS: dict[str, dict[str, str]] = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
Process = Callable[..., subprocess.CompletedProcess[bytes]]


def in_ascii(text: str) -> str:
    return text.encode("ascii", ERRORS).decode("ascii")


@pytest.mark.parametrize("drawn", [" ░▒▓█", " ▁▂▃▄▅▆▇█", " ▏▎▍▌▋▊▉█", "▀▄█ ", "─│┌", "–·±×", "≥≤", "‘“", "␣↵⇥"])
def test_what_is_distinct_stays_distinct(drawn: str) -> None:
    assert len(set(in_ascii(drawn))) == len(drawn)


def written_by_the_renderer() -> Iterator[str]:
    """The characters beyond ASCII in what the program says or draws: the strings of its code, docstrings left out."""
    for path in [*HOUSE.glob("render/**/*.py"), *HOUSE.glob("cli/*.py"), *HOUSE.glob("forward/**/*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and '"""' not in node.value:
                yield from (one for one in node.value if not one.isascii() and unicodedata.category(one) != "Co")


def test_everything_that_the_program_draws_has_a_lookalike() -> None:
    drawn = set(written_by_the_renderer())
    assert {"░", "▁", "▏", "…", "≥"} <= drawn
    assert [one for one in sorted(drawn) if in_ascii(one) == "?" or len(in_ascii(one)) != cell_len(one)] == []


def test_box_lines_and_pictures_of_controls_have_lookalikes_of_one_column() -> None:
    for code in (*range(0x2500, 0x25A0), *range(0x2400, 0x2422)):
        if code not in range(0x2594, 0x25A0):  # quadrants, which nobody draws
            assert len(in_ascii(chr(code))) == 1
            assert in_ascii(chr(code)) != "?"
    assert in_ascii("╭──╮│╰╯├└") == "+--+|++++"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [a] ?", "plain [a] ?"),
        ("漢字", "????"),
        ("é", "?"),
        ("e\u0301", "e"),
        ("\udcff", "?"),
        ("a–漢b", "a-??b"),
    ],
    ids=ascii,
)
def test_any_other_character_is_a_question_mark_for_each_column(text: str, shown: str) -> None:
    assert in_ascii(text) == shown


def test_what_an_encoding_has_stays() -> None:
    assert "– × ± · … é █".encode("cp1252", ERRORS) == b"\x96 \xd7 \xb1 \xb7 \x85 \xe9 #"


@pytest.mark.parametrize(("command", "encoding"), [("", "C"), ("attn", "ascii"), ("run", "cp1252")])
def test_help_in_a_legacy_encoding(command: str, encoding: str, run_process: Process) -> None:
    names = [command] if command else []
    done = run_process(*names, "--help", **ENCODINGS[encoding])
    assert (done.returncode, done.stderr) == (0, b"")
    plain = run_process(*names, "--help").stdout.decode()
    shown = done.stdout.decode("cp1252")
    assert [len(line) for line in shown.splitlines()] == [len(line) for line in plain.splitlines()]
    assert "?" not in shown


@pytest.mark.parametrize(
    ("arguments", "encoding"),
    [
        (("attn", "--layer", "0"), "ascii"),
        (("embed",), "cp1252"),
        (("tree",), "ascii"),
    ],
    ids=lambda each: each if isinstance(each, str) else each[0],
)
def test_drawings_in_a_legacy_encoding(
    arguments: tuple[str, ...], encoding: str, run_process: Process, run_cli: Callable[..., Result]
) -> None:
    done = run_process(*arguments, **ENCODINGS[encoding])
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode("cp1252").splitlines()
    plain = run_cli(*arguments).stdout.splitlines()
    assert [cell_len(line) for line in lines] == [cell_len(line) for line in plain]
    if arguments[0] == "attn":
        assert not [line for line in lines if "?" in line]
        first = next(line for line in lines if line.startswith("  0 </s>"))
        assert first.split("</s>")[1].split()[0] == "#"


def test_a_complaint_in_a_legacy_encoding(run_process: Process) -> None:
    done = run_process("tokenize", "--file", "x–漢.txt", **ENCODINGS["ascii"])
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"txinspect: x-??.txt cannot be read: ")
