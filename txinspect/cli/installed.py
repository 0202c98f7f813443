"""Versions of the packages that a bug report names, read without importing any of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, metadata, requires
from pathlib import Path

NAMES = (
    *("torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "bitsandbytes", "gguf", "peft"),
    *("accelerate", "sentencepiece", "protobuf", "numpy", "rich", "typer", "msgspec"),
)
"""What matters for a bug report."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package, installed or not."""

    name: str
    version: str | None
    """None where it is not installed."""
    build: str | None
    """What a version's local part says of how it was built, such as cpu or cu124 for torch; None where it has none."""
    tested: str | None
    """The versions that txinspect is made for, such as >=5.21,<5.25; None where it names none."""
    is_tested: bool | None
    """Whether the version is one of these; None where one of them is not known."""


def packages() -> list[Package]:
    """The packages of NAMES, in that order."""
    tested = dict(_tested())
    return [_package(name, tested.get(name)) for name in NAMES]


def tested_python() -> str | None:
    """The versions of Python that txinspect is made for; None where it is not installed."""
    try:
        said = metadata("txinspect")
    except PackageNotFoundError:
        return None
    return said["Requires-Python"] if "Requires-Python" in said else None  # noqa: SIM401, its type has no get()


def is_within(version: str, wanted: str) -> bool:
    """Whether a version is in a range such as >=2.6,<2.14, of its numbers alone."""
    for comparison, bound in re.findall(r"(>=|<)\s*([0-9.]+)", wanted):
        one, other = _numbers(version), _numbers(bound)
        if one < other if comparison == ">=" else one >= other:
            return False
    return True


def _package(name: str, tested: str | None) -> Package:
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return Package(name=name, version=None, build=None, tested=tested, is_tested=None)
    is_tested = is_within(found.version, tested) if tested else None
    return Package(name=name, version=found.version, build=_build(name, found), tested=tested, is_tested=is_tested)


def _build(name: str, found: Distribution) -> str | None:
    """The local part of a version: what is installed from PyPI has none, but torch says it in a file of its own."""
    version = found.version
    if name == "torch" and "+" not in version:
        try:
            said = Path(str(found.locate_file("torch/version.py"))).read_text(encoding="utf-8")
        except (OSError, UnicodeError):
            return None
        match = re.search(r"^__version__ = ['\"](.*)['\"]", said, re.MULTILINE)
        version = match[1] if match else version
    return version.partition("+")[2] or None


def _tested() -> Iterator[tuple[str, str]]:
    """Each package that txinspect's own metadata name, and the range of its versions."""
    try:
        needed = requires("txinspect") or []
    except PackageNotFoundError:
        return
    for each in needed:
        match = re.match(r"([\w-]+)\s*([<>=!~][^;]*)", each)
        if match:
            bounds = sorted(match[2].strip().split(","), key=lambda bound: not bound.startswith(">"))
            yield match[1].replace("-", "_"), ",".join(bounds)


def _numbers(version: str) -> list[int]:
    """The numbers that a version begins with: 2, 6 of 2.6.0rc1, since .0 says nothing."""
    match = re.match(r"[0-9]+(\.[0-9]+)*", version)
    found = [int(part) for part in match[0].split(".")] if match else []
    while found and found[-1] == 0:
        found.pop()
    return found
