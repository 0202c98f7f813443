"""The names that are nearest to a mistyped one."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches


def nearest(name: str, names: Sequence[str], limit: int = 3, cutoff: float = 0.5) -> list[str]:
    """The names that look most like a mistyped one."""
    return get_close_matches(name, names, n=limit, cutoff=cutoff)
