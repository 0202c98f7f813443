"""The pager: what is longer than the terminal is shown in one, and whatever it does the program ends well."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.cli.test_app import strict
from tests.making.reports import ESCAPE

pytestmark = pytest.mark.processes

WORDS = "one two three four five six seven eight nine ten"
LONG = ("tokenize", " ".join([WORDS] * 3))
"""Of more than 24 lines."""

RECORDING = """
import json, os, sys
got = sys.stdin.buffer.read().decode()
json.dump([got, os.environ["LESS"], sys.argv[1:]], open({record!r}, "w"))
print("PAGED")
"""

LEFT_AT_ONCE = """
print("LEFT")
"""

WAITING = """
import signal, sys
signal.signal(signal.SIGINT, lambda *_: print("INTERRUPTED", flush=True))
sys.stdin.buffer.read()
terminal = open("/dev/tty")
print("READY", flush=True)
terminal.readline()
print("QUIT")
"""

KILLED = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.stdin.buffer.read()
print("READY", flush=True)
open("/dev/tty").readline()
"""


ENDING = """
import os, signal, sys, time
sys.stdin.buffer.read()
os.kill(os.getppid(), signal.SIGTERM)
time.sleep(60)
print("STAYED")
"""


@dataclass
class Seen:
    """What a person at a terminal saw of a command."""

    code: int
    shown: str


def at_terminal(*arguments: object, **variables: str | None) -> Seen:
    """Run a command at a terminal of 80 x 24 that all of its streams are; a variable of None is unset."""
    return typed_at({}, *arguments, **variables)


def typed_at(keys: dict[str, str], *arguments: object, **variables: str | None) -> Seen:
    """The same, while keys are typed: each once, when what it stands beside has been shown."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    inherited = {**os.environ, "TERM": "xterm", "LINES": "24", "COLUMNS": "80", **variables}
    environment = {name: value for name, value in inherited.items() if value is not None}

    def take_the_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    command = [sys.executable, "-m", "txinspect", *map(str, arguments)]
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        preexec_fn=take_the_terminal,
    )
    os.close(theirs)
    shown, waiting = b"", dict(keys)
    try:
        with suppress(OSError):  # Linux reports the end of a terminal as an error
            while chunk := os.read(ours, 65536):
                shown += chunk
                for sign in [each for each in waiting if each.encode() in shown]:
                    os.write(ours, waiting.pop(sign).encode())
        code = process.wait(timeout=120)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return Seen(code, shown.decode().replace("\r\n", "\n"))


Pager = Callable[[str], str]


@pytest.fixture
def pager(tmp_path: Path) -> Pager:
    """What PAGER is for a program of our own."""

    def written(source: str) -> str:
        program = tmp_path / "a pager.py"
        program.write_text(source.format(record=str(tmp_path / "record")) if "{record" in source else source)
        return shlex.join([sys.executable, str(program)])

    return written


def recorded(folder: Path) -> list[object]:
    """What the recording pager got: the bytes, LESS, and its arguments."""
    found: list[object] = strict((folder / "record").read_bytes())
    return found


@pytest.fixture
def plain() -> str:
    """The long drawing as the terminal shows it without a pager."""
    seen = at_terminal(*LONG, "--no-pager", "--color=always")
    assert seen.code == 0
    assert seen.shown.count("\n") > 24
    return seen.shown


def test_what_is_long_is_shown_in_the_pager(pager: Pager, plain: str, tmp_path: Path) -> None:
    seen = at_terminal(*LONG, PAGER=pager(RECORDING))
    assert (seen.code, seen.shown) == (0, "PAGED\n")
    assert recorded(tmp_path) == [plain, "FRX", []]
    assert "\x1b[" in plain


def test_the_pager_has_arguments_and_a_less_of_its_own(pager: Pager, plain: str, tmp_path: Path) -> None:
    assert at_terminal(*LONG, PAGER=pager(RECORDING) + " -S 'a b'", LESS="i").code == 0
    assert recorded(tmp_path) == [plain, "i", ["-S", "a b"]]
    assert at_terminal(*LONG, "--color", "never", PAGER=pager(RECORDING), LESS="").code == 0
    got, less, _ = recorded(tmp_path)
    assert less == ""
    assert "\x1b" not in str(got)


def test_it_is_longer_where_the_prompt_would_push_it_out(pager: Pager, plain: str) -> None:
    lines = plain.count("\n")
    for height, paged in ((lines - 1, True), (lines, True), (lines + 1, False)):
        seen = at_terminal(*LONG, PAGER=pager(RECORDING), LINES=str(height))
        assert (seen.code, seen.shown == "PAGED\n") == (0, paged), height
    assert seen.shown == plain


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({"PAGER": ""}, ()),
        ({"PAGER": " "}, ()),
        ({"PAGER": "cat"}, ()),
        ({"PAGER": "/bin/cat"}, ()),
        ({"PAGER": None, "PATH": "/nowhere"}, ()),
        ({}, ("--no-pager",)),
        ({"TERM": "dumb"}, ()),
        ({}, ("--json",)),
    ],
    ids=str,
)
def test_where_there_is_no_pager(
    variables: dict[str, str | None], options: tuple[str, ...], pager: Pager, tmp_path: Path
) -> None:
    seen = at_terminal(*LONG, *options, **{"PAGER": pager(RECORDING), **variables})
    assert seen.code == 0
    assert seen.shown.count("\n") > 24
    assert "PAGED" not in seen.shown
    assert not (tmp_path / "record").exists()


def test_a_pipe_is_no_terminal(
    pager: Pager, run_process: Callable[..., subprocess.CompletedProcess[bytes]], tmp_path: Path
) -> None:
    done = run_process(*LONG, PAGER=pager(RECORDING), LINES="5")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"\n") > 24
    assert not (tmp_path / "record").exists()


def test_a_pager_that_is_left_early(pager: Pager) -> None:
    seen = at_terminal("tokenize", " ".join([WORDS] * 300), PAGER=pager(LEFT_AT_ONCE))
    assert (seen.code, seen.shown) == (0, "LEFT\n")


def test_a_check_that_failed_is_said_after_the_pager(pager: Pager, model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    next(iter(tensors.values())).zero_()
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    seen = at_terminal("params", model, "--fail-on", "zero", "-q", PAGER=pager(LEFT_AT_ONCE), LINES="5")
    paged, _, said = seen.shown.partition("\n")
    assert (seen.code, paged) == (3, "LEFT")
    assert said.startswith("\x1b[31merror:\x1b[0m a check did not hold")


def test_ctrl_c_is_the_pager_s(pager: Pager) -> None:
    seen = typed_at({"READY": "\x03", "INTERRUPTED": "q\n"}, *LONG, PAGER=pager(WAITING))
    assert seen.code == 0
    # A terminal that is interrupted drops what it has yet to show, which may be the end of a line.
    assert re.findall("READY|INTERRUPTED|QUIT", seen.shown) == ["READY", "INTERRUPTED", "QUIT"]


def test_a_pager_that_dies_of_ctrl_c(pager: Pager) -> None:
    seen = typed_at({"READY": "\x03"}, *LONG, PAGER=pager(KILLED))
    assert seen.code == 0
    assert seen.shown.replace("^C", "").split() == ["READY"]


def test_a_request_to_end_ends_the_pager_too(pager: Pager) -> None:
    seen = at_terminal(*LONG, PAGER=pager(ENDING))
    assert (seen.code, seen.shown) == (143, "")


def test_less_is_the_pager_where_none_is_named(plain: str, tmp_path: Path) -> None:
    less = tmp_path / "bin" / "less"
    less.parent.mkdir()
    less.write_text(f"#!{sys.executable}\n" + RECORDING.format(record=str(tmp_path / "record")))
    less.chmod(0o755)
    seen = at_terminal(*LONG, PAGER=None, PATH=str(less.parent))
    assert (seen.code, seen.shown) == (0, "PAGED\n")
    assert recorded(tmp_path) == [plain, "FRX", []]


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("/nowhere/pager -x", "No such file or directory"),
        ("/", "Permission denied"),
        ("less '", "no closing quotation"),
    ],
)
def test_a_pager_that_cannot_be_started(named: str, why: str, plain: str) -> None:
    seen = at_terminal(*LONG, "--color=always", PAGER=named)
    note, end, rest = seen.shown.partition("\x1b[36mhint:\x1b[0m set PAGER to another, or give --no-pager\n")
    assert (seen.code, bool(end)) == (0, True)
    assert note.startswith("\x1b[33mnote:\x1b[0m the pager ")
    assert named in note
    assert f"could not be started ({why})" in note.replace("\n      ", " ")
    assert rest == plain
    assert at_terminal(*LONG, "-q", PAGER=named).shown == plain


@pytest.mark.parametrize("arguments", [("attn", "--help"), ("help", "attn"), ("--help",), ("help",)], ids=str)
def test_help_is_paged_too(arguments: tuple[str, ...], pager: Pager, tmp_path: Path) -> None:
    seen = at_terminal(*arguments, PAGER=pager(RECORDING))
    assert (seen.code, seen.shown) == (0, "PAGED\n")
    plain = at_terminal(*arguments, PAGER="")
    assert recorded(tmp_path)[0] == plain.shown
    for line in ((*arguments, "--no-pager"), ("--no-pager", *arguments)):
        assert at_terminal(*line, PAGER=pager(RECORDING)).shown == plain.shown


@pytest.mark.skipif(shutil.which("less") is None, reason="needs less")
def test_less_itself() -> None:
    seen = typed_at({"\x1b[K": "q"}, *LONG, PAGER=None)
    assert seen.code == 0
    assert "Traceback" not in seen.shown
    assert "index" in seen.shown
    assert "input_ids" not in seen.shown  # the last line, which was not come to


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (("logits", "--table"), "next after 9 ␣dog: . 29.8%"),
        (("heads", "--table"), "10 of 16 heads are of a kind: 8 first, 1 previous, 1 broad"),
        (("diff", "--against-attn", "eager", "--table"), "The sides part at "),
    ],
)
def test_without_a_pager_what_was_found_is_said_again_at_the_end(command: tuple[str, ...], found: str) -> None:
    seen = at_terminal(*command, "-q", PAGER="")
    shown = [each for each in ESCAPE.sub("", seen.shown).splitlines() if each.strip()]
    assert len(shown) > 24
    assert seen.code == 0
    assert sum(found in each for each in shown) == 2
    assert found in " ".join(shown[-2:])


def test_what_fits_says_nothing_twice() -> None:
    seen = at_terminal("lens", "-q", PAGER="")
    assert ESCAPE.sub("", seen.shown).count("decided at") == 1
