"""How what is said looks: with colours or without, in a pager or not. The command line rules it, then variables."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, TextIO, get_args

from txinspect.cli.environment import current, is_terminal
from txinspect.errors import UsageError

When = Literal["auto", "always", "never"]
"""When there are colours: auto is where they are seen, on a terminal."""

WHEN: tuple[When, ...] = get_args(When)


@dataclass(frozen=True)
class Appearance:
    """What the command line asks for."""

    color: When = "auto"
    pager: bool = True
    """Whether a long drawing may be shown in one."""
    in_full: bool = False
    """Whether help is asked for by --help, which says all, and not by -h."""
    line: tuple[str, ...] = field(default=(), compare=False)
    """All words of the command line, for what tells of it."""

    @property
    def words(self) -> list[str]:
        """The words of a command line that ask for it."""
        return [f"--color={self.color}", *([] if self.pager else ["--no-pager"])]


_ASKED: ContextVar[Appearance] = ContextVar("asked", default=Appearance())  # noqa: B039, a frozen record


def read(line: Sequence[str]) -> None:
    """Take what the words of a command line ask for; an unknown word is left to the option to refuse.

    They are read before all options are: an error in the first of them is said in the colours that the last asks for,
    and so is the help, which no other option is read beside. Raises UsageError for two different words.
    """
    words = line[: line.index("--")] if "--" in line else line
    named = [word.partition("=")[2] for word in words if word.startswith("--color=")]
    named += [after for word, after in pairwise(words) if word == "--color"]
    given = [when for when in WHEN if when in named]
    when = given[0] if len(given) == 1 else "auto"
    _ASKED.set(Appearance(when, "--no-pager" not in words, "--help" in words, tuple(line)))
    if len(given) > 1:
        raise UsageError(f"--color is given as {' and as '.join(given)}", "give one of them")


def asked() -> Appearance:
    """What the command line that is answered asks for."""
    return _ASKED.get()


def is_coloured(stream: TextIO | None) -> bool:
    """Whether what is said on a stream has colours."""
    if _is_forced():
        return True
    if asked().color == "never" or _forbids():
        return False
    return is_terminal(stream) and not _is_dumb()


def settings() -> dict[str, Any]:
    """What a Rich console is told of its colours; what nothing is said of it finds out itself."""
    if asked().color == "never":
        return {"color_system": None, "no_color": True}
    if _is_forced():
        # Rich gives none to a terminal that calls itself dumb.
        return {"force_terminal": True, "no_color": False, "color_system": "standard" if _is_dumb() else "auto"}
    return {"no_color": True} if _forbids() else {}


def _is_forced() -> bool:
    """Whether there are colours in a pipe, too."""
    if asked().color != "auto":
        return asked().color == "always"
    known = current().variables
    forces = bool(known.get("FORCE_COLOR")) or known.get("CLICOLOR_FORCE", "0") not in ("", "0")
    return forces and not _forbids()


def _forbids() -> bool:
    """Whether a variable wants none."""
    return bool(current().variables.get("NO_COLOR"))


def _is_dumb() -> bool:
    return current().variables.get("TERM", "").lower() in ("dumb", "unknown")
