"""Which key of a config is at fault, where a library says no more than that something went wrong: found by trying."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from txinspect.wording import shown

MOST = 80
"""Keys that are tried."""


def blamed(config: Mapping[str, Any], works: Callable[[dict[str, Any]], object]) -> str | None:
    """The key of a config that is to blame, without which it works, and its value, in words; None if none alone is.

    `works` is given a config and raises what it will.
    """
    if _is_well(works, dict(config)):
        return None
    for key in list(config)[:MOST]:
        if _is_well(works, {name: value for name, value in config.items() if name != key}):
            return f"its {key} is {shown(config[key])}"
    return None


def zero_size(config: Mapping[str, Any]) -> str | None:
    """The first size or count of a config that is to blame for being zero, in words; None if none is."""
    sizes = (key for key, value in config.items() if value == 0 and type(value) is int and _SIZE.search(key))
    return next((f"its {key} is 0" for key in sizes), None)


_SIZE = re.compile(r"^(n|num)_|_(size|dim|heads|layers)$|^d_")
"""Names of sizes and counts."""


def _is_well(works: Callable[[dict[str, Any]], object], config: dict[str, Any]) -> bool:
    try:
        works(config)
    except BaseException as error:
        if not is_foreseen(error):
            raise
        return False
    return True


def is_foreseen(error: BaseException) -> bool:
    """Whether an error may be to blame on a file: also what pyo3 makes of a panic in Rust, which is no Exception."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"
