"""The text to look at: the argument, a file, what is piped in, or the lesson's sentence."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from select import select
from shlex import quote
from threading import Thread
from typing import IO, Annotated

import typer

from txinspect import commands
from txinspect.cli.environment import current
from txinspect.errors import InspectError, UsageError
from txinspect.queries import LESSON, MOST_CHARACTERS
from txinspect.sources.bundled_models import bundled_models, cached_models
from txinspect.stage_names import StageName
from txinspect.stages import BY_PART
from txinspect.wording import short_bytes

MOST_BYTES = 4 * MOST_CHARACTERS
"""Of a text in UTF-8."""

PATIENCE = 1.0
"""Seconds that a pipe has to begin, where nobody asked for it by `-`."""

Text = Annotated[
    str | None,
    typer.Argument(
        help="The text; if not given, what is piped in, else the lesson's sentence; - waits for standard input.",
        metavar="TEXT",
        show_default=False,
    ),
]
TextFile = Annotated[Path | None, typer.Option("--file", help="Read the text from a file.", metavar="PATH")]


@dataclass(frozen=True)
class Given:
    """The text, and what a person may want to know of where it is from."""

    text: str
    hint: str | None = None


def read_text(text: Text = None, file: TextFile = None) -> Given:
    """Read the text to look at: the argument, a file, a pipe, or the lesson's sentence.

    One line end at the very end of a file or of standard input belongs to the file, not to the text. Raises UsageError
    for a TEXT that is plainly a model, and InspectError for what cannot be read.
    """
    if text is not None and file is not None:
        raise UsageError("TEXT and --file cannot be combined", "give one of them")
    if file is not None:
        try:
            with file.open("rb") as stream:
                return Given(_decoded(_all(stream, str(file)), str(file)))
        except OSError as error:
            raise InspectError(f"{file} cannot be read: {error.strerror}") from error
    stdin = current().stdin
    if text == "-":
        if stdin is None:
            raise InspectError("standard input is closed: there is no text to read")
        return Given(_decoded(_all(stdin.buffer), "standard input"))
    if text is not None:
        _check_is_text(text)
        return Given(_decoded(text.encode("utf-8", "surrogateescape"), "TEXT", whole=True), _hint(text))
    return _piped(stdin.buffer) if stdin is not None else Given(LESSON)


def _all(stream: IO[bytes], where: str = "standard input") -> bytes:
    """All the text that a stream holds. Raises InspectError for more than any may have: it may have no end."""
    try:
        content = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise InspectError(f"{where} cannot be read: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise InspectError(f"{where} holds more than {short_bytes(MOST_BYTES)}", "give a part of it")
    return content


def _decoded(content: bytes, where: str, *, whole: bool = False) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise InspectError(
            f"{where} is not UTF-8 (byte 0x{content[error.start]:02x} at offset {error.start})", "convert it first"
        ) from None
    return text if whole else text.removesuffix("\n").removesuffix("\r")


def _piped(stream: IO[bytes]) -> Given:
    """The text that a pipe or file on standard input holds; the lesson's where it is neither, or nothing comes.

    Programs inherit pipes that nobody writes into (from cron, ssh, a parent process): none is waited for.
    """
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except OSError:  # a stream in memory, which has come already
        return Given(_decoded(_all(stream), "standard input") or LESSON)
    if stat.S_ISREG(mode):
        return Given(_decoded(_all(stream), "standard input"))
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return Given(LESSON)
    content = _arrived(stream)
    if content:
        return Given(_decoded(content, "standard input"))
    why = "nothing came on standard input" if content is None else "standard input is empty"
    wait = ", and - as the TEXT waits for one" if content is None else ""
    return Given(LESSON, f"{why}: this is about the lesson's sentence; give a TEXT for another{wait}")


def _arrived(stream: IO[bytes]) -> bytes | None:
    """All the text that a pipe brings, if it begins in time; None if it is silent."""
    first = _first(stream.fileno())
    return None if first is None else first + _all(stream) if first else b""


def _first(descriptor: int) -> bytes | None:
    """The first bytes of the text that a pipe brings; None if it brings nothing in time."""
    if os.name == "posix":  # without a thread, beside which no process can be forked
        ready, _, _ = select([descriptor], [], [], PATIENCE)
        return os.read(descriptor, 1 << 16) if ready else None
    first: list[bytes] = []
    # Not through the stream itself: the interpreter cannot end while a thread holds its lock.
    reader = Thread(target=lambda: first.append(os.read(descriptor, 1 << 16)), daemon=True)
    reader.start()
    reader.join(PATIENCE)
    return first[0] if first else None


def _check_is_text(text: str) -> None:
    """Raise UsageError for a TEXT that names a model."""
    what = None
    if _is_there(text, Path.is_dir):
        what = "a directory"
    elif text.endswith(".gguf") and _is_there(text, Path.is_file):
        what = "a .gguf file"
    elif text in bundled_models():
        what = "a model that comes with txinspect"
    elif re.fullmatch(r"[\w.-]+(/[\w.-]+)?", text) and text in cached_models():
        what = "a model in the Hub's local cache"
    if what is not None:
        raise UsageError(
            f"TEXT {text!r} is {what}",
            f"to run that model, give -m {quote(text)}; to take it as the text, pipe it in or use --file",
        )


def _hint(text: str) -> str | None:
    """What a person may have meant by a TEXT that it does not mean; None for most."""
    if re.fullmatch(r"-?\d+", text):
        return f"{text!r} is the text; for layer {text}: --layer {text}"
    if text in commands.NAMES:
        return f"{text!r} is the text; for the command: txinspect {text}"
    if text in BY_PART or StageName.of(text).layer is not None:
        return f"{text!r} is the text; for the stage: --stage {text}"
    if " " in text:
        return None
    if _is_there(text, Path.is_file):
        return f"{text!r} is the text; to read the file: --file {quote(text)}"
    if re.fullmatch(r"[\w.~-]*(/[\w.-]+)+", text):
        return f"{text!r} is the text; to run a model of that name: -m {quote(text)}"
    return None


def _is_there(text: str, kind: Callable[[Path], bool]) -> bool:
    """Whether a TEXT is the path of something of that kind; texts may be no paths at all."""
    try:
        return bool(text) and kind(Path(text).expanduser())
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, no such home
        return False
