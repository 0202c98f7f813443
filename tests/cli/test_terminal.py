"""Dark or light: the terminal is asked, in a pseudo-terminal that answers as xterm does, or does not."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time

import pytest

from txinspect.cli import terminal

ASK = """
import sys
from txinspect.cli import terminal
terminal.PATIENCE = {patience}
print(terminal.background(), file=sys.stderr)
"""


def asked(answer: bytes | None, patience: float = terminal.PATIENCE, **environment: str) -> tuple[str, bytes]:
    """What a program in a terminal finds, and what it wrote to the terminal.

    `answer` is what the terminal says when it is asked what it is; None for one that says nothing. `patience` is how
    many seconds the program waits for it.
    """
    ours, theirs = os.openpty()
    source = ASK.format(patience=patience)
    child = subprocess.Popen(
        [sys.executable, "-c", source],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm-256color", "COLORFGBG": "", **environment},
    )
    written, until = b"", time.monotonic() + 120
    while child.poll() is None and time.monotonic() < until:
        if select.select([ours], [], [], 0.05)[0]:
            written += os.read(ours, 1024)
            if answer is not None and written.endswith(b"\x1b[c"):
                os.write(ours, answer)
                answer = None
    child.kill()
    _, said = child.communicate()
    os.close(ours)
    os.close(theirs)
    return said.decode().strip(), written


@pytest.mark.parametrize(
    ("colour", "theme"),
    [
        (b"rgb:ffff/ffff/ffff", "light"),
        (b"rgb:fd/f6/e3", "light"),
        (b"rgb:0000/0000/0000", "dark"),
        (b"rgb:2828/2c2c/3434", "dark"),
        (b"rgba:f/f/f/f", "light"),
    ],
)
@pytest.mark.parametrize("end", [b"\x07", b"\x1b\\"])
def test_the_terminal_is_asked(colour: bytes, theme: str, end: bytes) -> None:
    found, written = asked(b"\x1b]11;" + colour + end + b"\x1b[?62;22c", COLORFGBG="15;0")
    assert (found, written) == (theme, b"\x1b]11;?\x1b\\\x1b[c")


def test_a_terminal_that_knows_no_colours_is_not_waited_for() -> None:
    found, _ = asked(b"\x1b[?6c", patience=10_000, COLORFGBG="0;15")
    assert found == "light"


def test_a_terminal_that_says_nothing_is_dark() -> None:
    assert asked(None)[0] == "dark"


@pytest.mark.parametrize("name", ["dumb", "linux"])
def test_a_terminal_that_would_show_the_question_is_not_asked(name: str) -> None:
    assert asked(None, TERM=name) == ("dark", b"")


@pytest.mark.parametrize(
    ("colours", "theme"),
    [("0;15", "light"), ("0;default;15", "light"), ("15;0", "dark"), ("", "dark"), ("x;y", "dark")],
)
def test_colorfgbg_tells_where_none_is_asked(colours: str, theme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLORFGBG", colours)
    assert terminal.background() == theme


def test_what_was_typed_before_is_still_echoed_and_lines_still_end() -> None:
    """The terminal's own settings are put back."""
    import termios

    ours, theirs = os.openpty()
    before = termios.tcgetattr(theirs)
    with terminal.unechoed(theirs):
        assert not termios.tcgetattr(theirs)[3] & (termios.ECHO | termios.ICANON)
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
