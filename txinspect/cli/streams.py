"""What is written to stdout and stderr: reports, progress, complaints."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import typer

from txinspect.cli import appearance, paging
from txinspect.cli.environment import current, encoding, is_terminal, size
from txinspect.cli.lookalikes import ERRORS
from txinspect.errors import InspectError, Said

if TYPE_CHECKING:
    from txinspect.commands.packed import PackedAttention
    from txinspect.records import Report


@dataclass(frozen=True)
class Output:
    """How a report is shown, and what is said on the way."""

    json: bool
    quiet: bool
    verbose: bool
    legend: bool = False
    """Whether the words of the drawing are explained below it."""
    picture: Path | None = None
    """Where the drawing is written as a picture, too."""
    figure: bool = False
    """Whether that is a figure for a paper, not as the terminal draws it."""
    csv: Path | None = None
    """Where the rows are written, too."""
    html: Path | None = None
    """Where a page is written, too."""
    open: bool = False
    """Whether the page is shown in a browser."""


class Told(NamedTuple):
    """Who is told what goes on, and how far it is."""

    notify: Callable[[str], None] = lambda _: None
    progress: Callable[[str, int, int], None] | None = None


def show(report: Report, output: Output, view: object | None, attentions: Sequence[PackedAttention] = ()) -> None:
    """Write a report to stdout: as JSON, or as tables in the shape that `view` asks for; files beside it come first.

    `attentions` are packed for a page.
    """
    from txinspect.cli import beside, steps

    if output.picture is not None:
        beside.write_picture(output.picture, report, view, figure=output.figure)
    if output.csv is not None:
        beside.write_csv(output.csv, report)
    if output.html is not None:
        beside.write_html(output.html, report, attentions)
    if output.json:
        write(_json(report) + b"\n")
    elif parts := steps.of(report):
        alone = replace(output, legend=False, picture=None, csv=None, html=None)
        steps.show(parts, lambda each: _draw(each, output if each is parts[-1] else alone, view), say)
    else:
        _draw(report, output, view)
    if output.open and output.html is not None:
        beside.show_in_browser(output.html)


def _draw(report: Report, output: Output, view: object | None) -> None:
    """Draw a report on stdout, in the shape that `view` asks for, and say which files are beside it."""
    from txinspect.render.content import heading
    from txinspect.render.content.terms import terms
    from txinspect.render.terminal import finding, render
    from txinspect.render.terminal.frame import drawn as drawn_part
    from txinspect.render.terminal.glyphs import Seen

    drawn = StringIO()
    painted = console(drawn)
    painted.push_render_hook(Seen(painted))
    render(report, painted, _coloured(view, painted))
    if output.legend:
        painted.print()
        painted.print(drawn_part(terms(report.command)))
    for what, file in (("picture", output.picture), ("rows", output.csv), ("page", output.html)):
        if file is not None:
            painted.print(drawn_part(heading.file_beside(what, str(file))))
    drawing = drawn.getvalue()
    for each in finding(report):
        painted.print(drawn_part(each))
    draw(drawing, quiet=output.quiet, again=drawn.getvalue()[len(drawing) :])


def console(drawn: StringIO) -> Any:
    """A console that draws into a text what stdout can show: as wide, and in its colours."""
    from rich.console import Console

    terminal = Console(**appearance.settings())
    columns, lines = size()
    return Console(
        file=drawn,
        width=columns,
        height=lines,
        color_system=cast(Any, terminal.color_system),
        force_terminal=terminal.is_terminal,
        no_color=terminal.no_color,
        legacy_windows=terminal.legacy_windows,
        highlight=False,
    )


def show_plain(record: Any, output: Output, drawn: Callable[[], str]) -> None:
    """A record on stdout that is no report of a query: as JSON, or as it is drawn."""
    if output.json:
        write(_json(record) + b"\n")
    else:
        draw(drawn(), quiet=output.quiet)


def draw(drawing: str, *, quiet: bool = False, again: str = "") -> None:
    """A drawing on stdout, in a pager where it is longer than the terminal.

    Without a pager the end of a longer one is what is seen: there stands `again` what was found.
    """
    content = drawing.encode(encoding(current().stdout), ERRORS)
    try:
        if paging.show(drawing, content):
            return
    except paging.PagerError as error:
        if not quiet:
            complain(error.said(), "note")
    if paging.is_too_long(drawing):
        content += again.encode(encoding(current().stdout), ERRORS)
    write(content)


def say(text: str) -> None:
    """Write a text to stdout."""
    write(text.encode(encoding(current().stdout), ERRORS))


def _json(report: Report) -> bytes:
    """A report as JSON for stdout: a line for a program, indented for a person at a terminal."""
    from txinspect.as_json import to_json

    content = to_json(report)
    if not is_terminal(current().stdout):
        return content
    import msgspec

    return msgspec.json.format(content, indent=2)


def _coloured(view: object | None, console: Any) -> Any:
    """A report's view with the terminal's theme in place of auto, where it has one and stdout shows colours."""
    if getattr(view, "theme", None) != "auto" or console.color_system is None or console.no_color:
        return view
    from txinspect.cli.terminal import background

    return replace(cast(Any, view), theme=background())


def write(content: bytes) -> None:
    """Write bytes straight to stdout: a terminal's width never trims or wraps JSON.

    Raises InspectError if stdout cannot be written, and ends quietly where it is a closed pipe.
    """
    stdout = current().stdout
    if stdout is None:
        raise InspectError("standard output is closed: there is nowhere to write the report")
    try:
        stdout.buffer.write(content)
        stdout.buffer.flush()
    except BrokenPipeError:
        _close_stdout()
        raise typer.Exit(0) from None
    except OSError as error:
        _close_stdout()
        raise InspectError(f"standard output could not be written: {error.strerror}") from error


@contextmanager
def reserved() -> Iterator[None]:
    """While open, what anything writes to stdout goes to stderr, in other languages, too: stdout is the report's."""
    with redirect_stdout(current().stderr):
        try:
            held = os.dup(1)
            os.dup2(2, 1)
        except OSError:  # one of them is closed
            yield
            return
        try:
            yield
        finally:
            with suppress(OSError, AttributeError, ImportError):
                import ctypes

                ctypes.CDLL(None).fflush(None)  # what C's library still holds
            os.dup2(held, 1)
            os.close(held)


@contextmanager
def progress(output: Output) -> Iterator[Told]:
    """Show progress on stderr while something goes on; only on a terminal."""
    stderr = current().stderr
    if output.quiet or not is_terminal(stderr):
        yield Told()
        return
    from txinspect.cli.progress import Shown

    shown = Shown(stderr)
    try:
        yield Told(shown.notify, shown.progress)
    finally:
        shown.stop()


def complain(said: Said | str, tone: Tone = "error") -> None:
    """Complain on stderr: in one sentence, or in its parts where a person reads them on a terminal."""
    said = Said(said, said, None) if isinstance(said, str) else said
    coloured = appearance.is_coloured(current().stderr)
    # Typer's own way to stderr would write UTF-8 where the terminal is set to ASCII.
    if not is_terminal(current().stderr):
        sentence = f"txinspect: {_on_one_line(said.sentence)}"
        _to_stderr(typer.style(sentence, fg=_COLOURS[tone]) if coloured else sentence)
        return
    for label, text in ((tone, said.wrong), ("hint", said.hint)):
        if text is not None:
            lines = _wrapped(f"{label}: {_on_one_line(text)}").removeprefix(f"{label}:")
            _to_stderr((typer.style(f"{label}:", fg=_COLOURS[label]) if coloured else f"{label}:") + lines)


Tone = Literal["error", "note"]
"""What a complaint is about: something that could not be done, or something to know."""

_COLOURS = {"error": "red", "note": "yellow", "hint": "cyan"}


def _on_one_line(text: str) -> str:
    """A complaint on one line, without anything that a terminal would obey."""
    from txinspect.render.spelling import visible

    return visible(" ".join(text.split()))


def _wrapped(complaint: str) -> str:
    """A complaint in lines of the terminal's width; a word that is longer, such as a path, is left whole."""
    import textwrap

    indent = " " * (complaint.index(":") + 2)
    return textwrap.fill(complaint, size()[0], subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def trace(error: BaseException) -> None:
    """Write a traceback to stderr; what files and arguments put into it is shown, not obeyed."""
    from txinspect.render.spelling import visible

    lines = "".join(traceback.format_exception(error)).split("\n")
    _to_stderr("\n".join(map(visible, lines)), end="")


def _to_stderr(text: str, end: str = "\n") -> None:
    """Write a text to stderr, where there is one: the exit code says it, too."""
    stderr = current().stderr
    with suppress(OSError):
        if stderr is not None:  # for which print() would take stdout
            print(text, file=stderr, end=end)


def hint(sentence: str | None, output: Output) -> None:
    """Write a hint to stderr, which a person may want to know of the command line."""
    if sentence and not output.quiet:
        complain(sentence, "note")


def forget_impossible_sizes() -> None:
    """Take a width or height that no terminal has, such as COLUMNS=0, out of the environment: Rich would believe it."""
    variables = current().variables
    for name in ("COLUMNS", "LINES"):
        if not re.fullmatch("0*[1-9][0-9]*", variables.get(name, "1")):
            del variables[name]


def _close_stdout() -> None:
    """Point stdout nowhere, so that nothing more is written when the interpreter flushes it at exit."""
    stdout = current().stdout
    if stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
