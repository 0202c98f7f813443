"""The Hub: what a repository has, fetched into the local cache, and every failure as a sentence."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from txinspect import opening
from txinspect.errors import SourceError, first_line, spelled
from txinspect.sources.bundled_models import alternatives, bundled_models, cached_models, hub_cache
from txinspect.sources.hub_answers import check_endpoint, guarded, unclear
from txinspect.sources.names import CONFIG_FILES
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

    @property
    def to_go_online(self) -> str:
        """Why the Hub is not asked, and what to do about that, for a sentence about what is not in the local cache."""
        if self.offline_by:
            return f"{self.offline_by} is set: unset it to ask the Hub"
        return f"the Hub cannot be asked offline: run once without {spelled('offline')}"

    def folder(self, patterns: Sequence[str]) -> Path:
        """The folder of the local cache that holds the files these glob patterns name, fetching what is missing.

        Raises SourceError if the Hub does not have them or cannot be reached.
        """
        key = tuple(patterns)
        if key not in self.snapshots:
            self.snapshots[key] = _snapshot(self, patterns)
        return self.snapshots[key]

    def names(self) -> list[str]:
        """The files of the repository; offline those of them that are in the cache."""
        folder = self.folder(CONFIG_FILES)
        if self.offline:
            return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())
        from huggingface_hub import HfApi

        with _as_source_error(self):
            return sorted(HfApi().list_repo_files(self.id, revision=folder.name))

    def weights(self, named: Sequence[str] = ()) -> list[HubFile]:
        """The weight files, without fetching any: those `named`, else safetensors where there are any, else
        pytorch_model.bin.

        Raises SourceError if there are none, the Hub cannot be reached, or offline where they are not in the cache.
        """
        folder = self.folder(CONFIG_FILES)
        return _cached_weights(self, folder, named) if self.offline else _listed_weights(self, named, folder.name)


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
        raise SourceError(f"the weights of {repository.id!r} are not in the local cache, and {repository.to_go_online}")
    return [HubFile(str(path.relative_to(folder)), opening.check(path, None), path, None) for path in here]


def _taken(names: Collection[str]) -> list[str]:
    """Of the files of a repository the weights that transformers takes: safetensors first, one file before shards."""
    kinds = (
        *(r"model\.safetensors", r"model-\d+-of-\d+\.safetensors"),
        *(r"pytorch_model\.bin", r"pytorch_model-\d+-of-\d+\.bin"),
    )
    found = (sorted(name for name in names if re.fullmatch(kind, name)) for kind in kinds)
    return next((each for each in found if each), [])


def _listed_weights(repository: Repository, named: Sequence[str], commit: str) -> list[HubFile]:
    from huggingface_hub import HfApi, try_to_load_from_cache

    api = HfApi()
    with _as_source_error(repository):
        listed = api.model_info(repository.id, revision=commit, files_metadata=True).siblings or []
    sizes = {file.rfilename: file.size for file in listed}
    names = [name for name in named if name in sizes] if named else _taken(list(sizes))
    if not names:
        wanted = f"no {some_of(list(named))}" if named else "no model.safetensors and no pytorch_model.bin"
        raise SourceError(f"{repository.id!r} has no weights on the Hub: {wanted}")

    def header_of(name: str) -> Callable[[], dict[str, Any]]:
        def fetch() -> dict[str, Any]:
            with _as_source_error(repository):
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
    """The revision to ask for: of a branch in the local cache the commit that its reference holds, blanks aside.

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
    with _as_source_error(repository):
        return Path(
            snapshot_download(
                repository.id,
                revision=revision,
                allow_patterns=list(patterns),
                local_files_only=repository.offline,
            )
        )


@contextmanager
def _as_source_error(repository: Repository) -> Iterator[None]:
    """Turn what huggingface_hub raises into one sentence."""
    from huggingface_hub import errors

    name = repr(repository.id)
    if repository.adapter is not None:
        name += f", the base model of the adapter {repository.adapter!r},"
    at = f" at revision {repository.revision!r}" if repository.revision else ""

    def otherwise() -> str:
        return alternatives(repository.id, [*bundled_models(), *cached_models()])

    try:
        with guarded(repository.id):
            yield
    except SourceError:
        raise
    except errors.GatedRepoError as error:
        raise SourceError(
            f"{name} needs its owner's permission: ask for it on its Hub page, then log in with 'hf auth login'"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise SourceError(
            f"{name} on the Hub has no revision {repository.revision!r}: check {spelled('revision')}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError(f"there is no model {name} here or on the Hub (or it is private): {otherwise()}") from error
    except errors.LocalEntryNotFoundError as error:
        if isinstance(error.__cause__, errors.HfHubHTTPError):
            status = error.__cause__.response.status_code
            raise SourceError(
                f"{name}{at} is not in the local cache, and the Hub answered with status {status}: try again later"
            ) from error
        if repository.offline:
            raise SourceError(
                f"{name}{at} is not in the local cache, and {repository.to_go_online}, or {otherwise()}"
            ) from error
        if isinstance(error.__cause__, (errors.FileMetadataError, ValueError)):
            raise SourceError(unclear(repository.id, error.__cause__)) from error
        raise SourceError(
            f"{name}{at} is not in the local cache and the Hub cannot be reached: check the network, or {otherwise()}"
        ) from error
    except errors.HFValidationError as error:
        raise SourceError(f"{name} is neither a directory nor a Hub id: {otherwise()}") from error
    except (OSError, errors.HTTPError, errors.RevisionResolutionError) as error:  # type: ignore[attr-defined]
        said = str(error).splitlines()[0].strip().rstrip(":") if str(error).strip() else ""
        reason = said or type(error).__name__
        raise SourceError(f"{name}{at} could not be fetched from the Hub: {reason}") from error
    except UserWarning as error:  # of a disk that is too small
        raise SourceError(f"{name}{at} could not be fetched from the Hub: {first_line(error)}") from error
    except Exception as error:  # whatever an answer that is none leads to
        raise SourceError(unclear(repository.id, error)) from error
