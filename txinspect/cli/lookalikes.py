"""ASCII look-alikes of what is drawn, of the same width, for a terminal or a file whose encoding lacks it."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from io import TextIOWrapper

from txinspect.cli.environment import current

ERRORS = "txinspect.lookalikes"
"""What encoding is told to do with what it cannot encode: the name for `str.encode(…, errors)`."""

_PAIRS = (
    ("░▒▓█", ":+%#"),  # shades of a heatmap: of four different weights, each darker than the one before
    ("▁▂▃▄▅▆▇", "_.-=+*%"),  # bars; SentencePiece's tokens begin with the lowest
    ("▏▎▍▌▋▊▉", ".:-=+*%"),  # ends of bars, in eighths
    ("▀▐", "^="),
    ("–—…·•", "--~.*"),
    ("×±≥≤≠≈∞ᵀ", "x+><!~8T"),
    ("σΔ₁‖", "sd1|"),
    ("→←↑↓", "><^v"),
    ("⊕▼▶◇", "+v>o"),  # of diagrams
    ("−", "-"),
    ("␣↵⇥", "_$>"),
    ("‘’“”", "''\"\""),
    ("─━═╌╍┄┅┈┉╴╶╸╺╼╾", "-" * 15),
    ("│┃║╎╏┆┇┊┋╵╷╹╻╽╿", "|" * 15),
)
"""What is drawn, and its look-alikes. No question mark: in a heatmap it is a weight that is not a number."""


def _corners_and_pictures() -> Iterator[tuple[str, str]]:
    """Look-alikes of box lines that meet, a plus; of pictures of controls and a spinner's frames, one sign each."""
    yield from ((chr(code), "+") for code in range(0x2500, 0x2580))
    yield from ((chr(code), "^") for code in range(0x2400, 0x2422))
    yield from ((chr(code), "*") for code in range(0x2800, 0x2900))


_LOOKALIKES = dict(_corners_and_pictures()) | {
    one: other for drawn, ascii in _PAIRS for one, other in zip(drawn, ascii, strict=True)
}


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """The error handler that writes ASCII look-alikes, as many columns, for characters that cannot be encoded."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_lookalike, error.object[error.start : error.end])), error.end


def _lookalike(character: str) -> str:
    """A character's ASCII look-alike, or a question mark for each column of any other."""
    if character in _LOOKALIKES:
        return _LOOKALIKES[character]
    from rich.cells import cell_len

    return "?" * cell_len(character)


codecs.register_error(ERRORS, _in_ascii)


def use_lookalikes() -> None:
    """Write look-alikes on stdout and stderr, so that nothing said there fails for want of a character."""
    here = current()
    for stream in (here.stdout, here.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=ERRORS)
