"""The fast tokenizer that transformers makes of a model's files, kept in the cache under what decides it."""

from __future__ import annotations

import hashlib
import os
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from txinspect import opening
from txinspect.guards.cache import read_cached, write_cached
from txinspect.sources.names import CONFIG_FILES, TOKENIZER_FILES
from txinspect.sources.source import Source

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def digest(folder: Path, source: Source) -> str:
    """A digest of everything that decides the kept tokenizer: its files and the libraries' versions."""
    found = hashlib.sha256(f"{version('transformers')} {version('tokenizers')}".encode())
    found.update(source.place.settings() or b"")
    for name in deciding_files(source, folder):
        content = source.files.read(folder / name, opening.VOCABULARY, f"{name} of {source.name!r}")
        found.update(f"\n{name} {len(content)}\n".encode("utf-8", "surrogateescape") + content)
    return found.hexdigest()


def deciding_files(source: Source, folder: Path) -> list[str]:
    """The files that decide the kept tokenizer, links that lead nowhere among them; none for a .gguf file."""
    if source.is_one_file:
        return []
    patterns = CONFIG_FILES + TOKENIZER_FILES
    return sorted(name for name in os.listdir(folder) if any(fnmatch(name, each) for each in patterns))  # noqa: PTH208


def read_kept(path: Path | None) -> Tokenizer | None:
    """The tokenizer kept in a cache file; None if there is none, or a damaged one."""
    from tokenizers import Tokenizer

    content = read_cached(path)
    try:
        return Tokenizer.from_buffer(content) if content is not None else None
    except ValueError:
        return None


def keep(path: Path | None, backend: Tokenizer) -> None:
    """Keep a fast tokenizer in the cache."""
    write_cached(path, backend.to_str().encode())
