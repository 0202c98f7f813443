"""Which of the sinusoids in use a table of positions is, and how far it is from the formula."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from txinspect.commands.pos import LAYOUTS, Layout

if TYPE_CHECKING:
    from torch import Tensor

OFFSETS = (0, 1, 2)
"""Positions that the first token may be at: fairseq's tables begin after the padding's row."""

ROUNDINGS = 4
"""Units in the last place of the type, near 1, that a table may be off: float32 angles are rounded, too."""

BASE = 10_000.0


@dataclass(frozen=True)
class Sinusoids:
    """A table of sinusoids."""

    layout: Layout
    first: int
    """The position of the first row."""
    off: float
    """The largest difference from the formula."""


def formula(layout: Layout, first: int, count: int, width: int) -> Tensor:
    """Sinusoids by the formula, of `count` positions from `first` on: (position, width), in float64.

    Vaswani et al. 2017, section 3.5; width is even.
    """
    import torch

    half = torch.arange(width // 2, dtype=torch.float64)
    exponents = half / max(1, width // 2 - 1) if layout == "fairseq" else 2 * half / width
    angles = torch.arange(first, first + count, dtype=torch.float64)[:, None] / BASE**exponents
    parts = angles.sin(), angles.cos()
    return torch.stack(parts, -1).flatten(1) if layout == "interleaved" else torch.cat(parts, -1)


def recognised(table: Tensor) -> Sinusoids | None:
    """Which sinusoids a table's rows are, (position, width); None where they are none, or cannot be told apart."""
    import torch

    count, width = table.shape
    if width % 2 or width < 4 or not table.is_floating_point():
        return None
    exact = table.detach().to("cpu", torch.float64)
    tolerance = max(ROUNDINGS * torch.finfo(table.dtype).eps, 1e-6 * (count + max(OFFSETS)))
    found = [
        Sinusoids(layout, first, float((exact - formula(layout, first, count, width)).abs().max()))
        for layout in LAYOUTS
        for first in OFFSETS
    ]
    near: list[Any] = [each for each in found if each.off <= tolerance]
    return near[0] if len(near) == 1 else None
