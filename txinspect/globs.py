"""Globs that pick dotted names: of stages, of modules, of parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache


def is_glob(pattern: str) -> bool:
    """Whether a pattern is a glob, with a wildcard; a plain name has none."""
    return any(mark in pattern for mark in "*?[")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = []
    for token in re.findall(r"\*\*\.?|\*|\?|\[[^]]*\]|[^*?\[]+|\[", pattern):
        if token == "**.":
            parts.append(r"(?:.+\.)?")
        elif token == "**":
            parts.append(r".*")
        elif token == "*":
            parts.append(r"[^.]*")
        elif token == "?":
            parts.append(r"[^.]")
        elif token.startswith("[") and len(token) > 2:
            members = token[1:-1].replace("\\", r"\\")
            negated = members.startswith("!")
            parts.append(f"(?!\\.)[^{members[1:]}]" if negated else f"[{members}]")
        else:
            parts.append(re.escape(token))
    return re.compile("".join(parts) + r"\Z")


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that a glob picks, in their order: * and ? stay within a name, ** crosses dots.

    A bracket that is not a valid set, such as [9-1], matches nothing.
    """
    try:
        compiled = _compiled(pattern)
    except re.error:
        return []
    return [name for name in names if compiled.match(name)]
