"""The package gguf, which reads a file and makes its table of names again and again: here it does each once."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from txinspect.guards.patching import patched


@contextmanager
def remembered(path: Path | None = None, wanted: Collection[str] | None = None) -> Iterator[None]:
    """While open, the package gguf reads a .gguf file once, and of `path` shows only the tensors that are wanted.

    Its reader takes seconds over a vocabulary and its table of names as long over a model's modules; transformers asks
    for both again and again.
    """
    import gguf

    reader, names = gguf.GGUFReader, gguf.get_tensor_name_map

    def read(file: Any, *_: Any) -> Any:
        whole = _reader(reader, str(file), Path(file).stat().st_mtime_ns)
        if wanted is None or Path(file) != path:
            return whole
        return SimpleNamespace(fields=whole.fields, tensors=[each for each in whole.tensors if each.name in wanted])

    with patched(gguf, "GGUFReader", read), patched(gguf, "get_tensor_name_map", _name_map(names)):
        yield


@lru_cache(maxsize=1)  # a reader maps its file: one is enough for a process that lives on
def _reader(kind: Any, path: str, _changed: int) -> Any:
    return kind(path)


@cache
def _name_map(names: Any) -> Any:
    return cache(names)
