"""Options that stand before the command, and mean there what they mean after it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Annotated, Any, get_args

import typer

from txinspect.cli.command_line import long_of
from txinspect.errors import UsageError

BEFORE = "Before or after the command"
"""The heading that they stand under in the help."""

_TOLD = {"quiet": "--quiet", "verbose": "--verbose", "json": "--json", "offline": "--offline"}
"""Those that a command is told of; the appearance is read off the whole line."""

_DOING = ("json", "offline")
"""Those that would change what a command does, were it to have them: they are not dropped in silence."""

# As ModelChoice declares it, which the list of commands is not to wait for.
Offline = Annotated[bool, typer.Option("--offline", help="Never ask the Hub: use its local cache.")]


def as_before(declared: Any) -> Any:
    """What an option is declared as, under the heading of those before the command."""
    option = copy(get_args(declared)[1])
    option.rich_help_panel = BEFORE
    return option


def words_for(command: Any, given: Mapping[str, Any]) -> list[str]:
    """The words that tell a command of the options before it.

    Raises UsageError for one that asks for something which the command does not do.
    """
    has = {long_of(each) for each in command.params if each.opts[0].startswith("-")}
    for name in _DOING:
        if given.get(name) and _TOLD[name] not in has:
            raise UsageError(
                f"{command.name} has no {_TOLD[name]}, which stands before it",
                f"see 'txinspect {command.name} --help'",
                by="; ",
            )
    return [option for name, option in _TOLD.items() if given.get(name) and option in has]


def check_is_for_nothing(given: Mapping[str, Any]) -> None:
    """Raise UsageError for an option that asks for something of a command where there is none."""
    for name in _DOING:
        if given.get(name):
            raise UsageError(f"{_TOLD[name]} is about a command", f"give one, such as txinspect {_TOLD[name]} tree")
