"""Positions → blocks of positions, where there are more of them than a map has columns."""

from __future__ import annotations

from collections.abc import Collection

Block = tuple[int, int]
"""The first and the last position of a block."""


def blocks(count: int, most: int, own: Collection[int] = ()) -> list[Block]:
    """At most `most` blocks of neighbouring positions, in order, that cover all; one position each where they fit.

    A position in `own` has a block of its own, as far as half of the blocks go; the others are in blocks of one size,
    but for the rest before a position of its own.
    """
    if count <= most:
        return [(position, position) for position in range(count)]
    kept = sorted(position for position in list(dict.fromkeys(own))[: most // 2] if 0 <= position < count)
    gaps, start = list[Block](), 0
    for position in (*kept, count):
        gaps.append((start, position))
        start = position + 1
    size = -(-(count - len(kept)) // (most - len(kept)))  # or more, since each gap has a rest
    while len(kept) + sum(-(-(end - start) // size) for start, end in gaps) > most:
        size += 1
    found = [(first, min(first + size, end) - 1) for start, end in gaps for first in range(start, end, size)]
    return sorted(found + [(position, position) for position in kept])
