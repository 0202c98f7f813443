"""Help pages, short for -h and in full for --help: plain lines in columns, which go the way of every drawing."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple

from txinspect.cli import appearance, streams
from txinspect.option import INPUT, LOADING, OUTPUT, WHERE

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_ORDER = (INPUT, WHERE, LOADING, OUTPUT)
"""Headings of options that come last, in this order; those of one command, or of the app, come before."""

_WIDEST, _GAP = 34, 2
"""Columns that the names of options may take, and that stand between them and what is said of them."""

_ROOM = 6
"""Lines for the names of all commands in the short list of them: the page fits on a terminal of 24 lines."""


class Entry(NamedTuple):
    """An option, an argument or a command, and what is said of it."""

    name: str
    value: str
    """What stands for its value; empty for a switch."""
    said: str
    aside: str = ""
    """Its default, and the variable that is taken for it."""


Page = Callable[["Console"], Iterator["Text"]]
"""Given a console, the lines of a help page as wide as it is."""


def show(page: Page) -> None:
    """Show a help page: in a pager, in colours and in an encoding as every drawing is."""
    from rich.text import Text

    drawn = StringIO()
    console = streams.console(drawn)
    console.print(Text("\n").join(page(console)), soft_wrap=True)
    streams.draw(drawn.getvalue())


def of_command(command: Any, ctx: Any) -> Page:
    """The help page of a command."""
    own, *others = _sections(command, ctx)
    in_full = appearance.asked().in_full

    def page(console: Console) -> Iterator[Text]:
        yield from _head(command, ctx, console, command.help)
        yield from _entries("Options", own[1], console, short=not in_full)
        if not in_full:
            yield from _more([title for title, _ in others], console)
            return
        for title, entries in others:
            yield from _entries(title, entries, console)
        for paragraph in (command.epilog or "").split("\n\n") if command.epilog else ():
            yield from _text("", console)
            yield from _text(paragraph, console)

    return page


def of_app(group: Any, ctx: Any, listed: Mapping[str, Sequence[Any]], examples: Sequence[str]) -> Page:
    """The help page of the app: its commands by group, and the options before them."""
    own, *others = _sections(group, ctx)
    shown = "\n".join(f"  $ {each}" for each in examples)

    def short(console: Console) -> Iterator[Text]:
        yield from _head(group, ctx, console, f"{group.help.partition('. ')[0]}.\n\nExamples:\n{shown}")
        yield from _text("\nCommands", console, "bold")
        yield from _named({title: [str(each.name) for each in commands] for title, commands in listed.items()}, console)
        yield from _entries("Options", own[1], console, short=True)
        yield from _more(["what commands do", *(title for title, _ in others)], console)

    def full(console: Console) -> Iterator[Text]:
        yield from _head(group, ctx, console, group.help)
        for title, entries in (("Options", own[1]), *others):
            yield from _entries(title, entries, console)
        for title, commands in listed.items():
            said = [Entry(str(each.name), "", each.help.partition("\n")[0]) for each in commands]
            yield from _entries(title, said, console)
        yield from _text("\ntxinspect COMMAND --help says more about each.", console)

    return full if appearance.asked().in_full else short


def _sections(command: Any, ctx: Any) -> list[tuple[str, list[Entry]]]:
    """What a command takes, by heading: its own options first."""
    sections: dict[str, list[Entry]] = {"": []}
    for each in command.get_params(ctx):
        sections.setdefault(each.rich_help_panel or "", []).append(_entry(each))
    return sorted(sections.items(), key=lambda section: _ORDER.index(section[0]) + 1 if section[0] in _ORDER else 0)


def _entry(parameter: Any) -> Entry:
    """What the help says of a command's parameter."""
    if parameter.name == "help":
        return Entry("-h, --help", "", "Show this, in short or in full.")
    said = parameter.help or ""
    aside = f"[env var: {parameter.envvar}] " if parameter.envvar else ""
    value, is_switch = parameter.default, getattr(parameter, "is_flag", False)
    if parameter.show_default and value not in (None, [], ()) and not is_switch:
        aside += f"[default: {', '.join(map(str, value)) if isinstance(value, (list, tuple)) else value}]"
    shown = "" if is_switch else str(parameter.metavar or parameter.name.upper())
    if parameter.param_type_name == "argument":
        return Entry("", shown, said, aside.strip())
    short = [each for each in parameter.opts if not each.startswith("--")]
    spellings = [*short, *[each for each in parameter.opts if each.startswith("--")][:1]]  # others are taken, too
    under_long_ones = "    " if spellings[0].startswith("--") else ""
    return Entry(under_long_ones + ", ".join(spellings), shown, said, aside.strip())


def _head(command: Any, ctx: Any, console: Console, said: str) -> Iterator[Text]:
    """The usage of a command, and what stands in its help above the options."""
    from rich.text import Text

    usage = f"Usage: {ctx.command_path} {' '.join(command.collect_usage_pieces(ctx))}"
    yield from _text(usage, console, indent=len("Usage: "))
    yield Text()
    for line in said.split("\n"):
        is_example = line.startswith("  $ ")
        yield from _text(line, console, "bold" if line == "Examples:" else "", indent=6 if is_example else 0)


def _text(said: str, console: Console, style: str = "", indent: int = 0) -> Iterator[Text]:
    """A text in lines as wide as the console, with what is wrapped indented."""
    from rich.text import Text

    for line in said.split("\n"):
        yield from (Text(each, style) for each in _wrapped(line, console.width, indent))


def _wrapped(said: str, width: int, indent: int = 0) -> list[str]:
    """A line of text in lines of a width, broken between words; a word that is longer stays whole."""
    later = " " * indent
    broken = textwrap.wrap(said, width, subsequent_indent=later, break_long_words=False, break_on_hyphens=False)
    return broken or [""]


def _entries(title: str, entries: Sequence[Entry], console: Console, *, short: bool = False) -> Iterator[Text]:
    """Options under a heading: what they are called, and beside it what is said of them."""
    from rich.text import Text

    if not entries:
        return
    yield Text()
    yield Text(title, "bold")
    natural = max(len(f"  {each.name} {each.value}".rstrip()) for each in entries)
    column = min(natural, _WIDEST, console.width // 2) + _GAP
    for each in entries:
        name = Text("  ").append(each.name, "cyan").append(" " * bool(each.name and each.value)).append(each.value)
        lines = _said(each, max(console.width - column, 1), short)
        if len(name) + _GAP > column:
            yield name
            name = Text()
        for line in lines:
            name.pad_right(column - len(name))
            yield name.append_text(line)
            name = Text()


def _said(entry: Entry, width: int, short: bool) -> list[Text]:
    """What is said of an option, in lines of a width; in short, its first clause if not all fits in one."""
    from rich.text import Text

    said = entry.said
    if short and len(f"{said} {entry.aside}".strip()) > width and "; " in said:
        said = said.partition("; ")[0] + "."
    lines = [Text(each) for each in _wrapped(said, width)]
    if entry.aside:
        if len(lines[-1]) + 1 + len(entry.aside) <= width:
            lines[-1].append(" ").append(entry.aside, "dim")
        else:
            lines += [Text(each, "dim") for each in _wrapped(entry.aside, width)]
    return lines


def _named(groups: Mapping[str, Sequence[str]], console: Console) -> Iterator[Text]:
    """The names of commands by group; where there are too many for the page, the first of each group."""
    from rich.text import Text

    column = max(map(len, groups)) + 4
    width = max(console.width - column, 1)
    lines = {title: _wrapped(", ".join(names), width) for title, names in groups.items()}
    if sum(map(len, lines.values())) > _ROOM:
        lines = {title: [_first_of(names, width)] for title, names in groups.items()}
    for title, rows in lines.items():
        for index, row in enumerate(rows):
            yield Text(f"  {title if index == 0 else '':{column - 2}}").append(row, "cyan")


def _first_of(names: Sequence[str], width: int) -> str:
    """As many names of commands as stand in a line, and that there are more."""
    for shown in range(len(names), 0, -1):
        more = f" and {len(names) - shown} more" if shown < len(names) else ""
        line = ", ".join(names[:shown]) + more
        if len(line) <= width:
            break
    return line


def _more(titles: Sequence[str], console: Console) -> Iterator[Text]:
    """Where there is more help, and about what."""
    yield from _text(f"\nMore with --help{': ' if titles else ''}{', '.join(titles)}.", console)
