"""A report's drawing as a picture: an SVG with nothing from a server in it, or a PNG made of that."""

from __future__ import annotations

import re
import zlib
from io import StringIO
from typing import Any, Literal

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from txinspect.commands.command import Theme
from txinspect.records import Report
from txinspect.render.terminal import render
from txinspect.render.terminal.glyphs import Seen

Suffix = Literal[".svg", ".png"]

WIDTH = 100
"""Columns of a picture where there is no terminal."""

ZOOM = 2
"""Pixels of a PNG for each of the SVG's."""

FONTS = "DejaVu Sans Mono, Menlo, Consolas, Liberation Mono, monospace"
"""Of letters, bars and box lines that are as wide as each other, what systems have."""

_ANSI = [
    *((40, 42, 54), (214, 69, 65), (38, 145, 90), (176, 136, 0), (52, 110, 200), (160, 70, 160), (0, 136, 150)),
    (190, 190, 190),
]
"""The eight colours of a terminal, readable on a dark and on a light ground."""

_THEMES: dict[str, TerminalTheme] = {
    "dark": TerminalTheme((24, 25, 33), (222, 224, 230), _ANSI),
    "light": TerminalTheme((255, 255, 255), (32, 34, 40), _ANSI),
}

_TEMPLATE = """<svg class="txinspect" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: FONTS; font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-family: sans-serif; font-size: 18px; font-weight: bold; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
""".replace("FONTS", FONTS)

MARK = b'<svg class="txinspect"'
"""How an SVG of ours begins."""

_SOFTWARE = b"Software\x00txinspect"
"""What a PNG of ours tells of itself, by the keyword that PNG has for it."""

_CREATOR = rb"/Creator \(txinspect\)"
"""What a PDF of ours tells of itself, as a pattern."""

END = 2**16
"""Bytes at the end of a PDF in which it tells that."""


def svg(report: Report, view: Any, *, width: int, theme: Theme = "dark", name: str = "t") -> str:
    """A report's drawing as an SVG, the same bytes each time; `name` tells several on one page apart."""
    console = Console(file=StringIO(), width=width, record=True, force_terminal=True, color_system="truecolor")
    console.push_render_hook(Seen(console))
    render(report, console, view)
    ground = _THEMES["light" if theme == "light" else "dark"]
    title = f"txinspect {report.command}"
    return console.export_svg(title=title, theme=ground, code_format=_TEMPLATE, unique_id=name)


def png(picture: str) -> bytes:
    """An SVG of ours as a PNG. Raises ImportError without the package that makes it."""
    import resvg_py  # type: ignore[import-not-found, unused-ignore]

    made = bytes(resvg_py.svg_to_bytes(svg_string=picture, zoom=ZOOM, monospace_family="DejaVu Sans Mono"))
    head = 8 + 25  # the signature, and the chunk that must come first
    return made[:head] + _chunk(b"tEXt", _SOFTWARE) + made[head:]


def is_ours(begin: bytes, end: bytes = b"") -> bool:
    """Whether the first and the last bytes of a file are those of a picture, or a figure, that txinspect drew."""
    return begin.startswith(MARK) or _SOFTWARE in begin[:100] or (begin.startswith(b"%PDF-") and _is_pdf_of_ours(end))


def _is_pdf_of_ours(end: bytes) -> bool:
    """Whether the end of a PDF says that txinspect made it: the trailer's Info, not that of a part of it."""
    found = re.search(rb"/Info (\d+) 0 R", end[end.rfind(b"\ntrailer") :])
    return found is not None and re.search(rb"\n%s 0 obj\s*<<[^>]*%s" % (found[1], _CREATOR), end) is not None


def _chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG: its length, kind, content and checksum."""
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
