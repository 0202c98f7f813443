"""A folder of many reports: parts that are written whole, and what is in them already."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from txinspect.errors import InspectError, UsageError
from txinspect.version import __version__
from txinspect.writing import written_whole

MOST_REPORTS, MOST_BYTES, MOST_SECONDS = 1000, 64 << 20, 30.0
"""Of a part: what is computed since the last one is lost where the machine stops."""

ASKED = "asked.json"


@dataclass
class Parts:
    """A folder that reports are written to, a part at a time; a part is there whole or not at all."""

    folder: Path
    asked: Mapping[str, Any]
    """What all of them are asked; another question has a folder of its own."""
    resumes: bool = False
    _waiting: list[bytes] = field(default_factory=list)
    _size: int = 0
    """Of what waits, in bytes."""
    _since: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Raises UsageError for a folder that holds something else, InspectError for one that cannot be written."""
        told = self.folder / ASKED
        asked = {"txinspect": __version__, **self.asked}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            there = sorted(each.name for each in self.folder.iterdir() if not each.name.startswith("."))
            if there and not told.is_file():
                raise UsageError(f"--out {str(self.folder)!r} holds {there[0]!r}", "give a new folder")
            if there and not self.resumes:
                raise UsageError(
                    f"--out {str(self.folder)!r} holds reports", "add --resume to go on, or give a new folder"
                )
            if there and json.loads(told.read_text(encoding="utf-8")) != asked:
                raise UsageError(
                    f"--out {str(self.folder)!r} was begun by another question, or another version", "give a new folder"
                )
            if not there:
                _write(told, json.dumps(asked, indent=2).encode() + b"\n")
        except OSError as error:
            raise InspectError(f"--out {str(self.folder)!r} cannot be written: {error.strerror}") from error
        except ValueError as error:
            raise InspectError(f"{told} is damaged", "give a new folder") from error

    def done(self) -> Counter[tuple[str, str]]:
        """The ids and digests of what is there. Raises InspectError for a part that is damaged."""
        found: Counter[tuple[str, str]] = Counter()
        for part in self._parts():
            try:
                for line in part.read_bytes().splitlines():
                    record = json.loads(line)
                    found[str(record["id"]), record["digest"]] += 1
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise InspectError(f"{part} is damaged", "remove it: its texts are then run again") from error
        return found

    def add(self, line: bytes) -> None:
        """Add a report's line to the part that comes next. Raises InspectError where that cannot be written."""
        self._waiting.append(line)
        self._size += len(line)
        is_large = len(self._waiting) >= MOST_REPORTS or self._size > MOST_BYTES
        if is_large or time.monotonic() - self._since > MOST_SECONDS:
            self.write()

    def write(self) -> None:
        """Write what waits as a part."""
        if self._waiting:
            last = max((int(each.stem.rpartition("-")[2]) for each in self._parts()), default=0)
            _write(self.folder / f"reports-{last + 1:05}.jsonl", b"".join(self._waiting))
        self._waiting, self._size, self._since = [], 0, time.monotonic()

    def __enter__(self) -> Parts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """What was computed is written, whatever ends the run."""
        self.write()

    def _parts(self) -> Iterator[Path]:
        return iter(sorted(self.folder.glob("reports-*.jsonl")))


def _write(path: Path, content: bytes) -> None:
    """Write a file whole, and see it on the disk. Raises InspectError where that cannot be."""
    try:
        with written_whole(path) as partial, partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InspectError(f"{path} cannot be written: {error.strerror}") from error
