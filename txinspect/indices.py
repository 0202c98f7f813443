"""Indices among several, such as layers or heads: negative ones count from the end."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from txinspect.errors import UsageError, spelled
from txinspect.wording import shown

MOST = 1_000_000
"""The largest index that is taken for one: a range up to it is written out."""

LONGEST = 40
"""Letters of a number, or of two with a dash between them."""

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


def read_indices(values: Sequence[str], field: str) -> tuple[int, ...] | None:
    """The positions that a repeatable option such as --head 0,2-3 names; None for all of them.

    Negative ones count from the end, -1 being the last; which they are, only the model or the text can tell. Raises
    UsageError, about the field of the query, for anything else.
    """
    typed = ",".join(values)
    if not values or typed.strip().lower() == "all":
        return None
    found: set[int] = set()
    for part in typed.split(","):
        match = re.fullmatch(r"\s*(-?[0-9]+)(?:\s*-\s*(-?[0-9]+))?\s*", part)
        if match is not None and len(part) > LONGEST:
            raise UsageError(f"{spelled(field)} {shown(part.strip())} is out of range: no model has so many")
        if match is None:
            raise UsageError(
                f"{spelled(field)} {typed!r} is not a list of indices",
                "give some such as 0,2-3, -1 for the last, or all",
            )
        low, high = int(match[1]), int(match[2] or match[1])
        if max(abs(low), abs(high)) > MOST:
            raise UsageError(f"{spelled(field)} {part.strip()} is out of range: no model has so many")
        if (low < 0) != (high < 0):
            raise UsageError(f"{spelled(field)} {part.strip()} counts from both ends", "give both from the same one")
        if high < low:
            raise UsageError(
                f"{spelled(field)} {part.strip()} runs backwards", f"write the smaller index first, as in {high}-{low}"
            )
        found |= set(range(low, high + 1))
    return tuple(sorted(found))
