"""The errors a person can meet: each is one sentence that says what to do next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

Spell = Callable[[str, object], str]
"""A field of a query, and the value meant or None, as one face spells them: `dtype='float32'`, `--dtype float32`."""


def _as_python(name: str, value: object) -> str:
    return name if value is None else f"{name}={value!r}"


_spell: ContextVar[Spell] = ContextVar("spell", default=_as_python)
"""How the face that asks spells a field; Python's own where none says so."""


def spelled(name: str, value: object = None) -> str:
    """A field of a query as the face that asks spells it, such as `spelled("dtype", "float32")`: --dtype float32."""
    return _spell.get()(name, value)


@contextmanager
def spelling(spell: Spell) -> Iterator[None]:
    """Spell fields as a face does while it asks."""
    before = _spell.set(spell)
    try:
        yield
    finally:
        _spell.reset(before)


_LONGEST_SENTENCE, _LONGEST_WORD, _TAIL = 550, 260, 130
"""Characters: a path may be long, and the end of a sentence says what to do."""


class Said(NamedTuple):
    """What is said of an error: in one sentence, and in its two parts where there is room for them."""

    sentence: str
    wrong: str
    """The sentence without the hint."""
    hint: str | None
    """What to do next."""


class InspectError(Exception):
    """Something that was asked for could not be done.

    The message says what was wrong with the value given, and what is allowed; the hint, what to do next. Together they
    are one clear sentence, with `by` in between, which `str(error)` is. Both name what the person gave by `spelled`.
    """

    exit_code = 1

    def __init__(self, message: str = "", hint: str | None = None, *, by: str = ": ") -> None:
        super().__init__(message if hint is None else f"{message}{by}{hint}")
        self._parts = message, hint

    def __str__(self) -> str:
        return self.said().sentence

    def __format__(self, spec: str) -> str:
        """The error's message whole: in that of another error, which is shortened when it is shown."""
        return format(super().__str__(), spec)

    def said(self) -> Said:
        """The error's sentence and its parts."""
        message, hint = self._parts
        return Said(_shortened(super().__str__()), _shortened(message), None if hint is None else _shortened(hint))

    @property
    def hint(self) -> str | None:
        """What to do next, as its sentence says; None where that says nothing."""
        return self.said().hint


def _shortened(sentence: str) -> str:
    """An error's sentence without endless words or an endless middle: values that strangers made are in it."""
    words = " ".join(_cut(word, _LONGEST_WORD) for word in sentence.split(" "))
    return _cut(words, _LONGEST_SENTENCE)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - _TAIL]}…{text[-_TAIL + 1 :]}"


class UsageError(InspectError):
    """The request is wrong in itself, whatever the model: two options that cannot be combined, a malformed range."""

    exit_code = 2


class SourceError(InspectError):
    """A model's files are not there, cannot be reached or are damaged."""


class StageError(InspectError):
    """A stage that does not exist, or that this model does not have."""


class PassError(InspectError):
    """The model's own code failed in a pass; the message is how."""


class CheckError(InspectError):
    """A check that was asked for did not hold; the report was given all the same."""

    exit_code = 3


def first_line(error: BaseException) -> str:
    """What an exception's message says first; a line that ends with a colon says it on the next."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = next((index for index, line in enumerate(lines) if not line.endswith(":")), len(lines) - 1)
    return " ".join(lines[: last + 1]) or type(error).__name__
