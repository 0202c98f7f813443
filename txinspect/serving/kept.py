"""Which model a process holds, and which questions may be about it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from txinspect.answers.session import Session
from txinspect.model_choice import DEFAULT_MODEL, ModelChoice
from txinspect.serving.protocol import FOLLOWED

Stamps = dict[str, tuple[int, int, int]]
"""Of each file its size, its time in nanoseconds and its number."""


@dataclass(frozen=True)
class Kept:
    """A model that a process may hold."""

    choice: ModelChoice
    folder: str
    """The working directory that its name is looked up from."""
    variables: tuple[tuple[str, str], ...]
    """Those that its name is looked up by."""
    paths: tuple[str, ...]
    """Its folders and files, which may change."""
    is_anywhere: bool
    """Whether its name means the same in every folder."""

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Kept:
        """One that another process told of."""
        choice: dict[str, Any] = {
            name: tuple(each) if isinstance(each, list) else each for name, each in record["choice"].items()
        }
        variables = tuple((name, value) for name, value in record["variables"])
        paths = tuple(record["paths"])
        return cls(ModelChoice(**choice), record["folder"], variables, paths, record["is_anywhere"])

    @property
    def record(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return asdict(self)

    @property
    def named(self) -> str:
        """A held model's name, and in what numbers it is held where that was asked for."""
        others = [self.choice.quantization, self.choice.dtype if self.choice.dtype != "auto" else None]
        said = ", ".join(each for each in others if each)
        return f"{self.choice.name} ({said})" if said else self.choice.name

    def is_for(self, ask: Mapping[str, Any], folder: int) -> bool:
        """Whether a question from a folder may be about a held model. Where it is not, its answer is right, too."""
        words, variables = ask["words"], ask["variables"]
        if followed(variables) != self.variables:
            return False
        if not self.is_anywhere and str(Path(f"/proc/self/fd/{folder}").readlink()) != self.folder:
            return False
        names = {part for word in words for part in (word, word.partition("=")[2], word.removeprefix("-m"))}
        default = variables.get("TXINSPECT_MODEL", DEFAULT_MODEL)
        is_named = any(word.startswith(("-m", "--model")) for word in words)
        if self.choice.name not in names and (is_named or self.choice.name != default):
            return False
        asked = next((each for each in ("8bit", "4bit") if f"--{each}" in words), None)
        return asked == self.choice.quantization and (self.choice.dtype == "auto") == ("--dtype" not in words)


def followed(variables: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Those of some variables that the names of models are looked up by."""
    return tuple(sorted((name, value) for name, value in variables.items() if name in FOLLOWED))


def kept_of(session: Session, folder: str) -> Kept | None:
    """The first model of a session, which was asked about in a folder; None for one that no process may hold.

    Code that comes with a model is never inherited, and what the Hub has now is asked each time.
    """
    for choice in session.choices[:1]:
        if choice.trust_remote_code or choice.device not in ("auto", "cpu") or choice.device_map is not None:
            return None
        source = session.opened(choice).source
        if source.path is None:
            return None
        paths = tuple(dict.fromkeys(str(each.resolve()) for each in source.places_here))
        is_anywhere = source.place.origin(fetched=True) == "bundled" or Path(choice.name).is_absolute()
        return Kept(choice, folder, followed(os.environ), paths, is_anywhere)
    return None


def stamps(paths: Iterable[str]) -> Stamps:
    """Files, and those in folders, as they are now."""
    found = {}
    for path in map(Path, paths):
        for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
            with suppress(OSError):
                state = each.stat()
                found[str(each)] = (state.st_size, state.st_mtime_ns, state.st_ino)
    return found
