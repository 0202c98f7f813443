"""The process that stays: what it answers is what a process of its own would, to the byte, whatever happens to it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.making.gguf_llama import write_gguf
from tests.making.models import by_type
from txinspect import ModelChoice
from txinspect.answers.session import Session
from txinspect.serving import child, client, protocol
from txinspect.serving import server as server_module
from txinspect.serving.kept import Kept, kept_of

pytestmark = [pytest.mark.processes, pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone")]

PROGRAM = [sys.executable, "-m", "txinspect"]


def surroundings(folder: Path, **others: str) -> dict[str, str]:
    """The variables of a process whose server is in a folder of its own."""
    return os.environ | {"XDG_RUNTIME_DIR": str(folder), "TXINSPECT_SERVE": "1"} | others


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


def started(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """A server that takes questions."""
    server = subprocess.Popen([*PROGRAM, "serve", *options], env=surroundings(folder), stderr=subprocess.PIPE)
    assert server.stderr is not None
    assert b"answers from process" in server.stderr.readline()
    return server


@pytest.fixture(scope="module")
def server(runtime: Path) -> Iterator[subprocess.Popen[bytes]]:
    made = started(runtime)
    yield made
    made.terminate()
    made.communicate(timeout=20)
    assert made.returncode == 0
    assert not list((runtime / "txinspect").glob("socket"))


def state(runtime: Path) -> dict[str, Any]:
    told = subprocess.run([*PROGRAM, "serve", "--status", "--json"], env=surroundings(runtime), capture_output=True)
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def ran(runtime: Path, *words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """What the server answers; that it was the server is told by its count of questions."""
    variables = surroundings(runtime, **options.pop("variables", {}))
    return subprocess.run([*PROGRAM, *words], env=variables, capture_output=True, timeout=120, **options)


def is_cold(*words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    variables = os.environ | {"TXINSPECT_SERVE": "0"} | options.pop("variables", {})
    return subprocess.run([*PROGRAM, *words], env=variables, capture_output=True, timeout=120, **options)


LINES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "attention as JSON": (["attn", "--layer", "0", "--json"], {}),
    "a drawing in colours": (["logits", "--color", "always", "-k", "3"], {"variables": {"COLUMNS": "91"}}),
    "a text that is piped in": (["tokenize", "-"], {"input": "wörter aus der Röhre\n".encode()}),
    "an encoder–decoder": (["attn", "-m", "transformer-mini", "--cross", "--layer", "1", "--json"], {}),
    "another encoding": (["tokenize", "naïve"], {"variables": {"PYTHONIOENCODING": "ascii"}}),
    "8 bits": (["embed", "--8bit", "--json"], {}),
    "what is wrong": (["attn", "--layer", "9"], {}),
    "what cannot be parsed": (["attn", "--leyer"], {}),
    "a check that fails": (["logits", "--edit", "layers.0.output * 1", "--check"], {}),
}


OFTEN = ("attention as JSON", "a text that is piped in", "what is wrong")


@pytest.mark.parametrize("name", by_type(LINES, OFTEN, pytest.mark.sweeps))
def test_the_answer_is_a_process_s_own_to_the_byte(name: str, runtime: Path, server: Any) -> None:
    words, options = LINES[name]
    asked = state(runtime)["questions"]
    warm = ran(runtime, *words, **dict(options))
    cold = is_cold(*words, **dict(options))
    assert (warm.returncode, warm.stdout, warm.stderr) == (cold.returncode, cold.stdout, cold.stderr)
    is_answered = "PYTHONIOENCODING" not in options.get("variables", {})  # read when an interpreter starts
    assert state(runtime)["questions"] == asked + is_answered


def test_files_are_written_where_the_client_is(runtime: Path, server: Any, tmp_path: Path) -> None:
    asked = state(runtime)["questions"]
    old = os.umask(0o027)
    try:
        done = ran(runtime, "embed", "--save", "here.safetensors", "--csv", "here.csv", cwd=tmp_path)
    finally:
        os.umask(old)
    assert done.returncode == 0, done.stderr
    assert state(runtime)["questions"] == asked + 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["here.csv", "here.safetensors"]
    assert (tmp_path / "here.csv").stat().st_mode & 0o777 == 0o640


def test_limits_variables_and_a_closed_stdout_come_with_the_question(runtime: Path, server: Any, opt: Path) -> None:
    named = ran(runtime, "tree", "--json", variables={"TXINSPECT_MODEL": str(opt)})
    assert json.loads(named.stdout)["model"]["name"] == str(opt)
    limited = "ulimit -f 0; trap '' XFSZ; exec \"$@\" > out"
    words = ["sh", "-c", limited, "sh", *PROGRAM, "tree"]
    done = subprocess.run(words, env=surroundings(runtime), capture_output=True, cwd=runtime)
    assert done.returncode == 1
    assert b"could not be written" in done.stderr
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *PROGRAM, "tree"], env=surroundings(runtime), capture_output=True
    )
    assert closed.returncode == 1
    assert b"standard output is closed" in closed.stderr


def test_a_terminal_is_the_client_s(runtime: Path, server: Any) -> None:
    def shown(**variables: str) -> bytes:
        main, other = pty.openpty()
        environment = surroundings(runtime, TERM="xterm-256color", PAGER="cat", **variables)
        for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
            environment.pop(name, None)
        process = subprocess.Popen(
            [*PROGRAM, "attn", "--layer", "0"],
            stdin=other,
            stdout=other,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        os.close(other)
        parts = []
        try:
            while part := os.read(main, 65536):
                parts.append(part)
                if b"\x1b]11;?" in part:
                    os.write(main, b"\x1b]11;rgb:ffff/ffff/ffff\x1b\\\x1b[?62c")
        except OSError:
            pass
        os.close(main)
        assert process.wait(30) == 0
        return b"".join(parts)

    warm, cold = shown(), shown(TXINSPECT_SERVE="0")
    assert warm == cold
    assert b"\x1b[" in warm


def waiting(runtime: Path, folder: Path) -> subprocess.Popen[bytes]:
    """A client whose question is being answered for a long while: it waits for a text from a pipe."""
    process = subprocess.Popen(
        [*PROGRAM, "tokenize", "-"],
        env=surroundings(runtime),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + 20
    while state(runtime)["answering"] == 0:
        assert time.monotonic() < until
    return process


def until_idle(runtime: Path) -> None:
    until = time.monotonic() + 20
    while state(runtime)["answering"]:
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_client_ends_the_answer(
    number: signal.Signals, code: int, runtime: Path, server: Any, tmp_path: Path
) -> None:
    process = waiting(runtime, tmp_path)
    process.send_signal(number)
    _, heard = process.communicate(timeout=20)
    assert (process.returncode, heard) == (code, b"")
    until_idle(runtime)


def test_the_answer_ends_when_its_client_is_killed(runtime: Path, server: Any, tmp_path: Path) -> None:
    process = waiting(runtime, tmp_path)
    process.kill()
    process.communicate(timeout=20)
    until_idle(runtime)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_child_that_is_killed_is_told_in_a_sentence(runtime: Path, server: Any, tmp_path: Path) -> None:
    process = waiting(runtime, tmp_path)
    for each in children(server.pid):  # it answers, or holds a model and has who answers for a child
        for answering in children(each) or [each]:
            os.kill(answering, signal.SIGKILL)
    _, heard = process.communicate(timeout=20)
    assert process.returncode == 137
    assert heard == b"txinspect: the process that answered was ended by SIGKILL: ask again\n"
    assert ran(runtime, "tokenize", "hi").returncode == 0


def test_in_a_folder_that_is_gone_it_is_said(runtime: Path, server: Any, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    words = ["sh", "-c", 'cd "$1" && rmdir "$1" && shift && exec "$@"', "sh", str(gone), *PROGRAM, "logits", "hi"]
    done = subprocess.run(words, env=surroundings(runtime), capture_output=True, timeout=120)
    assert done.returncode == 1
    assert b"the working directory is gone" in done.stderr


@pytest.mark.sweeps
def test_a_model_that_it_cannot_be_ready_for_is_said(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "serve", "-m", "opt-mini", "-m", "./nosuchmodel"],
        env=surroundings(tmp_path),
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 1
    first, last = done.stderr.decode().splitlines()
    assert first.startswith("txinspect: there is no file or directory './nosuchmodel'")
    assert last == "txinspect: there is nothing to be ready for: 'txinspect embed -m ./nosuchmodel' fails"


def test_a_child_computes_on_as_many_threads_as_a_cold_run(tmp_path: Path) -> None:
    """Their number changes last bits; the parent computes on one."""
    program = """
import os, sys, torch
from txinspect.answers.session import Session
from txinspect.serving import child, client
torch.set_num_threads(1)
child.threads = 3
streams = [os.open(each, os.O_RDWR if each == os.devnull else os.O_RDONLY) for each in (".", os.devnull)]
told = os.pipe()
out = os.open("threads", os.O_WRONLY | os.O_CREAT)
if not os.fork():
    run = lambda words: print(torch.get_num_threads(), *words)
    child.answer(run, client.question(["asked"], [0, 1, 2]), [*streams, out, streams[1]], told[1], Session())
os.wait()
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=surroundings(tmp_path), check=True, timeout=120)
    assert (tmp_path / "threads").read_text() == "3 asked\n"


def test_twenty_at_once(runtime: Path, server: Any) -> None:
    texts = [f"text number {number}" for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        done = list(pool.map(lambda text: ran(runtime, "logits", text, "--json", "-k", "1"), texts))
    assert [json.loads(each.stdout)["input"]["text"] for each in done] == texts
    assert {each.returncode for each in done} == {0}


def test_a_second_server_is_refused(runtime: Path, server: Any) -> None:
    second = subprocess.run([*PROGRAM, "serve"], env=surroundings(runtime), capture_output=True, timeout=60)
    assert second.returncode == 1
    assert second.stderr.startswith(b"txinspect: a server runs already")


def test_the_socket_is_the_user_s_alone(runtime: Path, server: Any) -> None:
    assert (runtime / "txinspect").stat().st_mode & 0o777 == 0o700
    assert (runtime / "txinspect" / "socket").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00", b"\x00\x00\x00\x05{", b"\xff\xff\xff\xff", b"\x00\x00\x00\x02[]", b'\x00\x00\x00\x0c{"stamp": 3}'],
)
def test_who_speaks_otherwise_is_not_answered(content: bytes, runtime: Path, server: Any) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(str(runtime / "txinspect" / "socket"))
        other.sendall(content)
        other.shutdown(socket.SHUT_WR)
        other.settimeout(20)
        assert other.recv(100) == b""
    assert server.poll() is None


@pytest.mark.parametrize(
    "variables", [{"TXINSPECT_SERVE": "0"}, {"OMP_NUM_THREADS": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}]
)
def test_other_surroundings_are_answered_by_the_process_itself(
    variables: dict[str, str], runtime: Path, server: Any
) -> None:
    asked = state(runtime)["questions"]
    assert ran(runtime, "tokenize", "hi", variables=variables).returncode == 0
    assert ran(runtime, "tokenize", "hi", "--no-serve").returncode == 0
    assert state(runtime)["questions"] == asked
    assert server.poll() is None


def test_the_hubs_cache_is_the_one_that_the_question_names(runtime: Path, server: Any, tmp_path: Path) -> None:
    """Of two caches, each with the other's name for a model, and neither the server's own."""
    bundled, commit = Path(client.__file__).parents[1] / "bundled" / "opt-mini", "0" * 40
    asked = state(runtime)["questions"]
    for name in ("one", "two"):
        folder = tmp_path / name / "hub" / f"models--team--{name}"
        shutil.copytree(bundled, folder / "snapshots" / commit)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(commit)
    for name, other in (("one", "two"), ("two", "one")):
        variables = {"HF_HOME": str(tmp_path / name), "HF_HUB_OFFLINE": "1"}
        here = ran(runtime, "tree", f"team/{name}", "--json", variables=variables)
        assert here.returncode == 0, here.stderr
        assert json.loads(here.stdout)["model"]["revision"] == commit
        assert ran(runtime, "tree", f"team/{other}", variables=variables).returncode == 1
    assert state(runtime)["questions"] == asked + 4


@pytest.mark.sweeps
def test_memory_stays_flat(runtime: Path, server: Any) -> None:
    for _ in range(3):
        assert ran(runtime, "tokenize", "hi").returncode == 0
    before = state(runtime)["memory"]
    for _ in range(30):
        assert ran(runtime, "tokenize", "hi").returncode == 0
    assert state(runtime)["memory"] < before + (4 << 20)


@pytest.mark.sweeps
def test_another_program_retires_it(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(
        Path(client.__file__).parents[1], folder / "txinspect", ignore=shutil.ignore_patterns("__pycache__")
    )
    server = started(tmp_path)
    other = surroundings(tmp_path, PYTHONPATH=str(folder))
    done = subprocess.run([*PROGRAM, "tokenize", "hi"], env=other, capture_output=True, cwd=folder)
    assert done.returncode == 0
    assert server.wait(20) == 0
    assert server.stderr is not None
    assert server.stderr.read() == b"txinspect is another one for those who ask now: this server ends\n"


@pytest.mark.sweeps
def test_it_ends_when_it_is_idle_and_when_it_is_told(tmp_path: Path) -> None:
    server = started(tmp_path, "--idle", "1s")
    assert server.wait(20) == 0
    assert server.stderr is not None
    assert server.stderr.read() == b"nobody asked: this server ends\n"
    assert list((tmp_path / "txinspect").iterdir()) == [tmp_path / "txinspect" / "lock"]
    server = started(tmp_path)
    told = subprocess.run([*PROGRAM, "serve", "--stop"], env=surroundings(tmp_path), capture_output=True)
    assert told.returncode == 0
    assert server.wait(20) == 0
    for option in ("--stop", "--status"):
        none = subprocess.run([*PROGRAM, "serve", option], env=surroundings(tmp_path), capture_output=True)
        assert (none.returncode, none.stdout) == (1, b"")
        assert none.stderr == b"txinspect: no server runs: 'txinspect serve' starts one\n"


@pytest.mark.sweeps
def test_a_server_that_is_killed_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    server = started(tmp_path)
    process = waiting(tmp_path, tmp_path)
    server.kill()
    _, heard = process.communicate(timeout=20)
    assert (process.returncode, heard) == (1, b"txinspect: the server ended before it had answered: ask again\n")
    assert ran(tmp_path, "tokenize", "hi").returncode == 0
    again = started(tmp_path)
    again.terminate()
    assert again.wait(20) == 0


@pytest.mark.sweeps
def test_one_is_started_where_that_is_asked_for(tmp_path: Path) -> None:
    variables = {"TXINSPECT_SERVE": "auto"}
    assert ran(tmp_path, "tokenize", "hi", variables=variables).returncode == 0
    until = time.monotonic() + 60
    while not (tmp_path / "txinspect" / "socket").exists():
        assert time.monotonic() < until
        time.sleep(0.1)
    assert ran(tmp_path, "tokenize", "hi", variables=variables).returncode == 0
    assert state(tmp_path)["questions"] == 1
    assert (
        subprocess.run([*PROGRAM, "serve", "--stop"], env=surroundings(tmp_path), capture_output=True).returncode == 0
    )


def until_held(runtime: Path, name: str) -> None:
    until = time.monotonic() + 60
    while not any(each["name"].startswith(name) for each in state(runtime)["models"]):
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Models of several kinds, each with the words that name it."""
    folder = tmp_path_factory.mktemp("models")
    plain = shutil.copytree(Path(client.__file__).parents[1] / "bundled" / "opt-mini", folder / "plain")
    base = AutoModelForCausalLM.from_pretrained(plain)
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(str(folder / "adapter"))
    AutoModelForCausalLM.from_pretrained(plain).save_pretrained(str(folder / "shards"), max_shard_size="500KB")
    for each in plain.glob("*token*"):
        shutil.copy(each, folder / "shards")
    return {
        "folder": ["-m", str(plain)],
        "shards": ["-m", str(folder / "shards")],
        "adapter": ["-m", str(folder / "adapter")],
        "gguf": ["-m", str(write_gguf(folder / "m.gguf"))],
        "8 bits": ["-m", str(plain), "--8bit"],
        "float32": ["-m", str(plain), "--dtype", "float32"],
        "encoder–decoder": ["-m", "transformer-mini"],
    }


@pytest.mark.sweeps
@pytest.mark.parametrize("kind", ["folder", "shards", "adapter", "gguf", "8 bits", "float32", "encoder–decoder"])
def test_a_model_that_is_held_answers_as_one_that_is_not(
    kind: str, models: dict[str, list[str]], runtime: Path, server: Any
) -> None:
    words = models[kind]
    assert ran(runtime, "tokenize", "hi", *words[:2]).returncode == 0 or kind == "gguf"
    assert ran(runtime, "embed", "hi", "--json", *words).returncode == 0
    until_held(runtime, f"{words[1]} (8bit)" if kind == "8 bits" else words[1])
    for asked in (["attn", "hi", "--layer", "0", "--json"], ["logits", "hi", "--top-k", "3", "--json"]):
        warm, cold = ran(runtime, *asked, *words), is_cold(*asked, *words)
        assert (warm.returncode, warm.stdout, warm.stderr) == (cold.returncode, cold.stdout, cold.stderr)
        assert warm.returncode == 0


@pytest.mark.sweeps
def test_files_that_changed_and_names_elsewhere_are_seen(runtime: Path, server: Any, opt: Path, tmp_path: Path) -> None:
    for folder in ("here", "there"):
        shutil.copytree(opt, tmp_path / folder / "model")
    config = tmp_path / "there" / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_name_or_path": "another"}))
    words = ["tree", "-m", "model", "--json"]
    assert ran(runtime, *words, cwd=tmp_path / "here").returncode == 0
    until_held(runtime, "model")
    broken = config.read_text()
    config.write_text("{")
    assert ran(runtime, *words, cwd=tmp_path / "there").returncode == 1
    config.write_text(broken)
    weights, other = tmp_path / "here" / "model" / "model.safetensors", tmp_path / "other.safetensors"
    asked = ["logits", "hi", "-m", "model", "--json"]
    first = ran(runtime, *asked, cwd=tmp_path / "here").stdout
    save_file({name: 2 * each for name, each in load_file(weights).items()}, other, {"format": "pt"})
    other.replace(weights)
    second = ran(runtime, *asked, cwd=tmp_path / "here").stdout
    assert second != first
    assert second == is_cold(*asked, cwd=tmp_path / "here").stdout
    (tmp_path / "here" / "model" / "config.json").write_text("{")
    changed = ran(runtime, *words, cwd=tmp_path / "here")
    assert changed.returncode == 1
    assert b"config.json" in changed.stderr


@pytest.mark.sweeps
def test_models_that_are_used_least_go_first(tmp_path: Path, opt: Path) -> None:
    names = [str(shutil.copytree(opt, tmp_path / f"model-{number}")) for number in range(3)]
    server = started(tmp_path, "--memory", "1MB")
    for name in names:
        assert ran(tmp_path, "embed", "hi", "-m", name).returncode == 0
        until_held(tmp_path, name)
    until = time.monotonic() + 30
    while len(held := state(tmp_path)["models"]) > 1:
        assert time.monotonic() < until
    assert [each["name"] for each in held] == names[-1:]
    server.terminate()
    assert server.wait(20) == 0


@pytest.mark.parametrize(
    ("choice", "may_be"),
    [
        (ModelChoice(), True),
        (ModelChoice(trust_remote_code=True), False),
        (ModelChoice(device="cuda"), False),
        (ModelChoice(device_map="auto"), False),
    ],
)
def test_which_models_may_be_held(choice: ModelChoice, may_be: bool, tmp_path: Path) -> None:
    session = Session()
    session.model(choice)
    found = kept_of(session, str(tmp_path))
    assert (found is not None) is may_be
    if found is not None:
        assert Kept.read(json.loads(json.dumps(found.record))) == found


@pytest.mark.parametrize(
    ("words", "may_be"),
    [
        (["attn"], True),
        (["attn", "-m", "opt-mini"], True),
        (["tree", "opt-mini"], True),
        (["attn", "-m", "gpt2"], False),
        (["attn", "--8bit"], False),
        (["attn", "--dtype", "float32"], False),
    ],
)
def test_which_questions_go_to_a_model_that_is_held(words: list[str], may_be: bool) -> None:
    kept = Kept(ModelChoice(), "/", (), (), is_anywhere=True)
    assert kept.is_for({"words": words, "variables": {}}, 0) is may_be
    assert not kept.is_for({"words": words, "variables": {"HF_HOME": "/elsewhere"}}, 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--idle", "soon"), "--idle 'soon' is no time: give one such as 90s, 15m or 2h"),
        (("--idle", "0"), "--idle '0' is no time: give one such as 90s, 15m or 2h"),
        (("--memory", "much"), "--memory 'much' is no size: give one such as 500MB or 8GB"),
        (("--status", "--stop"), "--status and --stop cannot be combined: give one of them"),
        (("--json",), "--json is about --status: add --status, or omit it"),
        (("-m", "x", "--stop"), "--model and --stop cannot be combined: --model is of a server that starts: omit one"),
    ],
)
def test_what_is_wrong_is_said(words: tuple[str, ...], said: str, run_cli: Any) -> None:
    result = run_cli("serve", *words)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"txinspect: {said}\n")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["attn"], True),
        (["--json", "attn"], True),
        (["attn", "--no-serve"], False),
        (["tokenize", "--", "--no-serve"], True),
        (["serve", "--status"], False),
        ([], False),
        (["-V"], False),
    ],
)
def test_which_lines_another_process_may_answer(
    words: list[str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TXINSPECT_SERVE", "1")
    assert client.is_wanted(words) is wanted


@pytest.mark.parametrize(
    ("on_cpu", "other", "ready", "stops"),
    [
        (False, {}, False, False),
        (True, {}, True, False),
        (True, {"variables": {}}, False, False),
        (True, {"torch": []}, False, True),
    ],
)
def test_what_a_gpu_computes_is_answered_elsewhere(
    on_cpu: bool, other: dict[str, Any], ready: bool, stops: bool, tmp_path: Path
) -> None:
    stamp = {"torch": ["x"], "variables": {"HF_ENDPOINT": "x"}}
    with server_module.listening(tmp_path / "socket") as made:
        kept = server_module.Server(made, lambda _: None, stamp, idle=1.0, memory=0, has_gpu=True)
        here, there = socket.socketpair()
        with here, there:
            assert kept._agrees(here, {"stamp": stamp | other, "on_cpu": on_cpu}) is ready
            heard = protocol.receive(there)
    assert heard is not None
    assert heard[0]["ready"] is ready
    assert ("GPU" in (heard[0]["why"] or "")) is (not on_cpu)
    assert kept.stopping is stops


def test_a_folder_of_somebody_else_is_not_asked(tmp_path: Path) -> None:
    (tmp_path / "txinspect").mkdir(mode=0o777)
    (tmp_path / "txinspect").chmod(0o777)
    assert not protocol.is_own(tmp_path / "txinspect")
    assert not protocol.is_own(tmp_path / "nowhere")


def test_a_child_tells_more_than_a_pipe_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"torch.a_module_with_a_long_name_{number:04}" for number in range(4000)]
    monkeypatch.setattr(sys, "modules", {**sys.modules, **dict.fromkeys(names, sys)})
    told = os.memfd_create("told")
    child._tell(told, set(sys.modules) - set(names), None)
    assert sorted(child.heard(told).modules) == names
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(told)
    assert child.heard(os.memfd_create("told")) == child.Needed()


def test_a_thread_that_ends_soon_is_waited_for() -> None:
    asked = """
import time
from threading import Thread
from txinspect.serving.keeper import _is_alone
print(_is_alone(0))
Thread(target=time.sleep, args=(0.5,)).start()
print(_is_alone(0), _is_alone())
Thread(target=time.sleep, args=(60,), daemon=True).start()
print(_is_alone(0.2))
"""
    done = subprocess.run(
        [sys.executable, "-c", asked], env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}, capture_output=True, check=True
    )
    assert done.stdout.decode().split() == ["True", "False", "True", "False"]
