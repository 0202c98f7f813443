"""A model's files: what each of them is asked for, wherever they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

from txinspect import opening
from txinspect.errors import SourceError
from txinspect.sources.adapter import Adapter
from txinspect.sources.bundled_models import alternatives
from txinspect.sources.checkpoint import Choose, Wanted, WeightFiles, WeightListing
from txinspect.sources.headers import StoredTensor, stored
from txinspect.sources.names import CONFIG_FILES, SENTENCE_FILES, TAKEN_FILES, TOKENIZER_FILES
from txinspect.sources.places import Place
from txinspect.wording import shown, some_of


@dataclass(frozen=True)
class Source:
    """A model's name, and where its files are."""

    name: str
    place: Place
    adapter: Adapter | None = None
    """The adapter that is applied to the model."""
    modules: Path | None = None
    """The folder of a sentence-transformers model whose encoder is in a folder of it, which is the place then."""
    files: opening.Files = field(default_factory=opening.Files, compare=False, repr=False)
    """Its small files, as they were when they were first read."""

    @property
    def path(self) -> Path | None:
        """The source's folder, or the .gguf file; None for the Hub."""
        return self.place.path

    @property
    def is_one_file(self) -> bool:
        """Whether a source's config, tokenizer and weights are one file, which transformers converts as it reads."""
        return self.place.in_one_file is not None

    @property
    def is_as_saved(self) -> bool:
        """Whether a source's files are of the model itself, as save_pretrained writes them: not one that transformers
        converts, and not of a base that an adapter is put on."""
        return not self.is_one_file and self.adapter is None

    def folder(self, patterns: Sequence[str]) -> Path:
        """The local folder that holds a source's files by these glob patterns. See Place."""
        return self.place.folder(patterns)

    def config_folder(self) -> Path:
        """The folder that holds the source's config.json."""
        return self.folder(CONFIG_FILES)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The source's config.json, as it stands in the file; empty for a .gguf file, which needs torch to be read.

        Raises SourceError if it is missing or not a JSON object.
        """
        if self.is_one_file:
            return {}
        path = self.config_folder() / "config.json"
        if not opening.is_there(path):
            raise SourceError(_without_config(self, path.parent))
        return self.files.read_object(path, opening.SMALL, f"config.json of {self.name!r}")

    def tokenizer_folder(self) -> Path:
        """The folder that holds the source's tokenizer files: an adapter's own, where it comes with one."""
        if self.adapter is not None and self.adapter.has_tokenizer:
            return self.adapter.folder
        return self.folder(CONFIG_FILES + TOKENIZER_FILES)

    def tokenizer_file(self, name: str) -> Path | None:
        """A file of the source's tokenizer; None if there is none, and for a .gguf file, which has all in itself."""
        path = self.tokenizer_folder() / name
        return path if not self.is_one_file and opening.is_there(path) else None

    def sentence_folder(self) -> Path | None:
        """The source's folder that says how a text's tokens become one vector; None for a .gguf file."""
        if self.is_one_file:
            return None
        own = self.modules or (self.adapter.folder if self.adapter is not None else None)
        return own or self.folder(SENTENCE_FILES)

    @property
    def bundled_tokenizer(self) -> Path | None:
        """The fast tokenizer that comes with a source that is bundled; None for any other model."""
        return self.tokenizer_file("tokenizer.json") if self.place.kind == "bundled" else None

    @cached_property
    def wanted(self) -> Wanted:
        """The source's weights that transformers looks for.

        Raises SourceError where config.json names what is no safetensors file of the model's own (modeling_utils.
        _get_resolved_checkpoint_files).
        """
        if self.is_one_file or not opening.is_there(self.config_folder() / "config.json"):
            return Wanted(self.name)
        named = self.config.get("transformers_weights")
        part = r"[\w-][\w.-]*"  # no way out of the folder
        if named is not None and not (
            isinstance(named, str) and re.fullmatch(rf"({part}/)*{part}\.safetensors(\.index\.json)?", named)
        ):
            raise SourceError(
                f"config.json of {self.name!r} says transformers_weights is {shown(named)}: give the name of a file in "
                f"its folder that ends in .safetensors or, for shards, in .safetensors.index.json; or take the key out"
            )
        return Wanted(self.name, named)

    def weights(self, choose: Choose | None = None) -> WeightFiles:
        """The source's weight files. See Place."""
        return self.place.weights(self.wanted, choose)

    def offered(self) -> WeightListing:
        """What weights a source offers, by their headers. See Place."""
        return self.place.offered(self.wanted)

    def stored_here(self) -> list[StoredTensor]:
        """The tensors in the source's weight files that are here, by their headers.

        Raises SourceError for a file whose header cannot be read.
        """
        return stored(self.place.weights_here(self.wanted))

    def indexed(self) -> list[str]:
        """The names of the tensors of a source's checkpoint in shards. See Place."""
        return self.place.indexed(self.wanted)

    def names_here(self) -> list[str]:
        """The names of a source's tensors as far as they can be told from what is here and readable."""
        try:
            return self.indexed() or [tensor.name for tensor in self.stored_here()]
        except SourceError:  # whoever reads the weights says so
            return []

    @property
    def places_here(self) -> list[Path]:
        """The folders and files on this machine that a source is of: its own, its adapter's, its modules'."""
        adapter = self.adapter.folder if self.adapter is not None else None
        return [each for each in (self.path, adapter, self.modules) if each is not None]

    def owns(self, file: Path) -> bool:
        """Whether a path, all links followed, is a source's file, or its adapter's, or would be taken for one."""
        folders = [place for place in self.places_here if place.is_dir()]
        if any(fnmatch(file.name, kind) and file.parent == each.resolve() for each in folders for kind in TAKEN_FILES):
            return True
        own = [each for folder in folders for each in folder.iterdir() if not each.is_dir()]
        if self.path is not None:
            own += [self.path] if self.is_one_file else [self.path / name for name in [self.wanted.named] if name]
        return any(file == each.resolve() or (file.exists() and each.exists() and file.samefile(each)) for each in own)

    @property
    def commit(self) -> str | None:
        """The commit of the Hub's snapshot that a source's config.json is of; None for a local model."""
        return self.config_folder().name if self.place.repository is not None else None


def _without_config(source: Source, folder: Path) -> str:
    """What is wrong with a source without a config.json, by what else is there."""
    has = f"{source.name!r} has no config.json"
    if gguf := sorted(path.name for path in folder.glob("*.[gG][gG][uU][fF]")):
        return f"{has}, but {some_of(gguf)}: give the file itself, such as {str(folder / gguf[0])!r}"
    advice = f"give the directory that save_pretrained wrote, or {alternatives()}"
    if source.place.kind == "directory" and looks_like_hub_id(source.name):
        return f"{has}: the local folder ./{source.name} hides the Hub's {source.name!r}; rename it, or {advice}"
    return f"{has}: {advice}"


def looks_like_hub_id(name: str) -> bool:
    """Whether a source's name may be a model's on the Hub."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", name) is not None
