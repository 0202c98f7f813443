"""Two texts' tokens → which stand for each other."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

Pairs = list[tuple[int, int]]
"""Positions in one text, each with its position in the other, in order."""


def aligned(this: Sequence[int], other: Sequence[int]) -> Pairs:
    """The positions of two texts' tokens that are aligned, from their ids.

    Texts of as many tokens are aligned position by position. Of others, what both have is, and so is what stands in
    the place of as many tokens; what stands in the place of fewer or more is not: which for which, nobody knows.
    """
    if len(this) == len(other):
        return [(position, position) for position in range(len(this))]
    matcher = SequenceMatcher(None, this, other, autojunk=False)  # frequent tokens are tokens, too
    return [
        pair
        for _, start, end, other_start, other_end in matcher.get_opcodes()
        if end - start == other_end - other_start
        for pair in zip(range(start, end), range(other_start, other_end), strict=True)
    ]
