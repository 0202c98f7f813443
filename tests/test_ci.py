"""What runs on a change: the steps of .ci/run, the workflow that calls each of them, and the form for an error."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

yaml: Any = import_module("yaml")  # it carries no types

ROOT = Path(__file__).parent.parent
RUN = ROOT / ".ci" / "run"
WORKFLOW: dict[Any, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
JOBS: dict[str, dict[str, Any]] = WORKFLOW["jobs"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([RUN, *arguments], capture_output=True, text=True, timeout=120, check=False)


def matrix(job: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = JOBS[job]["strategy"]["matrix"]
    return found


def test_the_workflow_calls_every_step() -> None:
    done = run("--list")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == matrix("linux")["step"]


def test_every_step_has_its_commands() -> None:
    source = RUN.read_text(encoding="utf-8")
    for step in matrix("linux")["step"]:
        assert f"\n{step.replace('-', '_')}() {{\n" in source


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none"], ".ci/run has no step 'none': .ci/run --list lists the steps\n"),
        ([""], ".ci/run has no step '': .ci/run --list lists the steps\n"),
        (["half", "wheel"], ".ci/run takes one step, or none for all of them; .ci/run --list lists them\n"),
    ],
    ids=str,
)
def test_a_step_that_there_is_not_is_one_sentence(arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", says)


def test_jobs_run_steps_and_nothing_else() -> None:
    commands = {step["run"] for job in JOBS.values() for step in job["steps"] if "run" in step}
    settings = {command for command in commands if command.startswith("git config ")}
    assert commands - settings == {'.ci/run "$STEP"', ".ci/run setup-and-tests"}
    assert JOBS["linux"]["steps"][-1]["env"] == {"STEP": "${{ matrix.step }}"}


def test_the_oldest_python_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for job in JOBS:
        assert f">={matrix(job)['python'][0]}" == project["requires-python"]


def test_a_job_may_read_and_ends() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    for job in JOBS.values():
        assert "permissions" not in job
        assert job["timeout-minutes"] <= 90


def test_the_form_for_an_error_asks_for_what_is_needed() -> None:
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text(encoding="utf-8"))
    asked = {field["id"]: field for field in form["body"]}
    assert {"command", "output", "environment"} <= {*asked}
    assert "`-v`" in asked["output"]["attributes"]["description"]
    assert "txinspect env" in asked["environment"]["attributes"]["label"]


def test_hooks_run_the_projects_own_tools() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    tools = {re.match(r"\.venv/bin/(\w+)", hook["entry"])[1] for hook in hooks[0]["hooks"]}  # type: ignore[index]
    assert tools == {"ruff", "mypy"}
