"""Files beside the drawing: --picture, itself or a figure, --csv, its rows, and --html, a page."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from txinspect import opening
from txinspect.cli import appearance
from txinspect.cli.environment import current, is_terminal, width
from txinspect.commands.packed import PackedAttention
from txinspect.errors import InspectError, UsageError
from txinspect.records import Report
from txinspect.render.figures import FIGURES
from txinspect.writing import written_whole

PICTURES = (".svg", ".png")


def check_picture(file: Path, command: str, *, figure: bool = False) -> None:
    """Raise InspectError for a file that a picture cannot be written to, or is not to be, before any work is done."""
    if figure:
        _check_can_make_figure()
    elif file.suffix.lower() not in PICTURES:
        endings = ".svg, .png or .pdf" if command in FIGURES else ".svg or .png"
        raise UsageError(f"--picture {str(file)!r} is not a name that ends in {endings}, which decides the format")
    elif file.suffix.lower() == ".png":
        _check_can_make_png()
    _check_place(file)
    _check_is_ours(file)


def is_figure(file: Path | None, asked: bool, command: str, *, planned: bool) -> bool:
    """Whether a picture is a figure for a paper: a .pdf always is. Raises UsageError where there is none to draw."""
    if file is None:
        if asked:
            raise UsageError("--figure says how --picture is drawn", "add --picture FILE.pdf, .svg or .png, or omit it")
        return False
    suffix = file.suffix.lower()
    if not asked and suffix != ".pdf":
        return False
    if suffix not in (*PICTURES, ".pdf"):
        raise UsageError(
            f"--picture {str(file)!r} is not a name that ends in .pdf, .svg or .png, which decides the format"
        )
    if command not in FIGURES:
        which = f"{', '.join(FIGURES[:-1])} and {FIGURES[-1]}"
        raise UsageError(
            f"--picture {str(file)!r} is a figure for a paper, which {which} have and {command} has not",
            "give a name that ends in .svg or .png",
        )
    if planned:
        given = "--figure" if asked else f"--picture {str(file)!r}"
        raise UsageError(f"{given} and --dry-run cannot be combined: a plan has no figure", "omit one", by="; ")
    return True


def check_csv(file: Path) -> None:
    """Raise InspectError for a file that rows cannot be written to, before any work is done."""
    if file.suffix.lower() != ".csv":
        raise UsageError(f"--csv {str(file)!r} is not a name that ends in .csv")
    _check_place(file)


def check_html(file: Path) -> None:
    """Raise InspectError for a file that a page cannot be written to, or is not to be, before any work is done."""
    if file.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--html {str(file)!r} is not a name that ends in .html")
    _check_place(file)
    _check_is_our_page(file)


def write_picture(file: Path, report: Report, view: Any, *, figure: bool = False) -> None:
    """Write a report's drawing or figure, whole or not at all. Raises InspectError where that cannot be."""
    if figure:
        from txinspect.render import figures

        kind: Any = file.suffix.lower().removeprefix(".")
        _write(file, figures.figure(report, kind, view), lambda: _check_is_ours(file))
        return
    from txinspect.render.terminal import pictures

    theme: Any = getattr(view, "theme", "dark")
    if theme == "auto":
        view, theme = replace(view, theme="dark"), "dark"
    columns = width() if is_terminal(current().stdout) else pictures.WIDTH
    picture = pictures.svg(report, view, width=columns, theme=theme)
    content = pictures.png(picture) if file.suffix.lower() == ".png" else picture.encode()
    _write(file, content, lambda: _check_is_ours(file))


def write_csv(file: Path, report: Report) -> None:
    """Write a report's rows as CSV, whole or not at all. Raises InspectError where that cannot be, or is not to be.

    A file with the same columns is one of these rows, and is replaced.
    """
    from txinspect.render.content.rows import csv

    content = csv(report).encode()
    _write(file, content, lambda: _check_has_columns(file, content.split(b"\n", 1)[0]))


def write_html(file: Path, report: Report, attentions: Sequence[PackedAttention]) -> None:
    """Write a report as a page, whole or not at all. Raises InspectError where that cannot be."""
    from txinspect.render.page import Asked, page

    content = page(report, attentions, Asked(_command_line(), report.command))
    _write(file, content.encode("utf-8", "replace"), lambda: _check_is_our_page(file))


def _command_line() -> str:
    """The command line as a shell takes it, for a page to tell."""
    return shlex.join(["txinspect", *appearance.asked().line])


def show_in_browser(file: Path) -> None:
    """Show a page in a browser. Raises InspectError where there is none."""
    import webbrowser

    if not webbrowser.open(file.resolve().as_uri()):
        raise InspectError(f"{file} was written, and there is no browser to show it", "open it by hand")


def _write(file: Path, content: bytes, look_again: Callable[[], None]) -> None:
    look_again()
    try:
        with written_whole(file.resolve(), look_again) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise InspectError(f"{file} could not be written: {error.strerror or error}; nothing was saved") from error


def _check_place(file: Path) -> None:
    """Raise InspectError for a name that no file can be written to."""
    if file.is_dir():
        raise InspectError(f"{file} is a directory", "give the name of a file in it")
    if not file.resolve().parent.is_dir():
        raise InspectError(f"{file} cannot be written", f"there is no directory {file.parent}")
    if file.exists():
        opening.check(file, None, advice="give the name of one to write")


def _check_has_columns(file: Path, names: bytes) -> None:
    """Raise InspectError for a file that is there and has other columns than rows of ours."""
    if not file.exists():
        return
    with file.open("rb") as stream:
        if stream.readline(len(names) + 2).rstrip(b"\r\n") != names:
            raise InspectError(f"{file} is there and holds no such rows", "give another name, or remove it")


def _check_is_ours(file: Path) -> None:
    """Raise InspectError for a file that is there and is no picture of ours."""
    from txinspect.render.terminal import pictures

    if not file.exists():
        return
    with file.open("rb") as stream:
        begin = stream.read(200)
        stream.seek(max(0, file.stat().st_size - pictures.END))
        if not pictures.is_ours(begin, stream.read()):
            raise InspectError(f"{file} is there and is no picture of txinspect", "give another name, or remove it")


def _check_is_our_page(file: Path) -> None:
    """Raise InspectError for a file that is there and is no page of ours."""
    from txinspect.render.page import is_ours

    if not file.exists():
        return
    with file.open("rb") as stream:
        if not is_ours(stream.read(200)):
            raise InspectError(f"{file} is there and is no page of txinspect", "give another name, or remove it")


def _check_can_make_figure() -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise InspectError(
            "a figure needs the package matplotlib",
            "install it ('pip install txinspect[figures]'), or give a name with .svg without --figure",
        )


def _check_can_make_png() -> None:
    from importlib.util import find_spec

    if find_spec("resvg_py") is None:
        raise InspectError(
            "a .png needs the package resvg_py",
            "install it ('pip install txinspect[pictures]'), or give a name with .svg",
        )
