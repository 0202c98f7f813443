"""A home that cannot be written, what is planted beside --save, a Hub that writes elsewhere, kernels in config.json."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, file_download
from transformers.utils import import_utils
from typer.testing import Result

from tests.making.checkpoints import change_config
from tests.making.hub import LoopbackHub, files_of
from tests.making.models import Task, save_tiny
from txinspect import InspectError, ModelChoice, RunQuery, inspect
from txinspect.answers import saving
from txinspect.sources import hub_answers

Run = Callable[..., Result]
Process = Callable[..., "subprocess.CompletedProcess[bytes]"]

# A home that cannot be written


@pytest.mark.parametrize(
    "arguments",
    [
        ("tokenize", "hi"),
        ("tree",),
        ("stages",),
        ("embed", "hi"),
        ("logits", "hi"),
        ("models",),
        ("params",),
        ("plan", "hi", "-s", "logits"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_home_that_cannot_be_written(
    arguments: tuple[str, ...], run_process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be made in /proc, by root either."""
    before = run_process(*arguments, "--json")
    monkeypatch.delenv("TXINSPECT_CACHE")
    for name in ("XDG_CACHE_HOME", "HF_HOME", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    done = run_process(*arguments, "--json", HOME="/proc")
    assert (done.returncode, done.stderr) == (0, b""), done.stderr
    assert done.stdout == before.stdout or arguments == ("models",)


# What stands where --save writes


def saved(model: Path, file: Path, **others: Any) -> Any:
    query = RunQuery(model=ModelChoice(name=str(model)), text="hi", stages=("logits",), save=file, **others)
    return inspect(query)


def planting(monkeypatch: pytest.MonkeyPatch, plant: Callable[[], object]) -> None:
    """Plants something once the tensors are written, before they take their place."""
    write = saving._write_npz

    def writing(*arguments: Any) -> list[str]:
        found = write(*arguments)
        plant()
        return found

    monkeypatch.setattr(saving, "_write_npz", writing)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_link_that_is_planted_is_not_followed(
    overwrite: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, file = tmp_path / "other", tmp_path / "out.npz"
    other.write_bytes(b"kept")
    planting(monkeypatch, lambda: file.symlink_to(other))
    with pytest.raises(InspectError, match="became a link while the model ran: nothing was saved"):
        saved(model, file, overwrite=overwrite)
    assert other.read_bytes() == b"kept"
    assert file.is_symlink()
    assert {each.name for each in tmp_path.iterdir()} == {"model", "other", "out.npz"}


def test_a_file_that_is_planted_is_kept(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "out.npz"
    planting(monkeypatch, lambda: file.write_bytes(b"theirs"))
    with pytest.raises(InspectError, match=r"came to be while the model ran, and was not written by txinspect"):
        saved(model, file)
    assert file.read_bytes() == b"theirs"
    assert saved(model, file, overwrite=True).replaced
    assert file.read_bytes() != b"theirs"


def test_a_link_that_was_there_is_written_through(model: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.npz").symlink_to(tmp_path / "folder" / "real.npz")
    saved(model, tmp_path / "link.npz")
    assert (tmp_path / "link.npz").is_symlink()
    assert (tmp_path / "folder" / "real.npz").stat().st_size > 0


def test_a_name_as_long_as_names_may_be(model: Path, tmp_path: Path) -> None:
    file = tmp_path / f"{'n' * 251}.npz"
    saved(model, file)
    assert file.stat().st_size > 0


_ENDED = """
import sys, time
from txinspect.answers import saving
def write(path, *_):
    path.write_bytes(b"half")
    print("writing", file=sys.stderr, flush=True)
    time.sleep(60)
saving._write_npz = write
sys.argv = ["txinspect", "embed", "hi", "-m", sys.argv[1], "--save", sys.argv[2]]
from txinspect.__main__ import main
main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_what_ends_it_leaves_no_file(number: signal.Signals, code: int, model: Path, tmp_path: Path) -> None:
    def heed() -> None:
        for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(each, signal.SIG_DFL if each != signal.SIGINT else signal.default_int_handler)

    command = [sys.executable, "-c", _ENDED, str(model), str(tmp_path / "out.npz")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"writing\n"
        process.send_signal(number)
        shown, said = process.communicate(timeout=120)
    assert (process.returncode, shown) == (code, b"")
    assert b"Traceback" not in said
    assert [each.name for each in tmp_path.iterdir()] == ["model"]


def test_a_hang_up_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As by nohup."""
    code = "import signal; from txinspect.cli.starting import _end_cleanly; _end_cleanly(); print(signal.getsignal(1))"
    command = [sys.executable, "-c", code]
    ignored = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert ignored.stdout.strip() == str(signal.Handlers.SIG_IGN)


# A Hub that writes elsewhere


def changed(monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    """Every file's metadata with other values, as a mirror or a proxy may answer."""
    original = file_download.get_hf_file_metadata

    def metadata(*arguments: Any, **options: Any) -> Any:
        from dataclasses import replace

        return replace(original(*arguments, **options), **values)

    monkeypatch.setattr(file_download, "get_hf_file_metadata", metadata)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"etag": "../../../../planted"}, r"the ETag '../../../../planted'"),
        ({"etag": "/tmp/planted"}, "the ETag '/tmp/planted'"),
        ({"commit_hash": "../../planted"}, "the commit '../../planted'"),
        ({"etag": "a" * 300}, "the ETag"),
    ],
)
def test_what_a_hub_calls_its_files(
    values: dict[str, str], says: str, model: Path, online: LoopbackHub, tmp_path: Path, run_cli: Run, monkeypatch: Any
) -> None:
    online.add("lab/model", files_of(model))
    changed(monkeypatch, **values)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    result = run_cli("tokenize", "hi", "-m", "lab/model")
    assert (result.exit_code, result.stdout) == (1, "")
    assert says in result.stderr
    assert "nothing was fetched" in result.stderr
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert not [path for path in written if "planted" in path.name or "blobs" in path.parts]


@pytest.mark.parametrize("sha", ["../../planted", "", "a/b"])
def test_what_a_hub_calls_a_commit(
    sha: str, model: Path, online: LoopbackHub, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    online.add("lab/model", files_of(model))
    original = HfApi.repo_info

    def repo_info(*arguments: Any, **options: Any) -> Any:
        found = original(*arguments, **options)
        found.sha = sha
        return found

    monkeypatch.setattr(HfApi, "repo_info", repo_info)
    result = run_cli("tokenize", "hi", "-m", "lab/model")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the Hub answered for 'lab/model' with the commit" in result.stderr


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("model.safetensors", True),
        ("a/b.json", True),
        ("../x", False),
        ("a/../../x", False),
        ("/etc/x", False),
        ("a\\b", False),
        ("c:/x", False),
        ("x\ud800", False),
        ("a\nb", False),
        ("", False),
        (3, False),
    ],
)
def test_names_of_files(name: object, safe: bool) -> None:
    assert hub_answers.is_safe(name) == safe


# Kernels


KERNELS_MIN_VERSION = getattr(import_utils, "KERNELS_MIN_VERSION", "0.18.2")
KERNELS = """
import pathlib
def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    def fetch(*arguments, **options):
        pathlib.Path({log!r}).open("a").write(f"{{name}} {{arguments}}\\n")
        raise RuntimeError("fetched")
    return fetch
"""


@pytest.mark.parametrize(
    "values",
    [
        {"_attn_implementation": "owner/repository"},
        {"attn_implementation": "owner/repository:function"},
        {"_attn_implementation": "paged|owner/repository"},
        {"_attn_implementation": {"": "owner/repository"}},
        {"_experts_implementation": "owner/repository"},
        {"text_config": {"_attn_implementation": "owner/repository"}},
        {"_attn_implementation": "flash_attention_2"},
        {"_attn_implementation_internal": "kernels-community/flash-attn2"},
    ],
    ids=str,
)
@pytest.mark.parametrize("options", [(), ("--trust-remote-code", "--offline")], ids=str)
def test_no_kernels_are_fetched(values: dict[str, Any], options: tuple[str, ...], model: Path, run_cli: Run) -> None:
    change_config(model, **values)
    for command in (("run", "hi", "-s", "logits"), ("tree",), ("plan", "hi", "-s", "logits")):
        name = ["-m", str(model)]
        result = run_cli(*command, *name, *options)
        assert (result.exit_code, result.stdout) == (1, ""), command
        assert "transformers would fetch and run native code for it" in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a line for each kernel that was fetched, where a package of that name is installed."""
    log, site = tmp_path / "fetched", tmp_path / "site"
    package, known = site / "kernels", site / f"kernels-{KERNELS_MIN_VERSION}.dist-info"
    for folder in (package / "layer", known):
        folder.mkdir(parents=True)
    for module in ("__init__", "layer/__init__", "layer/mode"):
        (package / f"{module}.py").write_text(KERNELS.format(log=str(log)))
    (known / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kernels\nVersion: {KERNELS_MIN_VERSION}\n")
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return log


def test_no_attempt_is_made_where_kernels_are_installed(model: Path, fetched: Path, run_process: Process) -> None:
    change_config(model, _attn_implementation="owner/repository")
    assert run_process("run", "hi", "-s", "logits", "-m", model).returncode == 1
    assert not fetched.exists(), fetched.read_text()


@pytest.mark.parametrize(("model_type", "task"), [("mra", "masked-lm"), ("rwkv", "causal-lm")])
def test_models_fetch_no_kernels_by_their_type(
    model_type: str, task: Task, tmp_path: Path, fetched: Path, run_process: Process
) -> None:
    save_tiny(model_type, tmp_path / "tiny", task=task)
    done = run_process("plan", "--ids", "5,6", "-s", "logits", "-m", tmp_path / "tiny")
    assert (done.returncode, done.stderr) == (0, b"")
    assert not fetched.exists(), fetched.read_text()


@pytest.mark.parametrize("method", ["eetq", "metal", "nvfp4"])
def test_what_is_run_by_kernels_alone(method: str, model: Path, run_cli: Run) -> None:
    change_config(model, quantization_config={"quant_method": method})
    result = run_cli("logits", "hi", "-m", str(model))
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"stored quantized with {method}, which transformers runs by native code that it fetches" in result.stderr


def test_backends_that_need_no_kernels(model: Path, run_cli: Run) -> None:
    for name in ("sdpa", "eager"):
        change_config(model, _attn_implementation=name)
        shown = json.loads(run_cli("run", "hi", "-s", "logits", "-m", model, "--json").stdout)
        assert shown["model"]["attn_implementation"] == name
