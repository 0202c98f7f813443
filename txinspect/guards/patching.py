"""The one way in which something of another package is changed while something of ours runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

_LOCK = RLock()
"""Held while anything is patched: a process may answer several questions, and a patch is seen by all of them."""

_ABSENT = object()


@contextmanager
def patched(owner: object, name: str, value: object) -> Iterator[None]:
    """While open, an attribute of a module, class or object is patched; afterwards it has what it had before."""
    with _LOCK:
        # An attribute that a class inherits is hidden, not replaced: it must not be left behind as the class's own.
        before = vars(owner).get(name, _ABSENT)
        setattr(owner, name, value)
        try:
            yield
        finally:
            if before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
