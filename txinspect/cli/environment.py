"""Where the program runs: its streams, its folder and its variables, as one record that another can take the place of.

A process that stays, and forks a child for each question of a client, answers in the client's environment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO, TypeGuard


class Environment(NamedTuple):
    """What surrounds the program. A stream is None where it was closed before the program began."""

    stdin: TextIO | None
    stdout: TextIO | None
    stderr: TextIO | None
    variables: MutableMapping[str, str]
    directory: Path | None
    """The working directory; None where it was deleted."""

    @property
    def term(self) -> str:
        """The environment's kind of terminal, in terminfo's words."""
        return self.variables.get("TERM", "dumb")


def is_terminal(stream: TextIO | None) -> TypeGuard[TextIO]:
    """Whether a stream of the environment is a terminal, which a person sees or types at."""
    return stream is not None and stream.isatty()


def encoding(stream: TextIO | None) -> str:
    """What a stream of the environment encodes text in; UTF-8 where it does not say."""
    return getattr(stream, "encoding", None) or "utf-8"


def width() -> int:
    """Columns of the environment's terminal, or of what stands in its place."""
    return size()[0]


def size() -> tuple[int, int]:
    """Columns and lines of the environment's terminal, or of what stands in its place."""
    from rich.console import Console

    columns, lines = Console().size
    return columns, lines


def current() -> Environment:
    """The environment as it is now: a test runner puts streams of its own into sys, and so does `replaced`."""
    return Environment(sys.stdin, sys.stdout, sys.stderr, os.environ, _directory())


@contextmanager
def replaced(other: Environment) -> Iterator[None]:
    """While open, another environment is the process's own, so that Typer, Rich and the models' libraries see it, too.

    It is the whole process's: no other thread may lean on its own. Descriptors 0, 1 and 2 stay what they are; a child
    that is forked for a client puts the client's in their place.
    """
    before = current()._replace(variables=dict(os.environ))
    try:
        _enter(other)
        yield
    finally:
        _enter(before)


def open_stderr() -> None:
    """Let the process's stderr lead nowhere where it is closed, so that no file that is opened takes its number."""
    if current().stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123


def _enter(other: Environment) -> None:
    """Make an environment the process's own."""
    sys.stdin, sys.stdout, sys.stderr = other[:3]
    variables = dict(other.variables)  # which may be the process's own
    os.environ.clear()  # in its place: Rich holds on to it
    os.environ.update(variables)
    if other.directory is not None:
        os.chdir(other.directory)


def _directory() -> Path | None:
    try:
        return Path.cwd()
    except OSError:
        return None
