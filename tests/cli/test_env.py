"""What a bug report needs: right, quick, and without a secret in it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from typer.testing import Result

import txinspect
from tests.cli.test_app import strict
from txinspect.cli import env, installed
from txinspect.cli.installed import Package, is_within

Run = Callable[..., Result]
ROOT = Path(__file__).parents[2]


def reported(run_cli: Run, *arguments: str) -> Any:
    """The JSON of what surrounds the program."""
    result = run_cli(*(arguments or ("env",)), "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return strict(result.stdout_bytes)


def installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def test_versions_are_those_that_are_installed(run_cli: Run) -> None:
    report = reported(run_cli)
    assert (report["schema_version"], report["command"], report["txinspect"]) == (1, "env", txinspect.__version__)
    assert report["python"].startswith(platform.python_version())
    assert report["platform"] == platform.platform()
    packages = {each["name"]: each for each in report["packages"]}
    assert list(packages) == list(installed.NAMES)
    assert {name: each["version"] for name, each in packages.items()} == {
        name: installed_version(name) for name in installed.NAMES
    }
    assert packages["torch"]["build"] == (str(torch.__version__).partition("+")[2] or None)
    assert packages["numpy"]["build"] is None
    assert report["notes"] == []


def test_the_ranges_are_those_of_pyproject(run_cli: Run) -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*map(Requirement, [*project["dependencies"], *project["optional-dependencies"]["peft"]])]
    ranges = {each.name: each.specifier for each in wanted}
    packages = reported(run_cli)["packages"]
    for each in packages:
        assert (each["tested"] is None) == (each["name"] not in ranges)
        if each["tested"]:
            assert SpecifierSet(each["tested"]) == ranges[each["name"]]
            assert each["is_tested"] == (each["version"] in ranges[each["name"]])
    assert installed.tested_python() == project["requires-python"]


@pytest.mark.parametrize("wanted", [">=2.6,<2.14", ">=1.0", "<3", ">=5.21,<5.25", ">=3.11"])
@pytest.mark.parametrize("found", ["2.6", "2.6.0", "2.5.9", "2.13.1+cu124", "2.14", "3.0", "5.24.1", "5.25.0", "10"])
def test_a_range(found: str, wanted: str) -> None:
    assert is_within(found, wanted) == (found in SpecifierSet(wanted))


def test_what_is_in_no_tested_range_is_said(run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "9.1+cu999", "transformers": "99.0", "gguf": "0.1"}

    def other(name: str) -> Any:
        if name not in versions:
            raise PackageNotFoundError(name)
        return SimpleNamespace(version=versions[name])

    monkeypatch.setattr(installed, "distribution", other)
    monkeypatch.setattr(env, "untested", lambda: "transformers is new")
    report = reported(run_cli)
    packages = {each["name"]: (each["version"], each["build"], each["is_tested"]) for each in report["packages"]}
    assert packages["torch"] == ("9.1+cu999", "cu999", False)
    assert packages["numpy"] == (None, None, None)
    assert report["notes"] == [
        "transformers is new",
        "torch 9.1+cu999 is not in >=2.6,<2.14, which txinspect was tested with",
        "gguf 0.1 is not in >=0.17, which txinspect was tested with",
    ]
    shown = run_cli("env").stdout.splitlines()
    assert shown[-3:] == report["notes"]
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in shown[:-4]}
    assert rows["PAGER"] == "(empty)"
    assert (rows["numpy"], rows["gguf"]) == ("not installed", "0.1 · not in >=0.17")


def test_torch_from_pypi_says_its_build_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    found: Any = SimpleNamespace(version="2.9.0", locate_file=lambda name: tmp_path / name)
    assert installed._build("torch", found) is None
    (tmp_path / "torch" / "version.py").write_text("__version__ = '2.9.0+cu128'\ncuda: Optional[str] = '12.8'\n")
    assert installed._build("torch", found) == "cu128"
    assert installed._build("numpy", found) is None
    package = Package(name="torch", version="2.9.0", build="cu128", tested=None, is_tested=None)
    assert env._of_package(package) == "2.9.0 (cu128)"


def test_the_processor(run_cli: Run) -> None:
    processor = reported(run_cli)["processor"]
    assert processor["architecture"] == platform.machine()
    if hasattr(os, "sched_getaffinity"):
        assert processor["cores"] == len(os.sched_getaffinity(0))
    if Path("/proc/cpuinfo").exists() and platform.machine() == "x86_64":
        said = Path("/proc/cpuinfo").read_text()
        assert processor["name"] in said
        assert processor["avx512"] == (" avx512f " in said)
        if "AVX512" in torch.backends.cpu.get_cpu_capability():  # which ATEN_CPU_CAPABILITY lowers
            assert processor["avx512"]


def test_the_terminal(run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "93", "LINES": "31"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("COLORTERM", raising=False)
    found = {"term": "xterm-256color", "is_terminal": False, "columns": 93, "lines": 31, "encoding": "utf-8"}
    assert reported(run_cli)["terminal"] == found | {"colors": None}
    assert reported(run_cli, "env", "--color", "always")["terminal"] == found | {"colors": "256"}
    assert "not a terminal · 93 × 31 · utf-8 · no colors" in run_cli("env").stdout


def test_the_variables_that_are_set(run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in env.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert reported(run_cli)["variables"] == {}
    given = {"TXINSPECT_MODEL": "a/b", "HF_HOME": "/x y", "NO_COLOR": "", "PAGER": "less -S", "COLUMNS": "80"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SECRET", "not for a report")
    assert reported(run_cli)["variables"] == given
    assert "not for a report" not in run_cli("env").stdout


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("HF_TOKEN", "hf_secret", "set"),
        ("HUGGING_FACE_HUB_TOKEN", "secret", "set"),
        ("HF_TOKEN", "", ""),
        ("HF_ENDPOINT", "https://user:secret@hub.example/x", "https://***@hub.example/x"),
        ("HF_ENDPOINT", "https://secret@hub.example", "https://***@hub.example"),
        ("HF_ENDPOINT", "https://hub.example?token=secret", "https://hub.example?***"),
        ("HF_ENDPOINT", "https://hub.example", "https://hub.example"),
        ("HTTPS_PROXY", "http://user:se@cret@proxy:3128", "http://***@proxy:3128"),
        ("https_proxy", "user:secret@proxy:3128", "***@proxy:3128"),
        ("ALL_PROXY", "socks5h://user:secret\n@proxy", "socks5h://***@proxy"),
        ("TXINSPECT_MODEL", "https://user:secret@hub/x", "https://***@hub/x"),
        ("TXINSPECT_MODEL", "hf_secret12345", "***"),
        ("NO_PROXY", "localhost,.example", "localhost,.example"),
        ("HF_TOKEN_PATH", "/home/me/token", "/home/me/token"),
    ],
)
def test_nothing_secret_is_shown(
    name: str, value: str, shown: str, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert reported(run_cli)["variables"][name] == shown
    for arguments in (["env"], ["-V", "-v"], ["env", "--json"]):
        assert "secret" not in run_cli(*arguments).stdout


def test_what_steers_a_terminal_or_is_no_text_is_shown(run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", "\x1b[2J\x9b31m")
    monkeypatch.setenv("HF_HOME", b"/\xff".decode("utf-8", "surrogateescape"))
    result = run_cli("env")
    assert result.exit_code == 0
    assert not {"\x1b", "\x9b"} & set(result.stdout)
    assert reported(run_cli)["variables"]["PAGER"] == "\x1b[2J\x9b31m"


@pytest.mark.parametrize(
    "options", [("-V", "-v"), ("-v", "-V"), ("--verbose", "--version"), ("-vV",), ("-Vv",)], ids=str
)
def test_the_version_at_length(options: tuple[str, ...], run_cli: Run) -> None:
    assert run_cli(*options).stdout == run_cli("env").stdout
    assert reported(run_cli, *options) == reported(run_cli)
    assert reported(run_cli, "--json", *options) == reported(run_cli)


def test_the_version_alone_has_no_json(run_cli: Run) -> None:
    result = run_cli("-V", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        result.stderr == "txinspect: --json and --version cannot be combined: give -v, too, or txinspect env --json\n"
    )


def test_json_before_it(run_cli: Run) -> None:
    assert json.loads(run_cli("--json", "env").stdout) == reported(run_cli)
