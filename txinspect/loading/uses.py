"""Which modules' weights a pass uses."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from txinspect.loading.subject import Subject


@dataclass(frozen=True)
class Uses:
    """Which modules' weights a pass uses, as far as that is known before it."""

    modules: Mapping[str, bool]
    """By the dotted path of every module, as configured and as loaded: whether the pass uses its own weights."""
    guessed_because: str | None
    """Why more modules may count than are used; None if all are known."""


def of_modules(subject: Subject, used: Collection[str], guessed_because: str | None = None) -> Uses:
    """The uses of a pass: these modules, by their paths, and what quantizing or an adapter adds to them."""
    found = {path: path in used for path, _ in subject.as_configured.named_modules()}
    for path, _ in subject.as_loaded.named_modules():
        found.setdefault(path, found.get(path.rpartition(".")[0], True))
    return Uses(found, guessed_because)


def of_all_modules(subject: Subject, reason: str | None = None) -> Uses:
    """The uses of a pass that takes the weights of all modules."""
    return of_modules(subject, {path for path, _ in subject.as_configured.named_modules()}, reason)
