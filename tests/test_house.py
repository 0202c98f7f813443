"""The house: who may import whom, a command in three files and a line, and a quick command that stays quick."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import txinspect
from txinspect import answers, commands
from txinspect.commands.attn import AttnQuery
from txinspect.commands.tokenize import TokenizeQuery
from txinspect.inspecting import inspect
from txinspect.model_choice import ModelChoice

HOUSE = Path(txinspect.__file__).parent

GROUND = {
    "version",
    "errors",
    "wording",
    "writing",
    "opening",
    "stages",
    "stage_names",
    "names_elsewhere",
    "globs",
    "nearest",
    "records",
    "as_json",
    "queries",
    "option",
    "model_choice",
    "value_checks",
    "indices",
    "blocks",
    "sentence_vectors",
    "edits",
}

WINGS: dict[str, set[str]] = {
    "ground": {"ground"},
    "commands": {"ground", "commands"},
    "guards": {"ground", "guards"},
    "anatomy": {"ground", "anatomy"},
    "sources": {"ground", "guards", "sources"},
    "texts": {"ground", "guards", "sources", "texts"},
    "measure": {"ground", "commands", "measure"},
    "loading": {"ground", "guards", "anatomy", "sources", "texts", "loading"},
    "forward": {"ground", "guards", "anatomy", "loading", "forward"},
    "answers": {
        *("ground", "guards", "commands", "anatomy", "sources", "texts", "measure", "loading", "forward", "answers"),
    },
    "inspecting": {"ground", "commands", "answers"},
    "answer": {"ground", "commands", "answers", "render"},
    "model": {"ground", "commands", "answers", "inspecting", "answer"},
    "render": {"records", "wording", "stages", "stage_names", "blocks", "commands", "render"},
    "serving": {"ground", "guards", "answers", "inspecting", "serving"},
    "agents": {"ground", "commands", "serving", "agents"},
    "cli": {"ground", "commands", "inspecting", "render", "serving", "agents", "cli"},
    "__init__": {"ground", "commands", "inspecting", "model"},
    "__main__": {"serving", "cli"},
}
"""Who may import whom. The files at the top level, but for the door and the two faces, are the ground."""

MORE = {"cli.completing": {"sources"}, "cli.text": {"sources"}}
"""Rooms that may import more than their wing."""

FACES = {"__init__", "__main__"}
"""What hands names on to people, and is imported by nobody."""

COMPUTE = {"torch", "transformers", "numpy", "safetensors", "bitsandbytes", "accelerate", "tokenizers", "peft"}
HEAVY = COMPUTE | {"huggingface_hub", "platformdirs", "gguf", "ml_dtypes", "matplotlib"}
DRAWING = {"rich", "typer", "argparse", "click"}

WRITTEN_WITH_TORCH = {
    *("forward.attention.softmax_watch", "forward.frozen", "forward.rehearsal", "forward.remembered", "forward.wiring"),
}
"""torch's modes, and what they ask for each operator, cannot be written without torch; imported when a model runs."""

TORCH_FREE = {"ground", "commands", "sources", "render", "cli", "inspecting", "__init__", "__main__"}
"""Wings that compute nothing; sources opens pickled weights with torch, when it has to."""

ROOMS = {
    ".".join(path.relative_to(HOUSE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in HOUSE.rglob("*.py")
}
"""Every file, by its dotted name below txinspect."""


@cache
def parsed(path: Path) -> ast.Module:
    """A file, to be looked at and not changed."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path, *, only_at_import: bool = False) -> Iterator[str]:
    """Dotted names of what a file imports, `from a import b` as a.b; or only of what importing it imports."""
    todo: list[ast.AST] = [parsed(path)]
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


@cache
def packages(path: Path) -> frozenset[str]:
    return frozenset(name.partition(".")[0] for name in imports(path))


@cache
def rooms_imported(path: Path, *, only_at_import: bool = False) -> frozenset[str]:
    """The rooms of the house that a file imports, anywhere in it; the face where a name is of txinspect itself."""
    found = set()
    for name in imports(path, only_at_import=only_at_import):
        package, _, rest = name.partition(".")
        if package == "txinspect":
            while rest and rest not in ROOMS:
                rest = rest.rpartition(".")[0]
            found.add(rest or "__init__")
    return frozenset(found)


def wing(room: str) -> str:
    """The wing that a room is in."""
    first = room.partition(".")[0]
    return "ground" if first in GROUND else first


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_is_in_a_wing(room: str) -> None:
    assert wing(room) in WINGS, f"{room} is in no wing: move it into one, or give it a line in WINGS"


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_imports_only_what_its_wing_may(room: str) -> None:
    allowed = WINGS[wing(room)] | MORE.get(room, set())
    against = {other for other in rooms_imported(ROOMS[room]) if wing(other) not in allowed and other not in allowed}
    assert not against


def test_nobody_imports_a_face() -> None:
    assert not {room: found for room, path in ROOMS.items() if (found := rooms_imported(path) & FACES)}


def test_imports_run_in_no_circle() -> None:
    """Imports for types count, too: a circle of names is a circle of meaning. A package stands for what it imports."""
    below = {room: rooms_imported(path) - {room} for room, path in ROOMS.items()}
    while leaves := {room for room, others in below.items() if not others & below.keys()}:
        below = {room: others for room, others in below.items() if room not in leaves}
    assert not below


@pytest.mark.parametrize("room", sorted(room for room in ROOMS if wing(room) in {"ground", "commands"}))
def test_plain_rooms_hold_plain_values(room: str) -> None:
    assert not packages(ROOMS[room]) & (HEAVY | DRAWING)


@pytest.mark.parametrize("room", sorted(room for room in ROOMS if wing(room) not in {"render", "cli", *FACES}))
def test_only_two_wings_draw_print_or_parse_arguments(room: str) -> None:
    assert not packages(ROOMS[room]) & DRAWING
    tree = ast.walk(parsed(ROOMS[room]))
    assert not [node for node in tree if isinstance(node, ast.Name) and node.id == "print"]


@pytest.mark.parametrize("room", sorted(room for room in ROOMS if wing(room) in TORCH_FREE - {"sources"}))
def test_only_the_wings_that_run_models_know_torch(room: str) -> None:
    drawing = {"numpy"} if room == "render.terminal.tensors" else set()  # the corner of a tensor, as numpy prints
    assert not packages(ROOMS[room]) & (COMPUTE - drawing)


@pytest.mark.parametrize(
    "room", sorted(room for room in ROOMS if wing(room) == "render" and not room.startswith("render.terminal"))
)
def test_what_stands_in_a_drawing_is_plain(room: str) -> None:
    assert not packages(ROOMS[room]) & DRAWING
    assert not [other for other in rooms_imported(ROOMS[room]) if other.startswith("render.terminal")]


def test_figures_alone_know_matplotlib() -> None:
    knowing = {room for room, path in ROOMS.items() if "matplotlib" in packages(path)}
    assert knowing
    assert not {room for room in knowing if not room.startswith("render.figures.")} - {"render.figures"}


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_nothing_heavy_is_imported_at_import(room: str) -> None:
    heavy = HEAVY - {"torch"} if room in WRITTEN_WITH_TORCH else HEAVY
    assert not {name.partition(".")[0] for name in imports(ROOMS[room], only_at_import=True)} & heavy


def test_what_needs_torch_is_imported_only_where_a_model_runs() -> None:
    for room, path in ROOMS.items():
        if room not in WRITTEN_WITH_TORCH:
            assert not rooms_imported(path, only_at_import=True) & WRITTEN_WITH_TORCH, room


ADVISING = {"model_choice", "value_checks", "commands.run"}
"""Rooms that name a module of OPT for an example."""


def test_anatomy_alone_knows_the_modules_of_opt() -> None:
    names = ("q_proj", "fc1", "embed_positions", "project_in", "decoder.layers")
    for room, path in ROOMS.items():
        if wing(room) not in {"anatomy", "render", "cli", *FACES} and room not in ADVISING:
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


# A command is three files and a line


@pytest.mark.parametrize("name", commands.NAMES)
def test_a_command_has_its_three_files(name: str) -> None:
    command = commands.named(name)
    assert command.name == name
    assert {f"commands.{name}", f"answers.{name}", f"render.terminal.{name}"} <= ROOMS.keys()
    assert callable(import_module(f"txinspect.answers.{name}").answer)
    assert callable(import_module(f"txinspect.render.terminal.{name}").draw)
    assert command.examples


@pytest.mark.parametrize("name", commands.NAMES)
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    command = commands.named(name)
    assert (command.planned or command.query).__doc__ == commands.LISTED[name].sentence


@pytest.mark.parametrize("name", commands.NAMES)
def test_a_command_is_public_and_in_the_readme(name: str) -> None:
    query = commands.named(name).query
    assert query.__name__ in txinspect.__all__
    assert getattr(txinspect, query.__name__) is query
    readme = (HOUSE.parent / "README.md").read_text(encoding="utf-8")
    assert f"txinspect {name}" in readme


def test_a_query_finds_its_command() -> None:
    assert commands.command_of(AttnQuery()).name == "attn"

    class Closer(AttnQuery):
        """A query derived from another is answered as that one."""

    assert answers.module_of(Closer()).__name__ == "txinspect.answers.attn"
    with pytest.raises(TypeError, match="str is not a query"):
        inspect("attn")  # type: ignore[arg-type]


# What is imported


_RUN = """
import json, sys
arguments = json.loads(sys.argv[1])
import txinspect.cli.app
if arguments is not None:
    try:
        txinspect.cli.app.app(arguments)
    except SystemExit as end:
        assert not end.code, end.code
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def rooms_after(arguments: list[str] | None) -> set[str]:
    """The modules in memory after a command, or after importing the command line alone."""
    command = [sys.executable, "-c", _RUN, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr.decode()
    return set(json.loads(done.stderr.decode().splitlines()[-1]))


def modules_after(arguments: list[str] | None) -> set[str]:
    """The packages in memory after a command, or after importing the command line alone."""
    return {name.partition(".")[0] for name in rooms_after(arguments)}


@pytest.mark.parametrize(
    "arguments", [None, ["--help"], ["--version"], ["attn", "--help"], ["env"], ["schema"], ["schema", "attn"]], ids=str
)
def test_quick_commands_import_nothing_heavy(arguments: list[str] | None) -> None:
    assert not modules_after(arguments) & (COMPUTE | {"huggingface_hub", "matplotlib"})


@pytest.mark.parametrize("arguments", [None, [], ["--help"], ["--version"], ["help"]], ids=str)
def test_the_list_of_commands_imports_none_of_them(arguments: list[str] | None) -> None:
    assert not rooms_after(arguments) & {f"txinspect.commands.{name}" for name in commands.NAMES}


def test_a_command_imports_no_other() -> None:
    rooms = rooms_after(["tree", "--help"])
    found = {name for name in commands.NAMES if f"txinspect.commands.{name}" in rooms}
    # A plan is of a run, and --dry-run makes one of any query; a run without a stage lists them.
    assert found == {"tree", "plan", "run", "stages"}


@pytest.mark.parametrize("shown", [[], ["--json"]], ids=str)
def test_tokenize_imports_only_tokenizers(shown: list[str], opt: Path) -> None:
    inspect(TokenizeQuery(model=ModelChoice(name=str(opt)), text="x"))
    found = modules_after(["tokenize", "x", "-m", str(opt), *shown])
    assert not found & (COMPUTE - {"tokenizers"})
    assert ("rich" in found) or shown


def test_importing_the_package_imports_nothing_of_it() -> None:
    code = "import sys, txinspect; print(sorted(name for name in sys.modules if name.startswith('txinspect.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", txinspect.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(txinspect, name) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    for name in ("nonsense", "NonsenseQuery"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            getattr(txinspect, name)


def test_contributing_has_the_table_of_wings() -> None:
    """The ground is listed file by file, and no wing is left out."""
    page = (HOUSE.parent / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    (ground,) = [row for row in rows if row.startswith("| ground (top level): ")]
    assert {each.strip() for each in ground.split(": ", 1)[1].split(" | ")[0].split(",")} == GROUND
    for wing in WINGS.keys() - {"ground"}:
        assert any(f"`{wing}" in row.split(" | ")[0] for row in rows), wing
