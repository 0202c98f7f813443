"""Where the files of a model are: what every kind of place answers, and the two kinds that are on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from txinspect import opening
from txinspect.sources.checkpoint import (
    Choose,
    Wanted,
    WeightFiles,
    WeightListing,
    first_file,
    has_metadata,
    is_index,
    shards_of,
    weight_files,
    weight_map,
)
from txinspect.sources.gguf_header import read_header
from txinspect.sources.headers import stored

Kind = Literal["bundled", "directory", "gguf", "hub"]

Origin = Literal["bundled", "local", "cache", "hub"]
"""Where a weight file is: with the program, elsewhere on this machine, in the Hub's local cache, or on the Hub."""


class Place(Protocol):
    """Where the files of a model are."""

    @property
    def kind(self) -> Kind:
        """What kind of place a model's files are in."""

    @property
    def path(self) -> Path | None:
        """The folder or the file of a place on this machine; None for a place that is elsewhere."""

    @property
    def in_one_file(self) -> str | None:
        """The name of a place's one file that holds config, tokenizer and weights; None where each has its own.

        Each is in it under names and in forms that only transformers knows.
        """

    @property
    def repository(self) -> str | None:
        """The repository's id of a place on the Hub; None for a place on this machine."""

    def folder(self, patterns: Sequence[str]) -> Path:
        """The local folder of a place's files that these glob patterns name, fetched if need be.

        Raises SourceError if they cannot be had.
        """

    def file(self, name: str) -> Path | None:
        """A place's file of a name, fetched if need be; None if there is none."""

    def settings(self) -> bytes | None:
        """What decides config and tokenizer where they are no files of their own, as bytes; None where they are."""

    def weights(self, wanted: Wanted, choose: Choose | None) -> WeightFiles:
        """The weight files in a place, fetched where need be, every one there and readable as what it claims to be.

        Of a checkpoint in shards elsewhere only those are fetched that hold a tensor that `choose` picks. Raises
        SourceError if there are none, a shard is missing or a file is damaged.
        """

    def offered(self, wanted: Wanted) -> WeightListing:
        """What weights a place offers, by their headers, which alone are fetched.

        Raises SourceError if there are none or they cannot be described.
        """

    def weights_here(self, wanted: Wanted) -> list[Path]:
        """The weight files of a place that are on this machine already: none are fetched, none are checked."""

    def indexed(self, wanted: Wanted) -> list[str]:
        """The names of tensors in a place's checkpoint in shards, here or not; empty for one not in shards."""

    def origin(self, *, fetched: bool) -> Origin:
        """Where a place has a weight file from."""


@dataclass(frozen=True)
class Folder:
    """A folder on this machine."""

    path: Path
    kind: Kind = "directory"

    in_one_file = None
    repository = None

    def folder(self, patterns: Sequence[str]) -> Path:
        """See Place."""
        return self.path

    def file(self, name: str) -> Path | None:
        """See Place."""
        return self.path / name if opening.is_there(self.path / name) else None

    def settings(self) -> bytes | None:
        """See Place."""
        return None

    def weights(self, wanted: Wanted, choose: Choose | None) -> WeightFiles:
        """See Place."""
        index = first_file(self.path, wanted.files)
        readable = index is None or not is_index(index) or has_metadata(index)
        return WeightFiles(self.path, weight_files(self.path, wanted.model, wanted.files), None if readable else index)

    def offered(self, wanted: Wanted) -> WeightListing:
        """See Place."""
        return _listed(self.weights(wanted, None).files)

    def weights_here(self, wanted: Wanted) -> list[Path]:
        """See Place."""
        return weights_in(self.path, wanted)

    def indexed(self, wanted: Wanted) -> list[str]:
        """See Place."""
        return indexed_in(self.path, wanted)

    def origin(self, *, fetched: bool) -> Origin:
        """See Place."""
        return "bundled" if self.kind == "bundled" else "local"


@dataclass(frozen=True)
class GgufFile:
    """A .gguf file on this machine. What else is in its folder is not the model's."""

    path: Path

    kind: Kind = "gguf"
    repository = None

    @property
    def in_one_file(self) -> str:
        """See Place."""
        return self.path.name

    def folder(self, patterns: Sequence[str]) -> Path:
        """See Place."""
        return self.path.parent

    def file(self, name: str) -> Path | None:
        """See Place."""
        return None

    def settings(self) -> bytes | None:
        """A digest of a .gguf file's header, with its vocabulary, without reading its weights. See Place."""
        return read_header(self.path).digest

    def weights(self, wanted: Wanted, choose: Choose | None) -> WeightFiles:
        """See Place."""
        return WeightFiles(self.path.parent, [self.path])

    def offered(self, wanted: Wanted) -> WeightListing:
        """See Place."""
        return _listed([self.path])

    def weights_here(self, wanted: Wanted) -> list[Path]:
        """See Place."""
        return [self.path]

    def indexed(self, wanted: Wanted) -> list[str]:
        """See Place."""
        return []

    def origin(self, *, fetched: bool) -> Origin:
        """See Place."""
        return "local"


def _listed(files: list[Path]) -> WeightListing:
    return WeightListing({str(file): file.stat().st_size for file in files}, stored(files), {}, {})


def weights_in(folder: Path, wanted: Wanted) -> list[Path]:
    """The weight files in a place that is a folder: none are fetched, none are checked."""
    first = first_file(folder, wanted.files)
    if first is None or not is_index(first):
        return [first] if first else []
    return [folder / shard for shard in shards_of(weight_map(first)) if opening.is_there(folder / shard)]


def indexed_in(folder: Path, wanted: Wanted) -> list[str]:
    """The names of tensors in shards in a place that is a folder; empty where its checkpoint is not in shards."""
    first = first_file(folder, wanted.files)
    return list(weight_map(first)) if first is not None and is_index(first) else []
