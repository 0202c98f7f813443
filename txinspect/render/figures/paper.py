"""What all figures are drawn on: a column or a page of a paper, its letters, cells of colour, and the file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import ceil, isnan
from typing import TYPE_CHECKING, Any

from txinspect.render.spelling import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

COLUMN, PAGE, TALLEST = 3.35, 6.9, 9.0
"""Inches: how wide a column of a paper and both of them are, and how high a figure is at most."""

LETTER, LINE = 0.052, 0.1
"""Inches that a small letter is wide on average, and that a line of them needs."""

FONT = "DejaVu Sans"
"""The font that comes with matplotlib: figures are the same on every machine."""

SMALL = 6.0
"""Points of the smallest letters."""

SIGNED = "RdBu_r"
"""Colours of numbers that may be below zero: white is zero."""

RASTERED = 20_000
"""Cells in a figure from which on they are one picture in it, and not a shape each."""

STYLE: dict[str, Any] = {
    "font.family": ["sans-serif"],
    "font.sans-serif": [FONT],
    "font.size": 7.0,
    "axes.titlesize": 7.0,
    "axes.labelsize": 7.0,
    "figure.titlesize": 7.0,
    "figure.labelsize": 7.0,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "axes.linewidth": 0.5,
    "axes.titlepad": 3.0,
    "axes.labelpad": 2.0,
    **{
        f"{axis}tick.{kind}.{what}": size
        for axis in "xy"
        for kind, what, size in (
            ("major", "width", 0.5),
            ("minor", "width", 0.3),
            ("major", "size", 2.0),
            ("minor", "size", 1.2),
            ("major", "pad", 1.5),
        )
    },
    "lines.linewidth": 0.9,
    "lines.markersize": 2.5,
    "image.cmap": "viridis",
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "none",
    "svg.hashsalt": "txinspect",  # ids are the same each time
    "text.parse_math": False,  # a token such as $x$ is no formula
}

METADATA: dict[str, dict[str, str | None]] = {
    "pdf": {"Creator": "txinspect", "Producer": None, "CreationDate": None},
    "svg": dict.fromkeys(("Creator", "Date", "Format", "Type")),
    "png": {"Software": "txinspect"},
}
"""What a file tells of itself: by whom it is, and not when it was made."""


@contextmanager
def style() -> Iterator[None]:
    """While open, matplotlib draws as a paper wants it, whatever its own files say; nothing is said on stderr."""
    import matplotlib

    windows = ("backend", "interactive", "toolbar", "webagg", "tk.", "macosx")
    plain: dict[Any, Any] = {
        name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith(windows)
    }
    logger = logging.getLogger("matplotlib")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), matplotlib.rc_context():
            warnings.simplefilter("ignore")
            matplotlib.rcParams.update(plain | STYLE)
            yield
    finally:
        logger.setLevel(before)


@dataclass(frozen=True)
class Letters:
    """The letters that a file can show: those of the font, or any where whoever opens it brings fonts."""

    known: frozenset[int] | None
    """Code points; None for any."""

    @classmethod
    def of(cls, kind: str) -> Letters:
        """The letters that a file of a kind can show: an SVG, any."""
        from matplotlib.font_manager import findfont, get_font

        return cls(None if kind == "svg" else frozenset(get_font(findfont(FONT)).get_charmap()))

    def of_text(self, text: str, most: int = 14) -> str:
        """A text that is spelled visibly, without letters that would be boxes, and shortened to so many."""
        parts = [self._spelled(each) for each in text[: most + 1]]
        if sum(map(len, parts)) <= most:
            return "".join(parts)
        while len(parts) > 1 and sum(map(len, parts)) >= most:
            parts.pop()
        return "".join(parts) + "…"

    def _spelled(self, letter: str) -> str:
        """A letter as a figure shows it, or its number."""
        return letter if self.known is None or ord(letter) in self.known else f"\\u{{{ord(letter):x}}}"

    def of_name(self, name: str, most: int = 26) -> str:
        """A dotted name as `of_text` has a text; of a long one the end."""
        return self.of_text(name if len(name) <= most else f"…{name[1 - most :]}", most)


def sheet(width: float, height: float) -> Figure:
    """A figure so many inches wide and high, at most as high as a page."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    class Rounded(ConstrainedLayoutEngine):
        """A layout whose last digits, which differ each time with the order of addresses, are rounded away."""

        def execute(self, fig: Any) -> None:
            """Place what is on a figure, in steps of a 100,000th of it."""
            super().execute(fig)
            for axes in fig.axes:
                axes.set_position([round(each, 5) for each in axes.get_position(original=True).bounds])
                axes.set_in_layout(True)  # which a place that is set ends
            for text in fig.texts:
                text.set_position([round(each, 5) for each in text.get_position()])

    return Figure(figsize=(width, min(height, TALLEST)), layout=Rounded())


def heat(axes: Axes, values: Sequence[Sequence[float | None]], **colours: Any) -> QuadMesh:
    """Draw numbers as coloured cells, the first row on top; axes: row, column. None is left blank."""
    numbers = [[float("nan") if each is None else each for each in row] for row in values]
    many = len(numbers) * len(numbers[0]) > RASTERED
    mesh = axes.pcolormesh(numbers, rasterized=many, **colours)
    axes.set_xlim(0, len(numbers[0]))
    axes.set_ylim(len(numbers), 0)
    axes.tick_params(length=0)
    return mesh


def name(axis: Axis, names: Sequence[str], room: float, **look: Any) -> None:
    """Write names at the cells of an axis; only every so many where an axis of so many inches has no room for all."""
    beside = axis is axis.axes.xaxis and "rotation" not in look
    needed = max(LINE, max(map(len, names)) * LETTER + 0.05) if beside else LINE
    step = max(1, ceil(len(names) * needed / room))
    axis.set_ticks([place + 0.5 for place in range(0, len(names), step)], labels=list(names[::step]), **look)


def colour_bar(figure: Figure, mesh: Any, axes: Any, what: str, **look: Any) -> None:
    """Draw what the colours of cells mean, on the right of all of their axes."""
    figure.set_figheight(max(figure.get_figheight(), len(what) * LETTER * 1.25 + 0.2))
    narrow = figure.get_figheight() * 0.8 / 0.08
    bar = figure.colorbar(mesh, ax=axes, label=what, pad=0.02, fraction=0.06, aspect=narrow, format=plain, **look)
    bar.ax.minorticks_off()
    bar.ax.spines[:].set_linewidth(0.5)


def logarithmic(axis: Axis, values: Sequence[float], floor: float) -> None:
    """Make an axis logarithmic, with numbers at 1, 2 and 5; without values from the floor to 1."""
    from matplotlib.ticker import LogLocator, NullFormatter

    (axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale)("log")
    low, high = (min(values), max(values)) if values else (floor, 1.0)
    axis.set_view_interval(low / 1.3, high * 1.3, ignore=True)
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 50 else (1.0,)))
    axis.set_major_formatter(plain)
    axis.set_minor_formatter(NullFormatter())


def plain(value: float, _: object = None) -> str:
    """A number on an axis, without a formula."""
    from matplotlib.ticker import Formatter

    return Formatter.fix_minus(number(round(value, 12), 3))


def ink(mesh: QuadMesh, value: float | None) -> str:
    """The colour of letters that are read on a cell of that number (luma of ITU-R BT.601)."""
    if value is None or isnan(value):
        return "black"
    red, green, blue, _ = mesh.to_rgba([value])[0]  # type: ignore[arg-type]
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def nothing(what: str) -> Figure:
    """A figure of a report that has no numbers for one: it says so."""
    figure = sheet(COLUMN, 0.6)
    figure.text(0.5, 0.5, what, ha="center", va="center")
    return figure


def saved(figure: Figure, kind: str) -> bytes:
    """A figure as a file of a kind, with nothing from a server in it."""
    made = BytesIO()
    figure.savefig(made, format=kind, metadata=METADATA[kind])
    content = made.getvalue()
    if kind != "svg":
        return content
    _, _, svg = content.partition(b"<svg ")  # before it stands a type that is on a server
    return b'<svg class="txinspect" ' + svg
