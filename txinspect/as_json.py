"""A report as JSON: strict, in UTF-8, and nothing in it that a terminal obeys."""

from __future__ import annotations

import re
from typing import Any

from txinspect.records import Report


def to_json(report: Report) -> bytes:
    """The report as strict JSON in UTF-8: NaN and infinities are null."""
    import msgspec

    try:
        content = msgspec.json.encode(report)
    except UnicodeEncodeError:
        content = msgspec.json.encode(_mended(msgspec.to_builtins(report)))
    return _STEERING.sub(lambda match: f"\\u{ord(match[0].decode()):04x}".encode(), content)


_STEERING = re.compile(
    b"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf|\xef\xbf[\xb9-\xbb]"
)
"""Characters in UTF-8 that a terminal obeys or that turn the order of a line: JSON may hold them as escapes."""


def _mended(value: Any) -> Any:
    """Plain values for JSON without half surrogate pairs, which a path or a config can hold and UTF-8 cannot."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return [_mended(item) for item in value] if isinstance(value, list) else value
