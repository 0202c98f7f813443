"""How a field of a query is declared for a shell: its spelling, its help, the heading that it stands under."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_type_hints


@dataclass(frozen=True)
class Option:
    """How a field is spelled in a shell, and the sentence that explains it there and here."""

    spelling: str
    """Such as `--layer`, or `-s/--stage` where there is a short one; a name such as `CORRUPT` for what stands by itself
    behind the text."""
    help: str
    metavar: str | None = None
    """What stands for the value in the help; None for a switch."""
    panel: str | None = None
    """The heading that it stands under in the help; None for the command's own options."""
    completes: Literal["models", "stages"] | tuple[str, ...] = ()
    """What the shell completes: what the model offers, or one of these."""
    envvar: str | None = None
    """The environment variable that is taken where it is not given."""
    in_order: bool = False
    """Of whole numbers: whether their order counts, as that of ids does; else they are positions."""
    first: bool = False
    """Of what stands by itself: whether in front of the text, not behind it."""


INPUT, WHERE, LOADING, OUTPUT = "Input", "Model", "Loading", "Output"
"""Headings in the help: what else is read, where the model is, how it is loaded, what is done with the report."""

FROM_WIDTH = "from the width"
"""Stands in the place of an Option where a shell fills a field with the columns of its terminal."""


def option_of(kind: type[Any], name: str) -> Option | None:
    """The Option of a field: how it is spelled in a shell; None for a field that is not."""
    extras = getattr(get_type_hints(kind, include_extras=True)[name], "__metadata__", ())
    return next((each for each in extras if isinstance(each, Option)), None)
