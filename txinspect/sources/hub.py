"""The Hub: what a repository has, fetched into the local cache, and every failure as a sentence."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from txinspect import opening
from txinspect.errors import SourceError, spelled
from txinspect.sources.bundled_models import hub_cache
from txinspect.sources.checkpoint import (
    Choose,
    Wanted,
    WeightFiles,
    WeightListing,
    check_file,
    first_file,
    is_index,
    shards_of,
    weight_map,
)
from txinspect.sources.headers import of_header, stored
from txinspect.sources.hub_answers import check_endpoint
from txinspect.sources.hub_errors import Asked, as_source_error
from txinspect.sources.names import CONFIG_FILES, INDEX_FILES, SAFETENSORS_FILES, TORCH_FILES
from txinspect.sources.places import Folder, Kind, Origin, indexed_in, weights_in
from txinspect.wording import some_of


@dataclass(frozen=True)
class HubFile:
    """A weight file of a repository on the Hub."""

    name: str
    size: int | None
    path: Path | None
    """Where it is in the local cache; None if it has yet to be fetched."""
    header: Callable[[], dict[str, Any]] | None
    """Fetches its header; None for a file that is not safetensors."""


@dataclass(frozen=True)
class Repository:
    """A model's repository on the Hub, at a revision."""

    id: str
    revision: str | None = None
    offline: bool = False
    offline_by: str | None = None
    """The variable of the environment that keeps it offline, such as HF_HUB_OFFLINE=1; None if the choice does."""
    adapter: str | None = None
    """The adapter whose base model it is, for sentences; None if the model was asked for itself."""
    snapshots: dict[tuple[str, ...], Path] = field(default_factory=dict, compare=False, repr=False)
    """Folders that the Hub was already asked for, by patterns: each asking is a request over the network."""

    kind: ClassVar[Kind] = "hub"
    path: ClassVar[None] = None
    in_one_file: ClassVar[None] = None

    @property
    def repository(self) -> str:
        """See Place."""
        return self.id

    @property
    def to_go_online(self) -> tuple[str, str]:
        """Why the Hub is not asked, and what to do about that, of a repository that is not in the cache."""
        if self.offline_by:
            return f"{self.offline_by} is set", "unset it to ask the Hub"
        return "the Hub cannot be asked offline", f"run once without {spelled('offline')}"

    @property
    def asked(self) -> Asked:
        """What was asked of the Hub about a repository, for a sentence about a failure."""
        return Asked(self.id, self.revision, self.to_go_online if self.offline else None, self.adapter)

    def folder(self, patterns: Sequence[str]) -> Path:
        """The folder of a Hub repository in the local cache. See Place."""
        key = tuple(patterns)
        if key not in self.snapshots:
            self.snapshots[key] = _snapshot(self, patterns)
        return self.snapshots[key]

    def names(self) -> list[str]:
        """The names of a repository's files on the Hub; offline those of them that are in the cache."""
        folder = self.folder(CONFIG_FILES)
        if self.offline:
            return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())
        from huggingface_hub import HfApi

        with as_source_error(self.asked):
            return sorted(HfApi().list_repo_files(self.id, revision=folder.name))

    def file(self, name: str) -> Path | None:
        """See Place."""
        path = self.folder((name,)) / name
        return path if opening.is_there(path) else None

    def settings(self) -> bytes | None:
        """See Place."""
        return None

    def weights(self, wanted: Wanted, choose: Choose | None) -> WeightFiles:
        """See Place."""
        folder = self._weights_folder(wanted)
        index = first_file(folder, wanted.files)
        if index is None or not is_index(index):
            return Folder(folder).weights(wanted, choose)
        shards = shards_of(weight_map(index), choose)
        folder = self.folder(tuple(shards))
        missing = [shard for shard in shards if not opening.is_there(folder / shard)]
        if missing:
            next_step = ": ".join(self.to_go_online) if self.offline else "the Hub does not have it either"
            raise SourceError(
                f"{wanted.model!r} is not fully in the local cache: it lacks {some_of(missing)}; {next_step}"
            )
        files = [folder / shard for shard in shards]
        for file in files:
            check_file(file)
        return WeightFiles(folder, files, index)

    def _weights_folder(self, wanted: Wanted) -> Path:
        """The cached folder of a repository's weights or their index: safetensors where there are any."""
        if wanted.named is not None:
            return self.folder(wanted.files)
        folder = self.folder(SAFETENSORS_FILES)
        has = any((folder / name).is_file() for name in SAFETENSORS_FILES)
        return folder if has else self.folder(TORCH_FILES)

    def offered(self, wanted: Wanted) -> WeightListing:
        """See Place."""
        folder, named = self.folder(CONFIG_FILES), self._named_shards(wanted)
        listed = _cached_weights(self, folder, named) if self.offline else _listed_weights(self, named, folder.name)
        tensors = []
        for file in listed:
            if file.path is not None:
                tensors += stored([file.path])
            elif file.header is not None:
                tensors += of_header(file.header(), Path(file.name))
        index = self._index_of([file.name for file in listed], wanted)
        return WeightListing(
            files={str(file.path or file.name): file.size for file in listed},
            tensors=tensors,
            to_fetch={file.name: file.size or 0 for file in listed if file.path is None},
            weight_map=weight_map(index) if index else {},
        )

    def _named_shards(self, wanted: Wanted) -> list[str]:
        """The repository's weight files that config.json itself names, by an index or one alone; empty if none."""
        named = wanted.named
        if named is None or not named.endswith(".index.json"):
            return [] if named is None else [named]
        index = self.file(named)
        if index is None:
            raise SourceError(
                f"{wanted.model!r} has no file {named}, whose weights its config.json names: fetch it again"
            )
        return shards_of(weight_map(index))

    def _index_of(self, files: list[str], wanted: Wanted) -> Path | None:
        """The index of a repository's weight files in shards; None where they are one file."""
        if wanted.named is not None:
            return self.folder((wanted.named,)) / wanted.named if wanted.named.endswith(".index.json") else None
        if not files or files[0] in wanted.files:
            return None
        return self.file(INDEX_FILES[0] if files[0].endswith(".safetensors") else INDEX_FILES[1])

    def weights_here(self, wanted: Wanted) -> list[Path]:
        """See Place."""
        return weights_in(self.folder(CONFIG_FILES), wanted)

    def indexed(self, wanted: Wanted) -> list[str]:
        """See Place."""
        return indexed_in(self.folder(CONFIG_FILES), wanted)

    def origin(self, *, fetched: bool) -> Origin:
        """See Place."""
        return "cache" if fetched else "hub"


def offline_variable() -> str | None:
    """The variable of the environment that forbids to ask the Hub, such as HF_HUB_OFFLINE=1; None if none does.

    huggingface_hub reads the second only where the first is empty (constants.py).
    """
    name = next((name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name)), None)
    if name is None or os.environ[name].upper() not in {"1", "TRUE", "YES", "ON"}:
        return None
    return f"{name}={os.environ[name]}"


def _cached_weights(repository: Repository, folder: Path, named: Sequence[str]) -> list[HubFile]:
    wanted = named or _taken([path.name for path in folder.iterdir()])
    here = [folder / name for name in wanted if opening.is_there(folder / name)]
    if not here:
        why, next_step = repository.to_go_online
        raise SourceError(f"the weights of {repository.id!r} are not in the local cache, and {why}", next_step)
    return [HubFile(str(path.relative_to(folder)), opening.check(path, None), path, None) for path in here]


def _taken(names: Collection[str]) -> list[str]:
    """Of a repository's files on the Hub the weights that transformers takes: safetensors first, one before shards."""
    kinds = (
        *(r"model\.safetensors", r"model-\d+-of-\d+\.safetensors"),
        *(r"pytorch_model\.bin", r"pytorch_model-\d+-of-\d+\.bin"),
    )
    found = (sorted(name for name in names if re.fullmatch(kind, name)) for kind in kinds)
    return next((each for each in found if each), [])


def _listed_weights(repository: Repository, named: Sequence[str], commit: str) -> list[HubFile]:
    from huggingface_hub import HfApi, try_to_load_from_cache

    api = HfApi()
    with as_source_error(repository.asked):
        listed = api.model_info(repository.id, revision=commit, files_metadata=True).siblings or []
    sizes = {file.rfilename: file.size for file in listed}
    names = [name for name in named if name in sizes] if named else _taken(list(sizes))
    if not names:
        wanted = f"no {some_of(list(named))}" if named else "no model.safetensors and no pytorch_model.bin"
        raise SourceError(f"{repository.id!r} has no weights on the Hub: {wanted}")

    def header_of(name: str) -> Callable[[], dict[str, Any]]:
        def fetch() -> dict[str, Any]:
            with as_source_error(repository.asked):
                found = api.parse_safetensors_file_metadata(repository.id, name, revision=commit).tensors
            return {
                key: {"dtype": each.dtype, "shape": each.shape, "data_offsets": each.data_offsets}
                for key, each in found.items()
            }

        return fetch

    found = []
    for name in names:
        cached = try_to_load_from_cache(repository.id, name, revision=commit)
        path = Path(cached) if isinstance(cached, str) else None
        found.append(HubFile(name, sizes[name], path, header_of(name) if name.endswith(".safetensors") else None))
    return found


def _revision(repository: Repository) -> str | None:
    """The revision of a repository to ask for: of a branch in the local cache the commit of its reference, no blanks.

    Raises SourceError for a reference that huggingface_hub would wait for, or that holds no commit.
    """
    name = repository.revision or "main"
    reference = hub_cache() / f"models--{repository.id.replace('/', '--')}" / "refs" / name
    if not opening.is_there(reference) or reference.is_dir():
        return repository.revision
    content = opening.read(reference, opening.SMALL).decode("ascii", "replace")
    if not repository.offline:
        return repository.revision
    if not re.fullmatch(r"[0-9A-Za-z]+", content.strip()):
        raise SourceError(f"{reference} in the local cache holds no commit: remove it, and fetch the model again")
    return repository.revision if content == content.strip() else content.strip()


def _snapshot(repository: Repository, patterns: Sequence[str]) -> Path:
    check_endpoint()
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.logging import set_verbosity
    from huggingface_hub.utils.tqdm import disable_progress_bars

    # Its warnings would stand beside the one sentence; what matters of them is said below.
    set_verbosity(logging.CRITICAL)
    if not os.isatty(2):
        disable_progress_bars()
    revision = _revision(repository)
    with as_source_error(repository.asked):
        return Path(
            snapshot_download(
                repository.id,
                revision=revision,
                allow_patterns=list(patterns),
                local_files_only=repository.offline,
            )
        )
