"""A command as Typer reads its line and shows its help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

from txinspect.cli import help_pages
from txinspect.errors import UsageError


def without_types(switches: list[Any]) -> list[Any]:
    """A command's parameters as its help shows them: a switch takes no value, and its help names no type."""
    for each in switches:
        if getattr(each, "is_flag", False) and each.metavar is None:
            each.metavar = ""
    return switches


class CommandLine(TyperCommand):
    """A command as its help shows it."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The command's parameters as its help shows them, --help among them."""
        return without_types(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show its help."""
        help_pages.show(lambda: super(CommandLine, self).format_help(ctx, formatter))

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Parse the command line. Raises UsageError for an option given twice that holds one value."""
        given = args[: args.index("--")] if "--" in args else args
        for each in self.params:
            if not _holds_one_value(each):
                continue
            # With its value in the same word: --top-k=3, -k3.
            whole = tuple(f"{option}=" if option.startswith("--") else option for option in each.opts)
            times = sum(word in each.opts or word.startswith(whole) for word in given)
            if times > 1:
                raise UsageError(f"{long_of(each)} is given {times} times: it holds one value, so give it once")
        return super().parse_args(ctx, args)


def long_of(parameter: Any) -> str:
    """How a parameter of a command is spelled in a sentence: the option in full."""
    spellings: list[str] = parameter.opts
    return next((each for each in spellings if each.startswith("--")), spellings[0])


def _holds_one_value(parameter: Any) -> bool:
    """Whether a command's option is one that a second on the line would replace in silence."""
    is_option = all(option.startswith("-") for option in parameter.opts)
    return is_option and not parameter.multiple and not getattr(parameter, "is_flag", False)


def help_of(sentence: str, examples: Sequence[str]) -> str:
    """A command's help, above its options: the sentence, which alone stands in the list of commands, and examples.

    Rich reads [...] as markup, so brackets are escaped. Typer takes away the indentation that all lines share and dims
    whatever is not the sentence; a tag that undoes the second stands before the first.
    """
    shown = "\n".join("[not dim]  $ " + line.replace("[", r"\[") + "[/not dim]" for line in examples)
    return f"{sentence}\n\nExamples:\n{shown}"
