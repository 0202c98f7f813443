"""How a field of a query is declared for a shell: its spelling, its help, the heading that it stands under."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from txinspect.value_checks import unwrapped


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


@dataclass(frozen=True)
class Declared:
    """A field of a record that a face offers, since it has an Option."""

    name: str
    kind: Any
    """Its type, None left out."""
    optional: bool
    """Whether it may be None."""
    option: Option
    default: Any

    @property
    def is_argument(self) -> bool:
        """Whether the field's value stands by itself on a command line, beside the text."""
        return not self.option.spelling.startswith("-")

    @property
    def long(self) -> str:
        """How it is spelled in full, such as --layer."""
        spellings = self.option.spelling.split("/")
        return next((each for each in spellings if each.startswith("--")), spellings[0])

    @property
    def key(self) -> str:
        """What a program calls it, in JSON: as a shell spells it, such as top_k."""
        return self.long.lstrip("-").lower().replace("-", "_")

    @property
    def is_list(self) -> bool:
        """Whether it holds several values."""
        return get_origin(self.kind) is tuple

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that it can take, one or several; none for a field of any other type."""
        inner = get_args(self.kind)[0] if self.is_list else self.kind
        return get_args(inner) if get_origin(inner) is Literal else ()


def declared(record: type[Any]) -> Iterator[Declared]:
    """The fields of a dataclass that have an Option and do something there."""
    hints = get_type_hints(record, include_extras=True)
    idle = getattr(record, "idle", ())
    for field in fields(record):
        extras = getattr(hints[field.name], "__metadata__", ())
        option = next((each for each in extras if isinstance(each, Option)), None)
        if option is not None and field.name not in idle:
            kind = get_args(hints[field.name])[0]
            inner = unwrapped(kind)
            yield Declared(field.name, inner, inner is not kind, option, field.default)


def option_of(kind: type[Any], name: str) -> Option | None:
    """The Option of a field: how it is spelled in a shell; None for a field that is not."""
    extras = getattr(get_type_hints(kind, include_extras=True)[name], "__metadata__", ())
    return next((each for each in extras if isinstance(each, Option)), None)
