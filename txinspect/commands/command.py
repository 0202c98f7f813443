"""What makes a command: the query that asks, the report that answers, and examples for the help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from txinspect.option import OUTPUT, Option
from txinspect.queries import ModelQuery, Query, TensorQuery
from txinspect.records import Report
from txinspect.value_checks import check_one_of

Theme = Literal["auto", "dark", "light"]

THEME = Option(
    "--theme",
    "Colours for a dark or a light background; auto asks the terminal.",
    "THEME",
    OUTPUT,
    envvar="TXINSPECT_THEME",
)
"""Of every drawing that has colours of its own."""


TABLE = Option("--table", "Show everything: the tables that the first screen leaves out.", panel=OUTPUT)


@dataclass(frozen=True, kw_only=True)
class Detailed:
    """A view: one screen with the finding on top, or everything."""

    table: Annotated[bool, TABLE] = False
    given: frozenset[str] = frozenset()
    """Fields of the query and of the view that were asked for by name, of which nothing is left out."""


@dataclass(frozen=True, kw_only=True)
class Themed(Detailed):
    """A view: how something with colours of its own is drawn."""

    theme: Annotated[Theme, THEME] = "auto"

    def __post_init__(self) -> None:
        check_one_of("theme", self.theme, get_args(Theme))


@dataclass(frozen=True)
class Command:
    """A command, declared once: its options are the query's fields, its help is the query's docstring.

    Its place in the list of commands is its line in `commands/__init__.py`.

    `answers/NAME.py` answers the query and `render/terminal/NAME.py` draws the report.
    """

    name: str
    query: type[Query[Any]]
    report: type[Report]
    examples: tuple[str, ...]
    """Command lines for the help."""
    more: str = ""
    """What else the help says, below the options: definitions."""
    view: type[Any] | None = None
    """A dataclass whose fields are options that shape the drawing alone; None if there are none."""
    html: str | None = None
    """The file that its page is written to, where a command is there to write one; else pages are written if asked."""
    unless: tuple[str, type[ModelQuery[Any]]] | None = None
    """A field, and the query that a shell makes where neither the field nor anything to do with its tensors is given:
    what a person chooses from."""
    planned: type[TensorQuery[Any]] | None = None
    """The query that a shell's options make where the command's own query is *of* it, as a plan is; else None."""
