"""Indices among several, such as layers or heads: negative ones count from the end."""

from __future__ import annotations

from collections.abc import Callable

Layers = int | tuple[int, ...] | None
"""One layer, several, or None for all; negative ones count from the end."""


def from_start(asked: Layers, count: int, wrong: Callable[[int], Exception]) -> tuple[int, ...]:
    """Indices among `count`, negative ones counted from the end, as indices from the start: sorted, once each.

    One, several, or None for all. Raises what `wrong` makes of the first that is out of range.
    """
    asked = tuple(range(count)) if asked is None else (asked,) if isinstance(asked, int) else asked
    beyond = [index for index in asked if not -count <= index < count]
    if beyond:
        raise wrong(beyond[0])
    return tuple(sorted({index % count for index in asked}))
