"""The last report of a process that stays, which is drawn in another way without computing again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from txinspect import commands
from txinspect.errors import UsageError

if TYPE_CHECKING:
    from txinspect.cli.streams import Told
    from txinspect.commands.packed import PackedAttention
    from txinspect.queries import Query
    from txinspect.records import Report


@dataclass
class Last:
    """What was asked last, and answered."""

    words: list[str] = field(default_factory=list)
    """The command line that is answered."""
    answered: list[str] = field(default_factory=list)
    """That of the last report."""
    query: Query[Any] | None = None
    report: Report | None = None
    attentions: list[PackedAttention] | None = None
    """Packed for a page; None where none was asked for."""
    is_drawn_again: bool = False
    """Whether the line that is answered draws the same report again."""

    def answers(self, query: Query[Any], *, for_page: bool) -> bool:
        """Whether the last report is the answer. Raises UsageError where the line asks for it, and for another one."""
        if not self.is_drawn_again:
            return False
        if self.query is None or not _is_same(query, self.query):
            raise UsageError("_ draws the last report again, and this asks for another one", "give the command itself")
        return self.attentions is not None or not for_page  # a page shows attention, which only a pass has


_SHOWN = (
    *("json", "quiet", "verbose", "color", "no_pager", "no_serve"),
    *("legend", "picture", "figure", "csv", "html", "open"),
)
"""Parameters of how a report is shown."""

_KEPT: ContextVar[Last | None] = ContextVar("kept", default=None)


@contextmanager
def keeping(last: Last) -> Iterator[None]:
    """While open, what is answered is kept as the last report."""
    before = _KEPT.set(last)
    try:
        yield
    finally:
        _KEPT.reset(before)


def answered(query: Query[Any], told: Told, *, for_page: bool) -> tuple[Report, list[PackedAttention]]:
    """A query's report, and the attention for a page where one is asked for; the last one where that is to be drawn."""
    from txinspect.inspecting import inspect, inspect_for_page

    last = _KEPT.get()
    if last is not None and last.answers(query, for_page=for_page):
        assert last.report is not None
        return last.report, last.attentions or []
    report: Report
    if for_page:
        report, attentions = inspect_for_page(query, told.notify, told.progress)
    else:
        report, attentions = inspect(query, told.notify, told.progress), []
    if last is not None:
        last.answered = last.words
        last.query, last.report, last.attentions = query, report, attentions if for_page else None
    return report, attentions


def words_again(command: Any, words: Sequence[str], others: Sequence[str]) -> list[str]:
    """The words of a command that draw its report again: all but those of how it was drawn, and with others."""
    given = {word.partition("=")[0] for word in others}
    options = {name: each for each in command.params for name in each.opts if name.startswith("-")}
    drawn = _of_the_drawing(command.name, beside_json="--json" in given)
    replaced = {name for name, each in options.items() if each.name in drawn or given & {*each.opts}}
    kept, rest = [], list(words)
    while rest and rest[0] != "--":
        word = rest.pop(0)
        name = word.partition("=")[0] if word.startswith("--") else word[:2]
        is_whole = word != name or name not in options or getattr(options[name], "is_flag", False)
        taken = [word] if is_whole or not rest else [word, rest.pop(0)]
        kept += taken if name not in replaced else []
    return [*others, *kept, *rest]


def _of_the_drawing(name: str, *, beside_json: bool) -> set[str]:
    """The parameters of a command that say how its report is shown; with JSON also those that shape the drawing."""
    command = commands.named(name)
    drawn = {*_SHOWN} - ({"html"} if command.html is not None else set())
    shapes = fields(command.view) if command.view is not None and beside_json else ()
    return drawn | {each.name for each in shapes}


def _is_same(one: Query[Any], other: Query[Any]) -> bool:
    """Whether two queries ask for the same; what a terminal's width says of the drawing aside."""
    from txinspect.cli.building import from_width

    aside = from_width(type(one))
    return type(one) is type(other) and all(
        getattr(one, each.name) == getattr(other, each.name) for each in fields(one) if each.name not in aside
    )
