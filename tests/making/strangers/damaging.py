"""Ways to damage a file of a model, whatever kind of file it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.making.checkpoints import keep
from tests.making.strangers.stranger import Damage

EFFECT = Path("it ran")
"""What code from a stranger would leave behind in the working directory."""


def write(name: str, content: str | bytes) -> Damage:
    """Write a file of the model anew."""
    raw = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(raw)


def change_json(name: str, change: Callable[[Any], object]) -> Damage:
    """Change a JSON file of the model in place."""

    def damage(folder: Path) -> None:
        file = folder / name
        content = json.loads(file.read_text()) if file.exists() else {}
        change(content)
        file.write_text(json.dumps(content))

    return damage


def all_of(*damages: Damage) -> Damage:
    """Damage a model in several ways, one after another."""

    def damage(folder: Path) -> None:
        for each in damages:
            each(folder)

    return damage


def cut(name: str, share: float) -> Damage:
    """Cut a file off after a share of it."""
    return lambda folder: keep(folder / name, share)


def gone(name: str) -> Damage:
    """Take a file away."""
    return lambda folder: (folder / name).unlink()


def replaced(file: Path, old: bytes, new: bytes) -> None:
    """Replace bytes that a file holds."""
    content = file.read_bytes()
    assert old in content
    file.write_bytes(content.replace(old, new))


def recoded(file: Path, encoding: str) -> None:
    """Write a file in another encoding."""
    file.write_text(file.read_text(), encoding=encoding)


NO_OBJECTS = (("a list", "[1, 2]"), ("null", "null"), ("a number", "5"), ("a string", '"x"'))
"""JSON that is no object: what it is, and its text."""
