"""How files that come with a model are opened: strangers made them.

A file is regular, no larger than its kind can be, and what it claims to be, before anything of it is read: a named pipe
would wait for ever, a device or a sparse file would fill the memory.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

from txinspect.errors import SourceError
from txinspect.wording import short_bytes

SMALL = 16 << 20
"""Bytes that a config can have at most."""

INDEX = 128 << 20
"""Bytes of an index of shards."""

VOCABULARY = 256 << 20
"""Bytes of a tokenizer's file."""

LFS_POINTER = b"version https://git-lfs.github.com/spec/"

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def is_there(path: Path) -> bool:
    """Whether there is a file of this name to open, if only a link that leads nowhere."""
    try:
        return os.path.lexists(path)
    except (OSError, ValueError):
        return False


def check(path: Path, most: int | None, what: str | None = None, advice: str = "fetch the model's files again") -> int:
    """Check that a file can be opened, and give its size; `what` is what sentences call it, `advice` what to do else.

    Raises SourceError for anything but a regular file, and for one of more than `most` bytes.
    """
    what = what or str(path)
    try:
        found = path.stat()
    except OSError as error:
        raise SourceError(_not_found(path, what, error)) from error
    except ValueError as error:  # a NUL in the name
        raise SourceError(f"{what} cannot be looked up: {error}") from error
    if not stat.S_ISREG(found.st_mode):
        kind = next((kind for is_kind, kind in _KINDS if is_kind(found.st_mode)), "no file")
        raise SourceError(f"{what} is {kind}, not a file: {advice}")
    if most is not None and found.st_size > most:
        raise SourceError(
            f"{what} is {short_bytes(found.st_size)} large, and a file of its kind has at most {short_bytes(most)}: "
            f"fetch it again"
        )
    if not os.access(path, os.R_OK):
        raise SourceError(f"{what} cannot be read: {os.strerror(errno.EACCES)}")
    return found.st_size


def _not_found(path: Path, what: str, error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return f"{what} is a link that leads back to itself: fetch the file itself"
    if path.is_symlink():
        return (
            f"{what} is a link to {path.readlink()}, which is not there: fetch the file itself, or copy the folder "
            f"with the files that its links lead to (cp -L)"
        )
    return f"{what} cannot be read: {error.strerror}"


def read(path: Path, most: int, what: str | None = None) -> bytes:
    """Open and read a file. Raises SourceError for one that cannot be read, and for a Git LFS pointer."""
    check(path, most, what)
    what = what or str(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{what} cannot be read: {error.strerror}") from error
    if content.startswith(LFS_POINTER):
        raise SourceError(f"{what} is a Git LFS pointer, not the file: run 'git lfs pull' in its repository")
    return content


class Files:
    """The files of a model, each opened once."""

    def __init__(self) -> None:
        self._kept: dict[Path, bytes] = {}

    def read(self, path: Path, most: int, what: str | None = None) -> bytes:
        """The content of a model's file, opened once. See read."""
        if path not in self._kept:
            self._kept[path] = read(path, most, what)
        return self._kept[path]

    def read_object(self, path: Path, most: int, what: str | None = None) -> dict[str, Any]:
        """The JSON object in a model's file, opened once. See read_object."""
        return _object(self.read(path, most, what), what or str(path))


def read_text(path: Path, most: int, what: str | None = None) -> str:
    """Open a file for its text. Raises SourceError for one that cannot be read or is not UTF-8."""
    try:
        return read(path, most, what).decode()
    except UnicodeDecodeError as error:
        raise SourceError(f"{what or path} is not text in UTF-8 ({error}): fetch or write it again") from error


def read_object(path: Path, most: int, what: str | None = None) -> dict[str, Any]:
    """Open a file for its JSON object. Raises SourceError for one that cannot be read or holds none."""
    return _object(read(path, most, what), what or str(path))


def _object(content: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{what} is not JSON ({_reason(error)}): fetch or write it again") from error
    if not isinstance(found, dict):
        raise SourceError(f"{what} is not a JSON object: fetch or write it again")
    return found


def _reason(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
