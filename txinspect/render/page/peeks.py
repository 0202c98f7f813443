"""What a page says of a token or a cell when it is pointed at, and the shade that it stands on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from txinspect.records import VocabularyRecord
from txinspect.render.spelling import percent, visible, word

SHADES = 10
"""Shades of a page between never and certain."""


@dataclass(frozen=True)
class Peek:
    """Something with a text that says more when it is pointed at."""

    text: str
    shade: int
    what: str
    """What is said first, such as where it is."""
    top: str
    """Likely tokens and their probabilities: pairs, as JSON."""


def shade(probability: float | None) -> int:
    """The shade of a page for a probability: 0 where there is none."""
    if probability is None or probability != probability:
        return 0
    return min(SHADES - 1, int(probability * SHADES))


def top(likely: Sequence[VocabularyRecord]) -> str:
    """Likely tokens, records with a `prob`, as a page's peek says them."""
    return json.dumps([[visible(word(each)), percent(getattr(each, "prob", None))] for each in likely])
