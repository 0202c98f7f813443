"""--figure, and --picture FILE.pdf: a figure for a paper beside the drawing, or one sentence before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.conftest import NEEDED
from txinspect.render.figures import FIGURES

Run = Callable[..., Result]

BEGINNINGS = {"pdf": b"%PDF-", "svg": b'<svg class="txinspect"', "png": b"\x89PNG\r\n\x1a\n"}


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is refused is refused before a model is asked for."""

    def asked(*_: Any, **__: Any) -> Any:
        raise AssertionError("a model was asked for")

    monkeypatch.setattr("txinspect.inspecting.inspect", asked)
    monkeypatch.setattr("txinspect.cli.app._answer", asked)


@pytest.mark.screens
@pytest.mark.parametrize("command", FIGURES)
def test_every_such_command_has_a_figure(command: str, run_cli: Run, tmp_path: Path) -> None:
    extra = NEEDED.get(command, [])
    plain = run_cli(command, *extra)
    for kind, beginning in BEGINNINGS.items():
        file, figure = tmp_path / f"a.{kind}", [] if kind == "pdf" else ["--figure"]
        made = []
        for _ in range(2):  # one of ours is replaced
            shown = run_cli(command, *extra, "--picture", str(file), *figure)
            assert (shown.exit_code, shown.stderr) == (0, plain.stderr)
            assert shown.stdout.startswith(plain.stdout)
            made.append(file.read_bytes())
        assert made[0] == made[1]
        assert made[0].startswith(beginning)


@pytest.mark.screens
def test_an_svg_is_the_terminals_drawing_unless_a_figure_is_asked_for(run_cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "a.svg"
    for figure, says in (([], "matrix"), (["--figure"], "QuadMesh"), ([], "matrix")):
        assert run_cli("heads", "--picture", str(file), *figure).exit_code == 0
        assert says in file.read_text()


ALL = "attn, heads, lens, logits, diff and params"


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("tree", "--picture", "a.pdf"), 2, f"a figure for a paper, which {ALL} have and tree has not"),
        (("plan", "attn", "--picture", "a.pdf"), 2, "plan has not"),
        (("attn", "--figure"), 2, "--figure says how --picture is drawn"),
        (("attn", "--figure", "--picture", "a.jpg"), 2, "not a name that ends in .pdf, .svg or .png"),
        (("attn", "--picture", "a.jpg"), 2, "not a name that ends in .svg, .png or .pdf"),
        (("attn", "--picture", "a.pdf", "--dry-run"), 2, "--picture 'a.pdf' and --dry-run cannot be combined"),
        (("attn", "--picture", "a.svg", "--figure", "--dry-run"), 2, "--figure and --dry-run cannot be combined"),
        (("attn", "--picture", "no/a.pdf"), 1, "there is no directory"),
        (("attn", "--picture", "theirs.pdf"), 1, "is no picture of txinspect"),
        (("attn", "--picture", "quoting.pdf"), 1, "is no picture of txinspect"),
        (("attn", "--picture", "theirs.svg", "--figure"), 1, "is no picture of txinspect"),
        (("attn", "--picture", "theirs.png", "--figure"), 1, "is no picture of txinspect"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_refused(
    arguments: tuple[str, ...], code: int, says: str, run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for theirs in ("theirs.pdf", "theirs.svg", "theirs.png"):
        (tmp_path / theirs).write_text("%PDF-1.4\n% a thesis\n")
    info = b"1 0 obj\n<< /Creator (txinspect) >>\nendobj\n2 0 obj\n<< /Creator (TeX) >>\nendobj\n"
    (tmp_path / "quoting.pdf").write_bytes(b"%PDF-1.4\n" + info + b"xref\ntrailer\n<< /Info 2 0 R >>\n%%EOF\n")
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    result = run_cli(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_another_command_says_which_have_it(run_cli: Run) -> None:
    result = run_cli("tree", "--figure", "--picture", "a.svg")
    assert result.exit_code == 2
    assert all(command in result.stderr for command in FIGURES)
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("arguments", [("a.pdf",), ("a.svg", "--figure"), ("a.png", "--figure")])
def test_a_figure_needs_a_package(
    arguments: tuple[str, ...], run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run_cli("attn", "--picture", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "pip install txinspect[figures]" in result.stderr
    assert list(tmp_path.iterdir()) == []
