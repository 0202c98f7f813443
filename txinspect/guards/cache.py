"""What is kept from one run to the next in the user's cache directory: it costs time when it is gone, nothing else."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from txinspect.writing import written_whole


def cached_at(*parts: str) -> Path | None:
    """Where something is cached, in TXINSPECT_CACHE, else the platform's folder for caches; None where none is."""
    from platformdirs import user_cache_path

    try:
        folder = Path(os.environ.get("TXINSPECT_CACHE") or user_cache_path("txinspect"))
    except RuntimeError:  # a user without a home
        return None
    return folder.joinpath(*parts)


def writable_cache(name: str) -> Path | None:
    """A folder of the user's cache, made if need be; None where it cannot be: a cache is optional."""
    folder = cached_at(name)
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder


def read_cached(path: Path | None) -> bytes | None:
    """The content of a cache file; None if there is none, or a damaged one."""
    if path is None:
        return None
    try:
        checksum, _, content = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest().encode() == checksum else None


def write_cached(path: Path | None, content: bytes) -> None:
    """Write content to the cache under its checksum. What cannot be written costs time next time, nothing else."""
    if path is None:
        return
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as partial:
            partial.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
