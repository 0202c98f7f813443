"""--picture FILE: where a drawing is to be written as a picture, and the writing of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from txinspect import opening
from txinspect.cli.environment import current, is_terminal, width
from txinspect.errors import InspectError, UsageError
from txinspect.records import Report
from txinspect.writing import written_whole

SUFFIXES = (".svg", ".png")


def check(file: Path) -> None:
    """Raise InspectError for a file that a picture cannot be written to, or is not to be, before any work is done."""
    if file.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--picture {str(file)!r} is not a name that ends in .svg or .png, which decides the format")
    if file.suffix.lower() == ".png":
        _check_can_make_png()
    if file.is_dir():
        raise InspectError(f"{file} is a directory", "give the name of a file in it")
    if not file.resolve().parent.is_dir():
        raise InspectError(f"{file} cannot be written", f"there is no directory {file.parent}")
    _check_is_ours(file)


def write(file: Path, report: Report, view: Any) -> None:
    """Write a report's drawing as a picture, whole or not at all. Raises InspectError where that cannot be."""
    from txinspect.render.terminal import pictures

    theme: Any = getattr(view, "theme", "dark")
    if theme == "auto":
        view, theme = replace(view, theme="dark"), "dark"
    columns = width() if is_terminal(current().stdout) else pictures.WIDTH
    picture = pictures.svg(report, view, width=columns, theme=theme)
    content = pictures.png(picture) if file.suffix.lower() == ".png" else picture.encode()
    try:
        with written_whole(file.resolve(), lambda: _check_is_ours(file)) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise InspectError(f"{file} could not be written: {error.strerror or error}; nothing was saved") from error


def _check_is_ours(file: Path) -> None:
    """Raise InspectError for a file that is there and is no picture of ours."""
    from txinspect.render.terminal import pictures

    if not file.exists():
        return
    opening.check(file, None, advice="give the name of one to write")
    with file.open("rb") as stream:
        if not pictures.is_ours(stream.read(200)):
            raise InspectError(f"{file} is there and is no picture of txinspect", "give another name, or remove it")


def _check_can_make_png() -> None:
    from importlib.util import find_spec

    if find_spec("resvg_py") is None:
        raise InspectError(
            "a .png needs the package resvg_py",
            "install it ('pip install txinspect[pictures]'), or give a name with .svg",
        )
