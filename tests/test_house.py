"""The house of design.md, section 3: imports run downwards only, core never draws, and a quick command stays quick."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import txinspect
from txinspect.inspecting import inspect
from txinspect.queries import ModelChoice, TokenizeQuery

HOUSE = Path(txinspect.__file__).parent

FLOORS: tuple[set[str], ...] = (
    {"__init__"},  # names without imports: what stands in _HOMES is imported when it is asked for
    {"errors", "stages", "records", "queries", "files", "wording"},
    {"positions", "attention", "stats", "source", "checkpoint", "gguf_files"},
    {"architecture", "watching", "recording"},
    {"tokens", "tree", "capture", "loading", "saving"},
    {"checking", "quantizing", "adapters"},
    {"subject"},
    {"planning", "describing", "mapping", "weights"},
    {"rehearsing", "accounting"},
    {"inspecting"},
    {"completing", "options", "render"},
    {"cli"},
    {"__main__"},
)
"""Rooms from the bottom up. A room imports from its own floor and those below, and nothing imports in a circle."""

CORE = set().union(*FLOORS[1:10])
PLAIN = {"errors", "stages", "records", "queries", "wording"}
COMPUTE = {"torch", "transformers", "numpy", "safetensors", "bitsandbytes", "accelerate", "tokenizers"}

ROOMS = {path.stem: path for path in HOUSE.glob("*.py")}
RENDER = {path.stem: path for path in (HOUSE / "render").glob("*.py")}


def imports(path: Path, *, only_at_import: bool = False) -> Iterator[str]:
    """Dotted names of what a file imports, `from a import b` as a.b; or only of what importing it imports."""
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if only_at_import and (isinstance(node, (ast.FunctionDef, ast.Lambda)) or _is_for_types(node)):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        todo += ast.iter_child_nodes(node)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def rooms_imported(path: Path) -> set[str]:
    """The rooms of the house that a file imports, anywhere in it."""
    found = set()
    for name in imports(path):
        package, _, rest = name.partition(".")
        if package == "txinspect":
            first = rest.partition(".")[0]
            found.add(first if first in ROOMS or first == "render" else "__init__")
    return found


def packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def floor(room: str) -> int:
    found = [index for index, rooms in enumerate(FLOORS) if room in rooms]
    assert found, f"txinspect/{room}.py has no place in the house: give it a floor here"
    return found[0]


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_imports_run_downwards(room: str) -> None:
    if room == "__init__":
        return
    upwards = {other for other in rooms_imported(ROOMS[room]) if floor(other) > floor(room)}
    assert not upwards


def test_imports_run_in_no_circle() -> None:
    below = {room: rooms_imported(path) - {room, "__init__"} for room, path in ROOMS.items() if room != "__init__"}
    below["render"] = set().union(*map(rooms_imported, RENDER.values())) - {"render"}
    while leaves := {room for room, others in below.items() if not others & below.keys()}:
        below = {room: others for room, others in below.items() if room not in leaves}
    assert not below


@pytest.mark.parametrize("room", sorted(PLAIN))
def test_plain_rooms_import_only_one_another(room: str) -> None:
    assert rooms_imported(ROOMS[room]) <= PLAIN
    assert not packages(ROOMS[room]) & (COMPUTE | {"rich", "typer"})


@pytest.mark.parametrize("room", sorted(CORE))
def test_core_never_draws_prints_or_parses_arguments(room: str) -> None:
    assert "render" not in rooms_imported(ROOMS[room])
    assert not packages(ROOMS[room]) & {"rich", "typer", "argparse", "click"}
    tree = ast.walk(ast.parse(ROOMS[room].read_text(encoding="utf-8")))
    assert not [node for node in tree if isinstance(node, ast.Name) and node.id == "print"]


@pytest.mark.parametrize("room", sorted(RENDER))
def test_render_knows_only_records(room: str) -> None:
    assert rooms_imported(RENDER[room]) <= {"records", "render", "wording"}
    assert not packages(RENDER[room]) & COMPUTE


def test_only_three_rooms_draw() -> None:
    assert {room for room, path in ROOMS.items() if "rich" in packages(path)} <= {"cli"}


@pytest.mark.parametrize("path", sorted([*ROOMS.values(), *RENDER.values()]), ids=lambda path: path.stem)
def test_nothing_heavy_is_imported_at_import(path: Path) -> None:
    heavy = COMPUTE | {"huggingface_hub", "platformdirs"}
    if path.stem in (
        "watching",
        "rehearsing",
    ):  # torch's modes cannot be written without torch; these are imported when a model runs
        heavy -= {"torch"}
    assert not {name.partition(".")[0] for name in imports(path, only_at_import=True)} & heavy


def test_architecture_alone_knows_the_modules_of_opt() -> None:
    names = ("q_proj", "fc1", "embed_positions", "project_in", "decoder.layers")
    for room, path in ROOMS.items():
        if room in CORE - {"architecture", "positions"}:  # positions reads buffers of other families
            source = _code_without_docstrings(path)
            assert not [name for name in names if name in source], room


def _code_without_docstrings(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not _is_docstring(one)] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


_RUN = """
import json, sys
arguments = json.loads(sys.argv[1])
import txinspect.cli
if arguments is not None:
    try:
        txinspect.cli.app(arguments)
    except SystemExit as end:
        assert not end.code, end.code
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def modules_after(arguments: list[str] | None, **environment: str) -> set[str]:
    """The packages in memory after a command, or after importing the command line alone."""
    command = [sys.executable, "-c", _RUN, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, env=os.environ | environment)
    assert done.returncode == 0, done.stderr.decode()
    return {name.partition(".")[0] for name in json.loads(done.stderr.decode().splitlines()[-1])}


@pytest.mark.parametrize(
    "arguments", [None, ["--help"], ["--version"], ["attn", "--help"], ["schema"], ["schema", "attn"]], ids=str
)
def test_quick_commands_import_nothing_heavy(arguments: list[str] | None) -> None:
    assert not modules_after(arguments) & (COMPUTE | {"huggingface_hub"})


@pytest.mark.parametrize("shown", [[], ["--json"]], ids=str)
def test_tokenize_imports_only_tokenizers(shown: list[str], opt: Path) -> None:
    inspect(TokenizeQuery(model=ModelChoice(name=str(opt)), text="x"))
    found = modules_after(["tokenize", "x", "-m", str(opt), *shown])
    assert not found & (COMPUTE - {"tokenizers"})
    assert ("rich" in found) or shown


def test_importing_the_package_imports_nothing_of_it() -> None:
    code = "import sys, txinspect; print(sorted(name for name in sys.modules if name.startswith('txinspect.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", txinspect.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(txinspect, name) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = txinspect.nonsense
