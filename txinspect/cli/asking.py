"""A line of the shell, run: where it reads and prints, and the ordinary command line that it becomes."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import IO, Any, TextIO

from txinspect import commands
from txinspect.cli.environment import current, encoding, replaced
from txinspect.cli.line import Line
from txinspect.cli.lookalikes import ERRORS
from txinspect.cli.paging import deaf_to_interrupts
from txinspect.errors import InspectError
from txinspect.queries import TextQuery

INTERRUPTED = 130
"""What Ctrl-C ends a command with."""

_OTHERS = ("against", "diff", "base")
"""Parameters that name another model beside, which is not trusted for the first one's sake."""


@dataclass(frozen=True)
class About:
    """What is asked about where a line does not say."""

    model: str
    text: str | None = None
    trusted: str | None = None
    """The model whose own code is run; nobody else's is."""


def filled(app: Any, words: Sequence[str], about: About) -> list[str]:
    """The words of a command line, with the model and the text where it has room for them and names none."""
    at = next((at for at, word in enumerate(words) if word in app.commands), None)
    if at is None:
        return list(words)
    before, own = words[: at + 1], list(words[at + 1 :])
    command = app.built(words[at])
    try:
        above = app.make_context("txinspect", [], resilient_parsing=True)  # which says that -h is --help
        given = command.make_context(words[at], list(own), parent=above, resilient_parsing=True)
    except Exception:  # which the command itself says in a sentence
        return list(words)
    behind = ["--", *own[own.index("--") + 1 :]] if "--" in own else []
    ahead = own[: len(own) - len(behind)]
    names = {each.name for each in command.params}
    if "model" in names and not _is_typed(given, "model") and not _is_typed(given, "model_option"):
        ahead += ["-m", about.model]
        is_trusted = about.trusted == about.model and not any(map(given.params.get, _OTHERS))
        if is_trusted and "trust_remote_code" in names and not given.params.get("trust_remote_code"):
            ahead.append("--trust-remote-code")
    if about.text is not None and _takes_text(words[at], given):
        behind = [*(behind or ["--"]), about.text]
    return [*before, *ahead, *behind]


def _is_typed(given: Any, name: str) -> bool:
    source = given.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _takes_text(name: str, given: Any) -> bool:
    """Whether a command takes a text that its line does not have: where another argument comes first, that is given."""
    if name not in commands.NAMES:
        return False
    command = commands.named(name)
    query = command.planned or command.query
    if not issubclass(query, TextQuery):
        return False
    arguments = [each.name for each in given.command.params if each.param_type_name == "argument"]
    first = arguments[: arguments.index("text")]
    return all(map(given.params.get, first)) and not any(
        _is_typed(given, each) for each in ("text", "file", *query.instead_of_text)
    )


def code_of(run: Callable[[list[str]], None], words: list[str]) -> int:
    """The exit code of a command line that is run in this process; whatever ends it ends nothing else."""
    try:
        copy_context().run(run, words)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def system(command: str, *, is_script: bool) -> int:
    """The exit code of a command of the system's shell."""
    with deaf_to_interrupts():
        return _ended(subprocess.run(command, shell=True, stdin=subprocess.DEVNULL if is_script else None, check=False))


@contextmanager
def printing(line: Line, *, is_script: bool) -> Iterator[list[int]]:
    """While open, what is printed goes where a line says, and a script is not read as a text.

    What it gives is filled with the exit code of the command that a line is handed on to. Raises InspectError for a
    file that cannot be written.
    """
    codes: list[int] = []
    with _stdout(line, codes) as stdout, open(os.devnull, encoding="utf-8") as nothing:  # noqa: PTH123
        here = current()
        with replaced(here._replace(stdin=nothing if is_script else here.stdin, stdout=stdout)):
            yield codes


@contextmanager
def _stdout(line: Line, codes: list[int]) -> Iterator[TextIO | None]:
    """Where a line prints: a pipe, a file, or the shell's own, which is not closed with it."""
    own = current().stdout
    if line.way == "|":
        handed_on = subprocess.Popen(line.target, shell=True, stdin=subprocess.PIPE)
        assert handed_on.stdin is not None
        try:
            with _text(handed_on.stdin, own) as stdout:
                yield stdout
        finally:
            with deaf_to_interrupts():
                handed_on.wait()
            codes.append(_ended(handed_on))
    elif line.way is not None:
        try:
            opened = open(line.target, "ab" if line.way == ">>" else "wb")  # noqa: PTH123, SIM115
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise InspectError(f"{line.target!r} cannot be written: {why}") from error
        with _text(opened, own) as stdout:
            yield stdout
    else:
        try:
            copy = os.dup(own.fileno()) if own is not None else None
        except (OSError, ValueError):  # a stream in memory
            copy = None
        if copy is None:
            yield own
            return
        with _text(os.fdopen(copy, "wb"), own) as stdout:
            yield stdout


@contextmanager
def _text(stream: IO[bytes], like: TextIO | None) -> Iterator[TextIO]:
    """A stream of bytes as one of text, encoded like another."""
    text = io.TextIOWrapper(stream, encoding(like), ERRORS, line_buffering=stream.isatty())
    try:
        yield text
    finally:
        with suppress(OSError):  # nobody reads it any more
            text.close()


def _ended(process: Any) -> int:
    """The exit code of a process; of one that a signal ended what a shell says of it."""
    code = int(process.returncode)
    return code if code >= 0 else 128 - code
