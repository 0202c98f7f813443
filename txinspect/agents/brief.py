"""A report cut to what an agent can read, with a sentence that says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from txinspect.wording import some_of

MOST = 40_000
"""Characters of a report's JSON."""

_LENGTHS = (1024, 512, 256, 192, 128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1, 0)

_LONGEST = 500
"""Characters of a string that is cut."""


def brief(report: dict[str, Any], ask_narrower: str, most: int = MOST) -> dict[str, Any]:
    """A report in some so many characters of JSON: of long lists the first items, of long strings the beginning.

    Its notes begin with what was cut, and how to ask narrower. It follows the report's schema as before.
    """
    if len(encoded(report)) <= most:
        return report
    lengths = iter(_LENGTHS)
    shorter = report
    while len(encoded(shorter)) > most and (length := next(lengths, None)) is not None:
        long = sorted({path for path, count in _lists(report) if count > length})
        kept = f"only the first {length} items of" if length else "nothing of"
        said = f"cut, for {most:,} characters at most: {kept} {some_of(long)} stand here; {ask_narrower}"
        notes = [_cut(note, length) for note in report["notes"][:8]]
        shorter = {name: _cut(value, length) for name, value in report.items()} | {"notes": [said, *notes]}
    return shorter


def encoded(value: Any) -> str:
    """A value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _cut(value: Any, length: int) -> Any:
    if isinstance(value, dict):
        return {name: _cut(each, length) for name, each in value.items()}
    if isinstance(value, list):
        return [_cut(each, length) for each in value[:length]]
    if isinstance(value, str) and len(value) > _LONGEST:
        return value[: _LONGEST - 1] + "…"
    return value


def _lists(value: Any, path: str = "") -> Iterator[tuple[str, int]]:
    """The lists in a report: where each is, such as layers[].heads[].map, and how many items it has."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _lists(each, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        yield path, len(value)
        for each in value:
            yield from _lists(each, f"{path}[]")
