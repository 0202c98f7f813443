"""The errors a person can meet: each is one sentence that says what to do next."""

from __future__ import annotations


class InspectError(Exception):
    """Something that was asked for could not be done.

    The message is one clear sentence: what was wrong with the value given, what is allowed, what to do next.
    """

    exit_code = 1


class UsageError(InspectError):
    """The request is wrong in itself, whatever the model: two options that exclude each other, a malformed range."""

    exit_code = 2


class SourceError(InspectError):
    """A model's files are not there, cannot be reached or are damaged."""


class StageError(InspectError):
    """A stage that does not exist, or that this model does not have."""


class CheckError(InspectError):
    """A check that was asked for did not hold; the report was given all the same."""

    exit_code = 3


def first_line(error: Exception) -> str:
    """What an exception says first; a line that ends with a colon says it on the next."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = next((index for index, line in enumerate(lines) if not line.endswith(":")), len(lines) - 1)
    return " ".join(lines[: last + 1]) or type(error).__name__
