"""What loading did cost: a line under every report of a pass."""

from __future__ import annotations

from pathlib import PurePath

from rich.text import Text

from txinspect.records import LoadingRecord
from txinspect.render.spelling import known_bytes
from txinspect.render.terminal.glyphs import plain
from txinspect.wording import short_bytes


def line(loading: LoadingRecord) -> Text:
    """What was read, in a line."""
    size = sum(file.bytes or 0 for file in loading.files)
    files = PurePath(loading.files[0].path).name if len(loading.files) == 1 else f"{len(loading.files)} files"
    kept = ", mapped" if loading.mapped else f" · {short_bytes(loading.memory_bytes)} of weights in memory"
    return plain(f"read {known_bytes(loading.disk_bytes)} of {short_bytes(size)} in {files}{kept}", "dim")
