"""A line of the shell: its words, quoted as in a POSIX shell, and where what it prints goes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from txinspect.errors import UsageError

Way = Literal["|", ">", ">>"]
"""Where what a line prints goes: to a command of the system's shell, to a file, or to a file's end."""

OWN = {
    "text": "ask about the TEXT behind it from now on; alone, show it",
    "model": "ask about the MODEL behind it from now on; alone, show it",
    "_": "the last report again, drawn another way: _ --json, _ --csv FILE",
    "help": "this, or what the COMMAND behind it does and takes; so does ?",
    "exit": "leave, as quit and Ctrl-D do",
}
"""What a line may begin with that is no command."""


@dataclass(frozen=True)
class Line:
    """A line of the shell."""

    words: tuple[str, ...]
    way: Way | None = None
    target: str = ""
    """The command of the system's shell, or the file."""

    @classmethod
    def read(cls, typed: str) -> Line:
        """Read a line as it was typed. Raises UsageError for one that cannot be read."""
        typed = _without_comment(typed)
        at, sign = next(((at, sign) for at, sign in bare(typed) if sign in "|>"), (len(typed), ""))
        words = tuple(_split(typed[:at]))
        if not sign:
            return cls(words)
        if not words:
            raise UsageError(f"nothing stands before {sign}", "give a command there, such as attn --layer 0")
        if sign == ">" and words[-1] in ("1", "2", "&") and typed[at - 1] == words[-1]:
            raise UsageError(
                f"{words[-1]}> is not known here", "> and >> take what a command prints, and | hands it on"
            )
        if sign == "|":
            if not typed[at + 1 :].strip():
                raise UsageError("nothing stands after |", "give a command of the system's shell there, such as head")
            return cls(words, "|", typed[at + 1 :])
        way: Way = ">>" if typed[at : at + 2] == ">>" else ">"
        rest = typed[at + len(way) :]
        named = _split(rest)
        if len(named) != 1 or any(other in "|>" for _, other in bare(rest)):
            raise UsageError(f"one file's name stands after {way}", "quote a name with spaces")
        return cls(words, way, named[0])


def bare(typed: str) -> Iterator[tuple[int, str]]:
    """The characters of a line that stand outside of quotes, with their places."""
    quote, is_escaped = "", False
    for at, sign in enumerate(typed):
        if is_escaped:
            is_escaped = False
        elif sign == "\\" and quote != "'":
            is_escaped = True
        elif quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        else:
            yield at, sign


def begun(typed: str) -> tuple[list[str], str]:
    """The words of a line that is being typed, and the last one, which is not done, as it was typed."""
    start = max((at + 1 for at, sign in bare(typed) if sign.isspace()), default=0)
    return _split(typed[:start]), typed[start:]


def unquoted(typed: str) -> str:
    """A word that is being typed, without its quotes, of which the last may be open."""
    for closing in ("", "'", '"'):
        try:
            return "".join(shlex.split(typed + closing))
        except ValueError:
            continue
    return typed


def _without_comment(typed: str) -> str:
    for at, sign in bare(typed):
        if sign == "#" and (not at or typed[at - 1].isspace()):
            return typed[:at]
    return typed


def _split(typed: str) -> list[str]:
    try:
        return shlex.split(typed)
    except ValueError as error:
        if "quotation" in str(error):
            raise UsageError("a quote is open at the end of the line", "close it, or put \\ before it") from None
        raise UsageError("nothing stands after the last \\", "put another before it, or quote it") from None
