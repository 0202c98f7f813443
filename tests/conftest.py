"""Fixtures: a clean environment, OPT in every variant as a tiny checkpoint, the command line in or out of process."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
import torch
import typer
from huggingface_hub import constants
from typer.testing import CliRunner, Result

from tests.making.checkpoints import VARIANTS, write_opt
from tests.making.hub import LoopbackHub

UPDATE_GOLDEN = os.environ.get("UPDATE_GOLDEN") == "1"
"""Whether to write expected outputs anew instead of comparing with them."""


ProcessRun = Callable[..., "subprocess.CompletedProcess[bytes]"]
"""The command line in a process of its own; see run_process."""


@pytest.hookimpl(tryfirst=True)  # before the marks choose
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts processes of its own is a tier of its own; what takes the types of models in turn is marked."""
    for item in items:
        if isinstance(item, pytest.Function) and _starts_processes(item):
            item.add_marker("processes")
        if "model_type" in getattr(item, "fixturenames", ()):
            item.add_marker("types")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of `-m smoke` only files with that mark are imported, which is most of the time that it would take."""
    is_a_test = collection_path.suffix == ".py" and collection_path.name.startswith("test_")
    if is_a_test and config.getoption("markexpr") == "smoke":
        return "mark.smoke" not in collection_path.read_text(encoding="utf-8") or None
    return None


@pytest.hookimpl(trylast=True)  # the terminal is there
def pytest_configure(config: pytest.Config) -> None:
    """Say the name of what fails when it fails, where only dots are shown, and once: not in xdist's workers."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and config.get_verbosity() <= 0 and not hasattr(config, "workerinput"):
        config.pluginmanager.register(NamesOfFailures(terminal))


class NamesOfFailures:
    """A line in the terminal for each test that fails, as it fails; pytest itself has them at the end."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self.terminal = terminal

    @pytest.hookimpl(trylast=True)  # after the letter
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            begun = "" if self.terminal.currentfspath else "\n"  # a line of letters alone is not ended below
            self.terminal.ensure_newline()
            what = "FAILED" if report.when == "call" else "ERROR"
            self.terminal.write(f"{begun}{what} {report.nodeid}\n", flush=True)


_STARTING = {"subprocess", "Popen", "openpty", "run_process"}


def _starts_processes(item: pytest.Function) -> bool:
    """Whether a test, a fixture that it asks for, or a function of its module that it calls starts a process."""
    names = _names(item.function)
    called = {name: each for name, each in vars(item.module).items() if name in {*names, *item.fixturenames}}
    return not _STARTING.isdisjoint({*names, *item.fixturenames, *itertools.chain(*map(_names, called.values()))})


def _names(function: object) -> set[str]:
    """The names that a function's code refers to, and those of functions within it."""
    plain = getattr(function, "_get_wrapped_function", lambda: function)()  # a fixture's
    code = getattr(getattr(plain, "__wrapped__", plain), "__code__", None)
    inner = [code] if code is not None else []
    found: set[str] = set()
    while inner:
        each = inner.pop()
        found |= {*each.co_names, *each.co_freevars}
        inner += [constant for constant in each.co_consts if isinstance(constant, CodeType)]
    return found


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No Hub, no model from the environment, a cache of the session's own, plain output of 80 columns, no pager."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TXINSPECT_CACHE", str(tmp_path_factory.getbasetemp() / "txinspect-cache"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PAGER", "")
    for name in ("TXINSPECT_MODEL", "NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "LESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def untried(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried in processes of its own, which would be started anew beside the test runner's threads; but by
    the tests of just that, which ask for `tried`."""
    if not {"tried", "started"} & {*request.fixturenames}:
        monkeypatch.setattr("txinspect.guards.trial.attempt", lambda *_: "well")


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of the test runner are none of ours: what is tried is forked."""
    monkeypatch.setattr("threading.active_count", lambda: 1)


@pytest.fixture
def started() -> Iterator[None]:
    """Beside a thread: what is tried is started anew."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    yield
    end.set()
    thread.join()


@pytest.fixture(autouse=True, scope="session")
def threads() -> Iterator[None]:
    """Tiny matrices are slower on two threads than on one when the cores are busy; TEST_THREADS asks for more, since
    sums in another order have other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("TEST_THREADS", "1")))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def opt_variant(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from a variant's name to the folder of a tiny checkpoint of it: 3 layers, 4 heads, hidden 64."""
    made: dict[str, Path] = {}

    def folder(variant: str) -> Path:
        if variant not in made:
            made[variant] = write_opt(tmp_path_factory.mktemp("opt") / variant, **VARIANTS[variant])
        return made[variant]

    return folder


@pytest.fixture
def opt(opt_variant: Callable[[str], Path]) -> Path:
    """The folder of a tiny pre-norm OPT."""
    return opt_variant("pre_norm")


@pytest.fixture
def model(opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good checkpoint of its own, as ./model in the working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(opt, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    """A Hub on 127.0.0.1."""
    with LoopbackHub() as running:
        yield running


@pytest.fixture
def online(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LoopbackHub:
    """The Hub of this process, with an empty cache: huggingface_hub reads its environment once, at import."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setenv("TXINSPECT_CACHE", str(tmp_path / "txinspect-cache"))
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return hub


NEEDED: dict[str, list[str]] = {
    "diff": ["--against-attn", "eager"],
    "ablate": ["--with", "mean"],
    "patch": ["--subject", "fox", "--force"],
    "steer": ["make", "--toward", "a happy day", "--away", "a sad day", "--layer", "1"],
}
"""What a command cannot be asked without."""

BESIDE: dict[tuple[str, str], list[str]] = {
    (command, "transformer-mini"): ["--decoder", "la vulpo"] for command in ("patch", "steer")
}
"""What else it needs of a model."""


@pytest.fixture(autouse=True)
def _pages_are_written_aside(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A test of every command has a folder of its own for `page`, which writes a file there."""
    if "page" in getattr(getattr(request.node, "callspec", None), "params", {}).values():
        monkeypatch.chdir(tmp_path_factory.mktemp("here"))


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command line in this process: run_cli("embed", "text", "-m", folder)."""
    from txinspect.cli.app import app

    monkeypatch.setattr("typer.testing._get_command", _command)

    def run(*arguments: object, stdin: bytes | str | None = None) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)

    return run


_command = cache(typer.main.get_command)
"""What Typer makes of an app: the same each time, and a thirtieth of a second to make."""


@pytest.fixture
def run_process() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """The command line in a process of its own: run_process("embed", "text", stdin=b"")."""

    def run(*arguments: object, stdin: bytes | None = None, **environment: str) -> subprocess.CompletedProcess[bytes]:
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        return subprocess.run(
            [sys.executable, "-m", "txinspect", *map(str, arguments)],
            **given,
            capture_output=True,
            env=os.environ | environment,
            check=False,
            timeout=120,
        )

    return run
