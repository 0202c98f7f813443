"""A model from a stranger: what is damaged, what is asked of it, and what must be said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Damage = Callable[[Path], object]


@dataclass(frozen=True)
class Stranger:
    """A model that no one should trust, and what is said of it."""

    id: str
    arguments: tuple[str, ...]
    says: tuple[str, ...]
    """What the one sentence must hold; of a report, what stands in it."""
    damage: Damage
    """What is done to a good checkpoint, which is the model `model`."""
    apart: bool = False
    """Whether it needs a process of its own: it may hang, crash or write to file descriptors."""
    harmless: bool = False
    """Whether the report is shown all the same."""
    either: bool = False
    """Whether a sentence and a report are both right."""
