"""Which tokens of two texts stand for each other."""

from __future__ import annotations

import random

import pytest

from txinspect.texts.aligning import Pairs, aligned


@pytest.mark.parametrize(
    ("this", "other", "pairs"),
    [
        ("", "", []),
        ("abc", "xyz", [(0, 0), (1, 1), (2, 2)]),
        ("abc", "bcd", [(0, 0), (1, 1), (2, 2)]),
        ("abcd", "bcd", [(1, 0), (2, 1), (3, 2)]),
        ("abcd", "abxcd", [(0, 0), (1, 1), (2, 3), (3, 4)]),
        ("abcd", "abc", [(0, 0), (1, 1), (2, 2)]),
        ("abcd", "axxxcd", [(0, 0), (2, 4), (3, 5)]),
        ("abcde", "axcd", [(0, 0), (1, 1), (2, 2), (3, 3)]),
        ("abc", "wxyz", []),
        ("abc", "", []),
    ],
    ids=["none", "all other", "as many", "start", "middle", "end", "more for one", "one for one", "nothing", "empty"],
)
def test_alignment(this: str, other: str, pairs: Pairs) -> None:
    assert aligned([*map(ord, this)], [*map(ord, other)]) == pairs
    if len(this) != len(other) or this == other:
        assert aligned([*map(ord, other)], [*map(ord, this)]) == [(right, left) for left, right in pairs]


def test_what_is_aligned_is_in_order_and_no_token_twice() -> None:
    drawing = random.Random(0)
    for _ in range(300):
        this, other = ([drawing.randrange(6) for _ in range(drawing.randrange(30))] for _ in range(2))
        pairs = aligned(this, other)
        for side, ids in enumerate((this, other)):
            positions = [pair[side] for pair in pairs]
            assert positions == sorted(set(positions))
            assert all(0 <= position < len(ids) for position in positions)


def test_frequent_tokens_are_tokens_too() -> None:
    """difflib leaves out, by itself, what is a hundredth of more than two hundred."""
    this = [1, 2] * 300
    assert aligned(this, [9, *this]) == [(position, position + 1) for position in range(600)]
