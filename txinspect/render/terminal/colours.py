"""The colours between nothing and the most, on a dark and on a light background; shades where there are none."""

from __future__ import annotations

from math import isfinite

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from txinspect.commands.command import Theme

_GRADIENTS = {
    "dark": ((43, 43, 66), (84, 39, 125), (158, 47, 127), (222, 73, 104), (254, 159, 109), (252, 253, 191)),
    "light": ((226, 228, 238), (253, 190, 140), (229, 89, 100), (158, 47, 127), (84, 39, 125), (20, 14, 54)),
}
"""From zero to the most, evenly in lightness, after matplotlib's magma; zero differs from either background."""

_BELOW = {"dark": (86, 180, 255), "light": (32, 96, 190)}
_ABOVE = {"dark": (254, 159, 109), "light": (214, 90, 60)}
"""Where colours part at zero: minus one and one. In between they go by the gradient's own zero."""

_SHADES = "·░▒▓█"
"""Without colours: below 0.05 of the most, then one for each quarter. What is masked is blank."""

_LEAST = ("0", ".05", ".25", ".5", ".75")
"""From where on each sign stands."""

NO_NUMBER = "?"


def has_colours(console: Console) -> bool:
    """Whether a console shows a gradient of colours."""
    return console.color_system in ("256", "truecolor") and not console.no_color


def colour(part: float, theme: Theme) -> Color:
    """The gradient's colour at a part between 0 and 1."""
    gradient = _GRADIENTS["light" if theme == "light" else "dark"]
    position = min(max(part, 0.0), 1.0) * (len(gradient) - 1)
    index = min(int(position), len(gradient) - 2)
    low, high = gradient[index], gradient[index + 1]
    red, green, blue = (round(a + (b - a) * (position - index)) for a, b in zip(low, high, strict=True))
    return Color.from_rgb(red, green, blue)


def parting(value: float, theme: Theme) -> Color:
    """The colour of a number between -1 and 1, of which the two signs are two colours and zero is next to neither."""
    key = "light" if theme == "light" else "dark"
    share = min(abs(value), 1.0)
    ends = zip(_GRADIENTS[key][0], (_BELOW if value < 0 else _ABOVE)[key], strict=True)
    red, green, blue = (round(zero + (end - zero) * share) for zero, end in ends)
    return Color.from_rgb(red, green, blue)


def is_bright(ground: Color) -> bool:
    """Whether dark letters are read better on a colour of the gradient (luma of ITU-R BT.601)."""
    red, green, blue = ground.get_truecolor()
    return 0.299 * red + 0.587 * green + 0.114 * blue > 140


def shade(part: float) -> str:
    """The shade for a part between 0 and 1, where there are no colours."""
    return _SHADES[0] if part < 0.05 else _SHADES[min(4, 1 + int(part * 4))]


def cell(part: float | None, width: int, theme: Theme | None) -> Text:
    """A coloured cell of so many columns for a part between 0 and 1; blank for None; in shades without a theme."""
    if part is None:
        return Text(" " * width)
    if not isfinite(part):
        return Text(NO_NUMBER * width, style="bold red")
    if theme is None:
        return Text(shade(part) * width)
    return Text(" " * width, style=Style(bgcolor=colour(part, theme)))


def on_colour(text: str, part: float, theme: Theme) -> Text:
    """Letters that can be read on the colour of a part between 0 and 1: a terminal's white may be grey."""
    return on_ground(text, colour(part, theme))


def on_ground(text: str, ground: Color) -> Text:
    """Letters that can be read on a colour."""
    return Text(text, style=Style(color="#000000" if is_bright(ground) else "#ffffff", bgcolor=ground, bold=False))


def halves(upper: float | None, lower: float | None, theme: Theme) -> Text:
    """Two colours in one column of a terminal, the upper one in its upper half."""
    if (upper is not None and not isfinite(upper)) or (lower is not None and not isfinite(lower)):
        return Text(NO_NUMBER, style="bold red")
    if upper is None and lower is None:
        return Text(" ")
    if upper is None:
        return Text("▄", style=Style(color=colour(lower or 0.0, theme)))
    below = None if lower is None else colour(lower, theme)
    return Text("▀", style=Style(color=colour(upper, theme), bgcolor=below))


def legend(theme: Theme | None, most: str = "1") -> Text:
    """The legend of the colours: the scale from nothing to the most, of which the shades' signs are parts."""
    if theme is None:
        return Text("  ".join(f"{sign} {least}" for sign, least in zip(_SHADES, _LEAST, strict=True)))
    text = Text("0 ")
    for step in range(11):
        text.append_text(cell(step / 10, 1, theme))
    return text.append(f" {most}")
