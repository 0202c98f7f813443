"""--picture: the drawing as SVG and PNG; nothing from a server, the same bytes twice, nothing lost."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import Result

from tests.conftest import NEEDED
from txinspect.commands import LISTED

pytestmark = pytest.mark.screens

Run = Callable[..., Result]


def words(svg: str) -> str:
    """What a picture says."""
    tree = ElementTree.fromstring(svg)
    return " ".join(" ".join(each.itertext()).replace("\xa0", " ") for each in tree.iter() if each.tag.endswith("text"))


def chunks(png: bytes) -> dict[bytes, bytes]:
    """The chunks of a PNG, each with the checksum that it should have."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    found, place = {}, 8
    while place < len(png):
        size = int.from_bytes(png[place : place + 4], "big")
        kind, content = png[place + 4 : place + 8], png[place + 8 : place + 8 + size]
        assert int.from_bytes(png[place + 8 + size : place + 12 + size], "big") == zlib.crc32(kind + content)
        found[kind] = content
        place += 12 + size
    return found


@pytest.mark.parametrize("command", LISTED)
def test_every_command_has_a_picture(command: str, run_cli: Run, tmp_path: Path) -> None:
    extra = NEEDED.get(command, [])
    plain = run_cli(command, *extra)
    shown = run_cli(command, *extra, "--picture", str(tmp_path / "a.svg"))
    assert shown.exit_code == 0, shown.stderr
    before, said, after = "".join(shown.stdout.split()).partition(f"picturein{tmp_path / 'a.svg'}")  # wrapped
    assert before + after == "".join(plain.stdout.split())
    assert said
    picture = (tmp_path / "a.svg").read_text()
    assert set(re.findall(r"https?://[^\"']*", picture)) == {"http://www.w3.org/2000/svg"}
    assert "<script" not in picture
    said = words(picture)
    for word in re.findall(r"[A-Za-z]{5,}", plain.stdout)[:12]:
        assert word in said


def test_the_same_bytes_twice_in_either_theme(run_cli: Run, tmp_path: Path) -> None:
    made = []
    for name in ("a.svg", "b.svg"):
        assert run_cli("attn", "--picture", str(tmp_path / name)).exit_code == 0
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
    assert run_cli("attn", "--theme", "light", "--picture", str(tmp_path / "b.svg")).exit_code == 0
    assert (tmp_path / "b.svg").read_bytes() != made[0]


def test_a_png(run_cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "a.PNG"
    for _ in range(2):  # one of ours is replaced
        assert run_cli("heads", "--picture", str(file)).exit_code == 0
    found = chunks(file.read_bytes())
    assert found[b"tEXt"] == b"Software\x00txinspect"
    width, height = (int.from_bytes(found[b"IHDR"][place : place + 4], "big") for place in (0, 4))
    assert width > 1000
    assert height > 300


def test_json_beside_a_picture(run_cli: Run, tmp_path: Path) -> None:
    result = run_cli("tree", "--json", "--picture", str(tmp_path / "a.svg"))
    assert json.loads(result.stdout)["command"] == "tree"
    assert "OPTForCausalLM" in words((tmp_path / "a.svg").read_text())


def test_hostile_tokens_are_letters_of_a_picture(run_cli: Run, tmp_path: Path) -> None:
    assert run_cli("tokenize", "</text><script>alert(1)</script> \u202e&amp;", "--picture", str(tmp_path / "a.svg"))
    picture = (tmp_path / "a.svg").read_text()
    assert "<script" not in picture
    assert "\u202e" not in picture
    ElementTree.fromstring(picture)


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("a.jpg", 2, "not a name that ends in .svg or .png"),
        ("a", 2, "not a name that ends in .svg or .png"),
        ("no/a.svg", 1, "there is no directory"),
        ("folder.svg", 1, "is a directory"),
        ("theirs.svg", 1, "is no picture of txinspect"),
        ("theirs.png", 1, "is no picture of txinspect"),
    ],
)
def test_what_cannot_be_written(name: str, code: int, says: str, run_cli: Run, tmp_path: Path) -> None:
    (tmp_path / "folder.svg").mkdir()
    for theirs in ("theirs.svg", "theirs.png"):
        (tmp_path / theirs).write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    before = sorted((each.name, each.is_file() and each.read_bytes()) for each in tmp_path.iterdir())
    result = run_cli("tokenize", "--picture", str(tmp_path / name))
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr
    assert sorted((each.name, each.is_file() and each.read_bytes()) for each in tmp_path.iterdir()) == before


def test_a_png_needs_a_package(run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run_cli("tokenize", "--picture", str(tmp_path / "a.png"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "txinspect[pictures]" in result.stderr
    assert list(tmp_path.iterdir()) == []
