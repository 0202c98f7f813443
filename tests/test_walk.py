"""The walk of one question: what it opens, makes and tries, counted in one process. These numbers only fall."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import txinspect
from tests.making.gguf_llama import write_gguf
from tests.making.hub import files_of
from txinspect import (
    AttnQuery,
    EmbedQuery,
    HeadsQuery,
    LensQuery,
    LogitsQuery,
    ModelChoice,
    PlanQuery,
    TokenizeQuery,
    TreeQuery,
    inspect,
)
from txinspect.guards import trial
from txinspect.loading import skeleton
from txinspect.texts import tokenizer

PACKAGE = str(Path(txinspect.__file__).parent)

QUESTIONS: dict[str, Any] = {
    "tokenize": lambda model: TokenizeQuery(model=model, text="hi"),
    "tree": lambda model: TreeQuery(model=model),
    "embed": lambda model: EmbedQuery(model=model, text="hi"),
    "attn": lambda model: AttnQuery(model=model, text="hi", layer=0),
    "logits": lambda model: LogitsQuery(model=model, text="hi", top_k=3),
    "lens": lambda model: LensQuery(model=model, text="hi", top_k=3),
    "heads": lambda model: HeadsQuery(model=model),
    "plan": lambda model: PlanQuery(of=LogitsQuery(model=model, text="hi")),
}

_WATCHED: list[tuple[Path, Counter[str]]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Count a file of a watched folder that our own code opens. A hook stays: it does nothing where none is watched."""
    if event != "open" or not _WATCHED or not isinstance(arguments[0], (str, os.PathLike)):
        return
    folder, opened = _WATCHED[-1]
    path = Path(os.fspath(arguments[0]))
    if folder in path.parents and _is_own():
        opened[str(path.relative_to(folder))] += 1


def _is_own() -> bool:
    """Whether what opens a file is code of the program, and not of a library that it calls."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(PACKAGE):
            return True
        if "site-packages" in file:
            return False
        frame = frame.f_back
    return False


@pytest.fixture(scope="module", autouse=True)
def hook() -> None:
    sys.addaudithook(_hook)


KINDS = ("decoder", "encoder-decoder", "adapter", "gguf", "hub")


def placed(kind: str, folder: Path, request: pytest.FixtureRequest) -> str:
    """The name of a model of a kind, with all of its files below a folder."""
    bundled = Path(PACKAGE) / "bundled"
    if kind == "gguf":
        folder.mkdir()
        return str(write_gguf(folder / "m.gguf"))
    if kind == "hub":
        request.getfixturevalue("online").add("team/mini", files_of(bundled / "opt-mini"))
        return "team/mini"
    name = "transformer-mini" if kind == "encoder-decoder" else "opt-mini"
    shutil.copytree(bundled / name, folder / "model")
    if kind != "adapter":
        return str(folder / "model")
    base = AutoModelForCausalLM.from_pretrained(folder / "model")
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(str(folder / "adapter"))
    return str(folder / "adapter")


@pytest.fixture(params=KINDS)
def counted(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A model of each kind, the files of it that are opened, and what is made of them."""
    folder, opened, made = tmp_path / "files", Counter[str](), Counter[str]()
    name = placed(request.param, folder, request)

    def count(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def counting(*arguments: Any, **options: Any) -> Any:
            made[name] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, counting)

    count(tokenizer, "load")
    count(trial, "attempt")
    count(skeleton, "build")
    _WATCHED.append((tmp_path / "hub" if request.param == "hub" else folder, opened))
    try:
        yield ModelChoice(name=name), opened, made
    finally:
        _WATCHED.pop()


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize("question", QUESTIONS)
def test_each_fact_is_asked_once(question: str, counted: Any, request: pytest.FixtureRequest) -> None:
    model, opened, made = counted
    query = QUESTIONS[question](model)
    inspect(query)  # what is kept between processes is there
    opened.clear()
    made.clear()
    inspect(query)
    small = {name: count for name, count in opened.items() if name.endswith((".json", ".gguf"))}
    assert max(small.values(), default=0) <= 1, small
    assert made["load"] <= 1
    assert made["attempt"] <= 1
    is_adapted = "adapter" in request.node.callspec.params["counted"]
    assert made["build"] <= 1 + is_adapted, "with an adapter on it a model has other modules"


@pytest.mark.usefixtures("tried")
def test_a_conversation_needs_transformers_tokenizer_besides(opt: Path, tmp_path: Path) -> None:
    folder, opened = shutil.copytree(opt, tmp_path / "model"), Counter[str]()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = "{% for m in messages %}{{ m.content }}{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    query = LogitsQuery(model=ModelChoice(name=str(folder)), text="hi", chat=True)
    inspect(query)
    _WATCHED.append((folder, opened))
    try:
        inspect(query)
    finally:
        _WATCHED.pop()
    assert max(count for name, count in opened.items() if name.endswith(".json")) == 1, opened


# What is counted in the code itself

FILES = sorted(Path(PACKAGE).rglob("*.py"))
TREES = {file.relative_to(PACKAGE).as_posix(): ast.parse(file.read_text()) for file in FILES}

MOST_IMPORTS = 15
"""Of the program's own that a file has."""

MOST_LINES = 50
"""Of a function."""

COUNTS = {
    r"\bStageName\.of\b": 13,  # names of stages that are parsed back
    r"register_forward_(pre_)?hook": 2,
    r"\bsys\.std(in|out|err)\b": 7,  # cli.environment's own, and those of programs that run by themselves
    r"isinstance\([a-z_.]*query, [A-Z]\w*Query\)": 0,  # whose question it is
    # What kind of source it is.
    r"\.(is_one_file|is_as_saved)\b|(if|or|and|not) [\w.]*source\.adapter\b|place\.(kind|repository)": 39,
}
"""How often a pattern stands in the code today."""


def imports_of(tree: ast.Module) -> int:
    return sum(isinstance(node, ast.ImportFrom) and (node.module or "").startswith("txinspect") for node in tree.body)


def test_a_file_imports_few_others() -> None:
    counts = {file: imports_of(tree) for file, tree in TREES.items()}
    assert not {file: count for file, count in counts.items() if count > MOST_IMPORTS}


def test_functions_are_short() -> None:
    lines = {
        f"{file}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for file, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    assert not {name: count for name, count in lines.items() if count > MOST_LINES}


@pytest.mark.parametrize("pattern", COUNTS)
def test_what_is_to_go_becomes_less(pattern: str) -> None:
    found = [line for file in FILES for line in file.read_text().splitlines() if re.search(pattern, line)]
    calls = [line for line in found if not re.match(r"\s*(def|from|import) ", line)]
    assert len(calls) <= COUNTS[pattern], calls
