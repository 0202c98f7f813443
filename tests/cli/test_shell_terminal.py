"""The shell at a terminal of its own, and its script in a process: Ctrl-C, a person's keys, pipes that are closed."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import txinspect

pytestmark = [pytest.mark.processes, pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone")]

PROGRAM = [sys.executable, "-m", "txinspect"]

PATIENCE = 20.0
"""Seconds for what a terminal is to show: an answer that never comes fails, one that takes long does not."""

CONTROL_C, CONTROL_D = "\x03", "\x04"


class Terminal:
    """A terminal with the shell in it."""

    def __init__(self, *options: str, **variables: str) -> None:
        self.main, other = pty.openpty()
        self.seen = b""
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        surroundings = os.environ | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "NO_COLOR": "1"} | variables
        self.process = subprocess.Popen(
            [*PROGRAM, "shell", *options],
            stdin=other,
            stdout=other,
            stderr=other,
            env=surroundings,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(other)

    def types(self, keys: str, until: str) -> str:
        """Press keys, and wait until something is shown after them; returns all that was shown since."""
        self.press(keys)
        return self.shows(until)

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self.main, keys.encode())

    def shows(self, until: str) -> str:
        """Wait until something is shown."""
        end = time.monotonic() + PATIENCE
        while until.encode() not in self.seen:
            assert time.monotonic() < end, f"{until!r} is not in {self.seen!r}"
            if select.select([self.main], [], [], 0.1)[0]:
                self.seen += os.read(self.main, 1 << 16)
        shown, _, self.seen = self.seen.partition(until.encode())
        return shown.decode(errors="replace")

    def asks(self, prompt: str) -> str:
        """Wait until another line can be typed; returns all that was shown before."""
        return self.shows("\x1b[?2004h") + self.shows(f"{prompt}>")

    def end(self) -> int:
        """Leave by Ctrl-D; returns the exit code."""
        os.write(self.main, CONTROL_D.encode())
        return self.process.wait(PATIENCE)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_one(*options: str, **variables: str) -> Terminal:
        opened.append(Terminal(*options, **variables))
        return opened[-1]

    yield open_one
    for each in opened:
        each.process.kill()
        each.process.wait()
        os.close(each.main)


def test_an_interrupt_ends_the_question_and_not_the_shell(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    long = tmp_path / "long.txt"
    long.write_text("the quick brown fox jumps over " * 3000)  # a pass for each of thousands of windows
    shell = terminal()
    shell.asks("opt-mini")
    shell.types(f"logits --file {long} --stride 4\r", "running opt-mini")
    for keys, shown in (("", "opt-mini"), ("attn -\r", "attn -"), ("!sleep 100\r", "sleep 100")):
        shell.types(keys, shown)
        time.sleep(1.0)  # while it goes on
        shell.press(CONTROL_C)
        shell.asks("opt-mini [130]")
    shell.press(CONTROL_C)  # where nothing goes on
    shell.asks("opt-mini [130]")
    shell.types("tree --depth 1\r", "1,088,512 parameters")
    shell.asks("opt-mini")
    shell.types("exit", "exit")
    shell.press(CONTROL_C)
    shell.asks("opt-mini")
    assert shell.end() == 0


def test_a_person_s_keys(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    shell = terminal(TXINSPECT_CACHE=str(tmp_path))
    begins = shell.asks("opt-mini")
    assert "The model is opt-mini: attn --layer 0 asks about it; help says more, exit leaves." in begins
    shell.types("tok", "tok")
    shell.types("\t", "enize")
    shell.types(" 'The fox'\r", "characters")
    shell.asks("opt-mini")
    shell.types("attn --layer 9\r", "error: layer 9 is out of range: 'opt-mini' has layers 0 to 3")
    shell.asks("opt-mini [1]")
    shell.types("\x1b[A\x1b[A", "The fox'")
    shell.types("\r", "characters")
    shell.asks("opt-mini")
    shell.press("model transformer-mini\r")
    shell.asks("transformer-mini")
    shell.types("_ --json | head -c 30\r", '{"schema_version":1,')
    shell.asks("transformer-mini")
    assert shell.end() == 0
    typed = (tmp_path / "shell" / "history").read_text()
    assert "+tokenize 'The fox'" in typed


def test_a_script_in_a_process(tmp_path: Path) -> None:
    script = tmp_path / "script.txt"
    script.write_text("# a remark\n\nattn --layer 0 --json\nattn --layer 9\ntokenize\n!echo hi\n")
    variables = os.environ | {"TXINSPECT_SERVE": "auto", "XDG_RUNTIME_DIR": str(tmp_path)}
    with script.open() as lines:
        done = subprocess.run([*PROGRAM, "shell"], stdin=lines, capture_output=True, env=variables, timeout=120)
    alone = [
        subprocess.run([*PROGRAM, *line.split()], capture_output=True, stdin=subprocess.DEVNULL, timeout=120)
        for line in ("attn --layer 0 --json", "attn --layer 9", "tokenize")
    ]
    assert done.stdout == b"".join(each.stdout for each in alone) + b"hi\n"
    assert done.stderr == b"".join(each.stderr for each in alone)
    assert done.returncode == 1
    assert not (tmp_path / "txinspect").exists()  # no server was started


@pytest.mark.parametrize("out", ["| head -n 1", "> /dev/full", ">&-"])
def test_a_stdout_that_takes_nothing_more_is_no_crash(out: str, tmp_path: Path) -> None:
    script = tmp_path / "script.txt"
    script.write_text("tree\nstages\ntree > whole.txt\n")
    line = f'"$@" < {script} {out}'
    done = subprocess.run(["sh", "-c", line, "sh", *PROGRAM, "shell"], capture_output=True, cwd=tmp_path, timeout=120)
    assert b"Traceback" not in done.stderr
    assert b"unexpected" not in done.stderr
    assert (tmp_path / "whole.txt").read_bytes().startswith(b"opt-mini")
    said = {"| head -n 1": b"", "> /dev/full": b"No space left on device", ">&-": b"standard output is closed"}[out]
    assert said in done.stderr
    assert done.stdout.count(b"\n") <= 1


def test_the_manual_s_lines_print_what_it_shows(tmp_path: Path) -> None:
    page = Path(txinspect.__file__).parent / "manual" / "loading.md"
    (shown,) = re.findall(r"```text\n(opt-mini> .*?)```", page.read_text(), re.DOTALL)
    lines = re.findall(r"^[\w-]+> (.*)$", shown, re.MULTILINE)
    assert len(lines) == 6
    done = subprocess.run(
        [*PROGRAM, "shell"], input="\n".join(lines), text=True, capture_output=True, cwd=tmp_path, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == re.sub(r"^[\w-]+> .*\n", "", shown, flags=re.MULTILINE)
    assert (tmp_path / "next.csv").read_text()
