"""The commands, in the order of the help: a new one is a line here."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from txinspect.commands.command import Command
from txinspect.queries import Query

NAMES = (
    "tokenize",
    "tree",
    "stages",
    "models",
    "params",
    "embed",
    "pos",
    "attn",
    "logits",
    "lens",
    "heads",
    "diff",
    "run",
    "plan",
)


@cache
def command(name: str) -> Command:
    """The command of a name in NAMES."""
    found: Command = import_module(f"{__name__}.{name}").COMMAND
    return found


def command_of(query: Query[Any]) -> Command:
    """The command that a query asks. Raises TypeError for a query of none."""
    for kind in type(query).__mro__:
        for each in map(command, NAMES):
            if each.query is kind:
                return each
    if isinstance(query, type):
        raise TypeError(f"{query.__name__} is a class, and no query: give an instance of it")
    names = ", ".join(sorted(command(name).query.__name__ for name in NAMES))
    raise TypeError(f"{type(query).__name__} is not a query that txinspect answers: give one of {names}")
