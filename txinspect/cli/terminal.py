"""Whether the terminal is dark or light: it is asked (xterm's OSC 11), else COLORFGBG tells, else it counts as dark."""

from __future__ import annotations

import os
import re
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from txinspect.cli.environment import current, is_terminal
from txinspect.commands.command import Theme

PATIENCE = 0.5
"""Seconds for an answer; every terminal answers the second question, so that one which does not know the first is not
waited for."""

_BACKGROUND, _WHAT_ARE_YOU = b"\x1b]11;?\x1b\\", b"\x1b[c"

_LIGHT = (7, 15)
"""White in COLORFGBG's 16 colours."""


def background() -> Theme:
    """Whether the terminal's background is dark or light."""
    lightness = _lightness(_answer())
    if lightness is not None:
        return "light" if lightness > 0.5 else "dark"
    colour = current().variables.get("COLORFGBG", "").rpartition(";")[2]
    return "light" if colour.isdecimal() and int(colour) in _LIGHT else "dark"


def _lightness(answer: bytes) -> float | None:
    """The lightness in a terminal's answer such as rgb:ffff/ffff/dddd, between 0 and 1; None for no answer."""
    match = re.search(rb"rgba?:([0-9a-fA-F]{1,4})/([0-9a-fA-F]{1,4})/([0-9a-fA-F]{1,4})", answer)
    if match is None:
        return None
    return sum(int(part, 16) / float(16 ** len(part) - 1) for part in match.groups()) / 3


def _answer() -> bytes:
    """What the terminal answers to the two questions about itself; nothing where there is none to ask."""
    here = current()
    if sys.platform == "win32" or here.term in ("dumb", "linux"):
        return b""
    if not (is_terminal(here.stdin) and is_terminal(here.stdout)):
        return b""
    source, answer = here.stdin.fileno(), b""
    with suppress(OSError), unechoed(source):
        os.write(here.stdout.fileno(), _BACKGROUND + _WHAT_ARE_YOU)
        until = time.monotonic() + PATIENCE
        while not re.search(rb"\x1b\[\?[0-9;]*c", answer) and (left := until - time.monotonic()) > 0:
            if select.select([source], [], [], left)[0]:
                answer += os.read(source, 256)
    return answer


@contextmanager
def unechoed(source: int) -> Iterator[None]:
    """While open, what a terminal answers is neither shown nor held back until a line ends."""
    import termios
    import tty

    try:
        before = termios.tcgetattr(source)
    except termios.error as error:
        raise OSError from error
    try:
        tty.setcbreak(source, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(source, termios.TCSANOW, before)
