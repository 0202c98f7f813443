"""A PEFT adapter: a folder of small weights for a base model that it names."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from txinspect import opening
from txinspect.sources.names import ADAPTER_CONFIG, ADAPTER_FILES, TOKENIZER_FILES


@dataclass(frozen=True)
class Adapter:
    """A folder with an adapter in it."""

    name: str
    folder: Path
    base: str | None = None
    """The name of the model that it is applied to."""
    own: opening.Files = field(default_factory=opening.Files, compare=False, repr=False)
    """Its small files, as they were when they were first read."""

    @property
    def what(self) -> str:
        """The adapter's config file in a sentence."""
        return f"{ADAPTER_CONFIG} of {self.name!r}"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The adapter's config: how it was made. Raises SourceError for a file that is damaged."""
        return self.own.read_object(self.folder / ADAPTER_CONFIG, opening.SMALL, self.what)

    @property
    def files(self) -> list[Path]:
        """The adapter's weight files: one, or none."""
        return [self.folder / name for name in ADAPTER_FILES if opening.is_there(self.folder / name)][:1]

    @property
    def has_tokenizer(self) -> bool:
        """Whether the adapter comes with a tokenizer of its own."""
        return any((self.folder / name).is_file() for name in TOKENIZER_FILES)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter and no model."""
    return opening.is_there(folder / ADAPTER_CONFIG) and not opening.is_there(folder / "config.json")
