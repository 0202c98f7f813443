"""Checks of the values of a query's fields, each with its one sentence: types, choices, strings."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from txinspect.errors import UsageError, spelled
from txinspect.indices import Layers
from txinspect.wording import shown

_KINDS: dict[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a string",
    tuple[int, ...]: "a tuple of whole numbers",
    tuple[str, ...]: "a tuple of strings",
    Layers: "a whole number, a tuple of them such as (0, 2), or None",
}
"""The types of fields that are checked, in words."""

_EXAMPLES: dict[str, tuple[Any, ...]] = {
    "stages": ("logits",),
    "skip_modules": ("fc1",),
    "heads": (0, 2),
    "queries": (9,),
    "fail_on": ("nan", "inf"),
    "params": ("**.bias",),
}
"""What a field that is a tuple may hold."""


def check_types(record: Any) -> None:
    """Raise UsageError for a field of another type: a shell gives the right ones, Python may give anything."""
    for name, kind in _checked_fields(record.__class__).items():
        value = getattr(record, name)
        if not _is_of(kind, value):
            raise UsageError(f"{spelled(name)} {shown(value)} is not {_wanted(name, value, unwrapped(kind))}")


def _is_of(kind: Any, value: object) -> bool:
    """Whether a field's value is of a type; a list is no tuple, and True is no number."""
    import msgspec

    try:
        msgspec.convert(value, kind)
    except (msgspec.ValidationError, TypeError):
        return False
    return not isinstance(value, (list, set, frozenset))


def _wanted(name: str, value: Any, kind: Any) -> str:
    """What values a field takes, in words: where the value lacks only the tuple around it, the value in one."""
    if get_origin(kind) is not tuple:
        return _KINDS[kind]
    meant = tuple(value) if isinstance(value, (list, set, frozenset)) else (value,)
    if _is_of(kind, meant):
        return f"a tuple: give {shown(meant)}"
    return _KINDS[kind] + (f", such as {_EXAMPLES[name]}" if name in _EXAMPLES else "")


@cache
def _checked_fields(kind: Any) -> dict[str, Any]:
    """The fields of a query's record whose types are among those checked, None allowed or not."""
    return {name: hint for name, hint in get_type_hints(kind).items() if unwrapped(hint) in _KINDS}


def unwrapped(hint: Any) -> Any:
    """The type of a field's values without None: X of X | None; any other type as it is."""
    others = [each for each in get_args(hint) if each is not type(None)]
    return others[0] if len(others) == 1 and type(None) in get_args(hint) else hint


def check_one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raise UsageError for a field's value that is none of the choices."""
    if not isinstance(value, (str, type(None))) or value not in allowed:
        *others, last = [str(each) for each in allowed if each is not None]
        raise UsageError(f"{spelled(name)} {shown(value)} is unknown", f"give {', '.join(others)} or {last}")


def check_strings(name: str, value: object) -> None:
    """Raise UsageError for a field's value that is not a tuple of strings."""
    if not _is_of(tuple[str, ...], value):
        raise UsageError(f"{spelled(name)} {shown(value)} is not {_wanted(name, value, tuple[str, ...])}")


def check_encodable(name: str, value: object) -> None:
    """Raise UsageError for a field's text, or one of several, that holds half a surrogate pair."""
    for text in value if isinstance(value, tuple) else (value,):
        if isinstance(text, str) and not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise UsageError(
                    f"{spelled(name)} {shown(text)} is no text in UTF-8", "write it as characters"
                ) from None
