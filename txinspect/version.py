"""The program's version, the newest transformers that it was tested with, and which packages are here."""

from __future__ import annotations

__version__ = "0.2.0"

NEWEST_TRANSFORMERS = "5.24"
"""The newest that the tests ran with; pyproject.toml's range ends there."""


def untested() -> str | None:
    """What to know where the installed transformers is newer than any version tested; None if it is not.

    Such a version runs all the same: what txinspect leans on (tests/test_seams.py) seldom moves.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("transformers")
    except PackageNotFoundError:
        return None
    if _numbers(installed) <= _numbers(NEWEST_TRANSFORMERS):
        return None
    return f"transformers {installed} is newer than {NEWEST_TRANSFORMERS}, the newest that txinspect was tested with"


def is_installed(package: str) -> bool:
    """Whether a package of some name is installed and can be imported."""
    from importlib.util import find_spec

    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _numbers(version: str) -> tuple[int, ...]:
    """The first two parts of a version: (5, 24) of 5.24.1."""
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in version.split(".")[:2])
