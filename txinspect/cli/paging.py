"""A pager for what is longer than the terminal: $PAGER, else less."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import PurePath
from typing import TextIO

from txinspect.cli import appearance
from txinspect.cli.environment import current, is_terminal, size
from txinspect.errors import InspectError

LESS = "FRX"
"""What less is told where LESS is not set: end where all fits, show colours, leave the screen as it is."""


class PagerError(InspectError):
    """The pager could not be started; nothing was shown."""


def show(drawing: str, content: bytes) -> bool:
    """Show a drawing, whose bytes are `content`, in a pager, until it is left; False where none is to.

    Raises PagerError.
    """
    stdout = current().stdout
    if not is_terminal(stdout) or not appearance.asked().pager or current().term == "dumb" or not is_too_long(drawing):
        return False
    pager = _pager()
    if pager:
        _run(pager, content, stdout)
    return bool(pager)


def is_too_long(drawing: str) -> bool:
    """Whether the top of a drawing would be gone from the terminal without a pager."""
    return is_terminal(current().stdout) and drawing.count("\n") >= size()[1]  # the last line is the prompt's


def _pager() -> list[str]:
    """The words that start the pager; none where there is to be none. Raises PagerError."""
    named = current().variables.get("PAGER")
    if named is None:
        found = shutil.which("less")
        return [found] if found else []
    try:
        words = shlex.split(named)
    except ValueError as error:
        raise _not_started(named, str(error).lower()) from None
    return [] if [PurePath(each).name for each in words] == ["cat"] else words


def _run(pager: list[str], content: bytes, stdout: TextIO) -> None:
    """Let a pager show bytes until it is left, early or not. Raises PagerError."""
    stdout.flush()
    with deaf_to_interrupts():
        try:
            process = subprocess.Popen(
                pager, stdin=subprocess.PIPE, stdout=stdout, env={"LESS": LESS, **current().variables}
            )
        except OSError as error:
            raise _not_started(shlex.join(pager), error.strerror or str(error)) from error
        try:
            process.communicate(content)  # a pipe that is closed before its end is no error: the pager was left early
        except SystemExit:  # asked to end: the terminal is given back
            process.terminate()
            raise


def _not_started(pager: str, why: str) -> PagerError:
    return PagerError(f"the pager {pager!r} could not be started ({why})", "set PAGER to another, or give --no-pager")


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """While open, Ctrl-C is another process's, such as the pager's.

    It is caught and not ignored: what is ignored when a process is started, that process ignores, too.
    """
    try:
        before = signal.signal(signal.SIGINT, lambda *_: None)
    except ValueError:  # in another thread than the first, which interrupts do not reach
        yield
        return
    try:
        yield
    finally:
        with suppress(TypeError):  # None: of a handler that Python did not set
            signal.signal(signal.SIGINT, before)
