"""A command as Typer reads its line and shows its help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand

from txinspect.cli import help_pages
from txinspect.cli.parse_errors import TooManyWords
from txinspect.errors import UsageError


class CommandLine(TyperCommand):
    """A command as its line is read and its help is shown."""

    def get_help(self, ctx: Any) -> str:
        """Show its help, which is all that is done."""
        help_pages.show(help_pages.of_command(self, ctx))
        raise typer.Exit

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Parse the command line.

        Raises UsageError for an option given twice that holds one value, TooManyWords for what is left of the line.
        """
        given = args[: args.index("--")] if "--" in args else args
        for each in self.params:
            if not _holds_one_value(each):
                continue
            # With its value in the same word: --top-k=3, -k3.
            whole = tuple(f"{option}=" if option.startswith("--") else option for option in each.opts)
            times = sum(word in each.opts or word.startswith(whole) for word in given)
            if times > 1:
                raise UsageError(
                    f"{long_of(each)} is given {times} times: it holds one value", "give it once", by=", so "
                )
        ctx.allow_extra_args = True
        left = super().parse_args(ctx, args)
        if left and not ctx.resilient_parsing:
            raise TooManyWords(" ".join(left))
        return left


def long_of(parameter: Any) -> str:
    """How a parameter of a command is spelled in a sentence: the option in full, an argument as in the help."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name)
    spellings: list[str] = parameter.opts
    return next((each for each in spellings if each.startswith("--")), spellings[0])


def _holds_one_value(parameter: Any) -> bool:
    """Whether a command's option is one that a second on the line would replace in silence."""
    is_option = all(option.startswith("-") for option in parameter.opts)
    return is_option and not parameter.multiple and not getattr(parameter, "is_flag", False)


def help_of(sentence: str, examples: Sequence[str]) -> str:
    """A command's help, above its options: the sentence, which alone stands in the list of commands, and examples."""
    return "\n".join([f"{sentence}\n", "Examples:", *(f"  $ {line}" for line in examples)])


def option_named(field: str) -> str:
    """How a field of a query is spelled as an option where no command says otherwise."""
    return "--" + field.replace("_", "-")
