"""What Typer says of a command line that it cannot parse, in our voice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import typer

from txinspect.cli.suggesting import suggestion
from txinspect.errors import Said
from txinspect.nearest import nearest
from txinspect.wording import some_of

Parameters = Callable[[str | None], Sequence[Any]]
"""Given a command's name, or None for what stands before one, its parameters."""

MOST, FEW = 6, 3
"""Commands that are all named where only they have an option, and how many of more."""


class NoSuchCommand(typer.TyperException):
    """A line names a command that there is not."""

    exit_code = 2


class TooManyWords(typer.TyperException):
    """A command's line has words after its last argument."""

    exit_code = 2


def said_of(error: typer.TyperException, name: str | None, parameters: Parameters, commands: Sequence[str]) -> Said:
    """What is said of an error in the line of a command, or in what stands before one."""
    see = f"see 'txinspect {name} --help'" if name else "see 'txinspect --help'"
    if isinstance(error, TooManyWords):
        wrong, advice = f"{error.message!r} is one argument too many", "put a text with spaces in quotes"
        return Said(f"{wrong}: {advice}; {see}", wrong, f"{advice}; {see}")
    if isinstance(error, NoSuchCommand):
        wrong, near = f"no such command {error.message!r}", nearest(error.message, commands, cutoff=0.6)
        meant = ", ".join(map(repr, near)) or None
    elif hasattr(error, "possibilities"):  # Typer's NoSuchOption, which has no public name
        wrong, meant = _no_such_option(str(getattr(error, "option_name", "")), name, parameters, commands)
    else:
        said = error.format_message().strip().rstrip(".")
        wrong, meant = f"{said[:1].lower()}{said[1:]}", None
    if meant:
        return Said(f"{wrong} (did you mean {meant}?); {see}", wrong, f"did you mean {meant}? Else {see}")
    return Said(f"{wrong}; {see}", wrong, see)


def _no_such_option(
    typed: str, name: str | None, parameters: Parameters, commands: Sequence[str]
) -> tuple[str, str | None]:
    """What is wrong with an option that a command does not have, and what was meant."""
    wrong = f"no such option: {typed}"
    others = {each: part.opts for each in commands for part in parameters(each) if typed in part.opts}
    if others and name is None:
        return f"{wrong}, which belongs after the command", None
    own = ["--help", *(spelling for part in parameters(name) for spelling in _spellings(part))]
    meant = suggestion(typed, own, list(others.values()))
    if others and meant is None:
        which = some_of(list(others), MOST if len(others) <= MOST else FEW)
        wrong += f", which {which} {'has' if len(others) == 1 else 'have'}"
    return wrong, f"{meant}, which stands by itself" if meant == "TEXT" else meant


def _spellings(parameter: Any) -> Sequence[str]:
    """How a command's option is spelled; an argument, by its name in the help."""
    is_option = parameter.param_type_name == "option"
    return [*parameter.opts, *parameter.secondary_opts] if is_option else [str(parameter.metavar)]
