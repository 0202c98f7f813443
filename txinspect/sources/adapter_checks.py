"""What in an adapter's config cannot be: a sentence that names the key and its value, before peft reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from txinspect.errors import SourceError
from txinspect.wording import shown

MOST_RANK = 1 << 20
"""Far beyond the width of any layer."""

PATIENCE = 3.0
"""Seconds for all patterns over all names: peft matches each with each."""

_MATCHING = """
import json, re, sys
patterns, names = json.load(sys.stdin)
for pattern in patterns:
    compiled = re.compile(pattern)
    for name in names:
        compiled.fullmatch(name), compiled.search(name)
"""


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_RANK


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_names(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))


def _is_layers(value: Any) -> bool:
    return all(isinstance(each, int) for each in (value if isinstance(value, list) else [value]))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "alpha_pattern": (_is_object, "an object of patterns and numbers"),
    "exclude_modules": (_is_names, "a pattern or a list of names"),
    "layers_pattern": (_is_names, "a pattern or a list of names"),
    "layers_to_transform": (_is_layers, "a number or a list of numbers"),
    "lora_alpha": (_is_number, "a number"),
    "lora_dropout": (_is_number, "a number"),
    "modules_to_save": (_is_names, "a list of names"),
    "peft_type": (lambda value: isinstance(value, str), "the name of a method, such as LORA"),
    "r": (_is_rank, f"a whole number from 1 to {MOST_RANK:,}"),
    "rank_pattern": (_is_object, "an object of patterns and numbers"),
    "target_modules": (_is_names, "a pattern or a list of names"),
}
"""Keys that peft trusts, and what they hold where they are not null."""

REQUIRED = {"peft_type": "such as LORA", "lora_alpha": "a number"}
"""Those that may not be null where they are there."""


def check_adapter(config: Mapping[str, Any], what: str) -> None:
    """Check an adapter's config: raise SourceError for a value of the wrong kind; `what` is what sentences call it."""
    if "peft_type" not in config:
        raise SourceError(f"{what} is not a PEFT adapter's config: it names no peft_type; fetch or write it again")
    for key, value in config.items():
        wrong = key in KINDS and value is not None and not KINDS[key][0](value)
        if wrong or (value is None and key in REQUIRED):
            raise SourceError(f"{what} says {key} is {shown(value)}: it must be {KINDS[key][1]}")


def check_patterns(config: Mapping[str, Any], what: str, names: list[str]) -> None:
    """Check an adapter's patterns: raise SourceError for one that is none, or never ends over names of modules."""
    patterns = dict(_patterns(config))
    if not patterns:
        return
    asked = json.dumps([list(patterns), names]).encode()
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _MATCHING],
            input=asked,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SourceError(
            f"{what} has a pattern over whose matches no end comes, in {' or '.join(sorted(set(patterns.values())))}: "
            f"{shown(max(patterns, key=len))}"
        ) from None
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise SourceError(
            f"{what} has no pattern in {' or '.join(sorted(set(patterns.values())))}, {shown(max(patterns, key=len))}: "
            f"{''.join(reason).rpartition(':')[2].strip()}"
        )


def _patterns(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every regular expression of an adapter's config, and the key that it is under."""
    for key in ("target_modules", "exclude_modules", "layers_pattern"):
        if isinstance(config.get(key), str) and config[key] != "all-linear":
            yield config[key], key
    for key in ("rank_pattern", "alpha_pattern"):
        yield from ((pattern, key) for pattern in config.get(key) or ())
