"""A model's name → where its files are. The only room that knows the Hub, GGUF and the bundled models."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from txinspect.errors import SourceError, UsageError
from txinspect.queries import ModelChoice

BUNDLED = Path(__file__).parent / "bundled"
"""One folder per bundled model."""

CONFIG_FILES = ("config.json",)
CODE_FILES = ("*.py",)
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "tokenizer*.py",
)
INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SAFETENSORS_FILES = ("model.safetensors",)
TORCH_FILES = ("pytorch_model.bin",)

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")

Kind = Literal["bundled", "directory", "gguf", "hub"]


@dataclass(frozen=True)
class Source:
    """A model's name, resolved to the kind of place its files are in."""

    name: str
    kind: Kind
    path: Path | None
    """The folder, or the .gguf file; None for the Hub."""
    revision: str | None = None
    offline: bool = False
    adapter: Path | None = None
    """The folder of a PEFT adapter that is put on the model."""
    base: str | None = None
    """The name of the model that the adapter is put on."""
    snapshots: dict[tuple[str, ...], Path] = field(default_factory=dict, compare=False, repr=False)
    """Folders that the Hub was already asked for, by patterns: each asking is a request over the network."""

    def folder(self, patterns: Sequence[str]) -> Path:
        """The local folder that holds the files these glob patterns name, fetched from the Hub if need be.

        Raises SourceError where the Hub does not have them or cannot be reached.
        """
        if self.path is not None:
            return self.path.parent if self.kind == "gguf" else self.path
        key = tuple(patterns)
        if key not in self.snapshots:
            self.snapshots[key] = _snapshot(self, patterns)
        return self.snapshots[key]

    @property
    def gguf_file(self) -> str | None:
        """The name of the .gguf file, which holds config, tokenizer and weights at once."""
        return self.path.name if self.kind == "gguf" and self.path is not None else None

    def config_folder(self) -> Path:
        """The folder that holds config.json."""
        return self.folder(CONFIG_FILES)

    def tokenizer_folder(self) -> Path:
        """The folder that holds the tokenizer's files: an adapter's own, where it comes with one."""
        if self.adapter is not None and any((self.adapter / name).is_file() for name in TOKENIZER_FILES):
            return self.adapter
        return self.folder(CONFIG_FILES + TOKENIZER_FILES)

    def weights_folder(self) -> Path:
        """The folder that holds weights in one file: safetensors where there are any, else pytorch_model.bin."""
        folder = self.folder(SAFETENSORS_FILES)
        if self.kind == "hub" and not any(folder.glob("model*.safetensors")):
            folder = self.folder(TORCH_FILES)
        return folder

    @property
    def repository(self) -> str:
        """The Hub id: the name, but of an adapter's base model the base's."""
        return self.base or self.name

    def commit(self, folder: Path) -> str | None:
        """The commit that a folder of the Hub's cache is a snapshot of."""
        return folder.name if self.kind == "hub" else None


def bundled_models() -> list[str]:
    """Names of the models that come with the program."""
    return sorted(config.parent.name for config in BUNDLED.glob("*/config.json"))


def cached_models() -> list[str]:
    """Hub ids of the models in the local cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folders = Path(HF_HUB_CACHE).glob("models--*")
    return sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in folders)


def resolve(choice: ModelChoice) -> Source:
    """What a model's name stands for: a bundled model, a directory, a .gguf file or a Hub id, in that order.

    Raises SourceError for a name that can be none of them.
    """
    name = choice.name
    if not name:
        raise SourceError(f"there is no file or directory '': {_alternatives()}")
    if choice.revision is not None and name in bundled_models():
        raise UsageError(f"--revision picks a snapshot of the Hub, and {name!r} comes with the program: leave it away")
    if name in bundled_models():
        return Source(name, "bundled", BUNDLED / name)
    path = Path(name).expanduser()
    if choice.revision is not None and path.exists():
        raise UsageError(f"--revision picks a snapshot of the Hub, and {name!r} is a local path: leave it away")
    if (path / ADAPTER_CONFIG).is_file() and (path / "config.json").is_file():
        # transformers would put the adapter on the model without a word.
        raise SourceError(
            f"{name!r} holds a model and an adapter, config.json and {ADAPTER_CONFIG}: move the one that is not meant "
            f"into a folder of its own"
        )
    if path.is_dir():
        return _adapted(choice, path) if _is_adapter(path) else Source(name, "directory", path)
    if path.is_file():
        if path.suffix == ".gguf":
            _check_gguf(path)
            return Source(name, "gguf", path)
        raise SourceError(
            f"{name!r} is a file, not a model: give the directory that holds its config.json, or a .gguf file"
        )
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", name) or name.endswith(".gguf"):
        raise SourceError(f"there is no file or directory {name!r}: {_alternatives()}")
    offline = choice.offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}
    return Source(name, "hub", None, choice.revision, offline)


def _is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter and no model."""
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file()


def _adapted(choice: ModelChoice, folder: Path) -> Source:
    """The base model of a PEFT adapter, with the adapter on it.

    A base given by a relative path is looked for from the working directory, then from the adapter's folder. Raises
    SourceError for an adapter that is damaged or whose base is not there, or where peft is not installed.
    """
    name, path = choice.name, folder / ADAPTER_CONFIG
    if find_spec("peft") is None:
        raise SourceError(
            f"{name!r} is a PEFT adapter, which needs the package peft: install it with 'pip install peft'"
        )
    if not any((folder / file).is_file() for file in ADAPTER_FILES):
        raise SourceError(f"the adapter {name!r} has no weights: none of {', '.join(ADAPTER_FILES)} is in {folder}")
    try:
        base = json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path} is no PEFT adapter's config ({error!r}): fetch or write it again") from error
    if not isinstance(base, str) or not base:
        raise SourceError(f"{path} names no base model: write a folder or a Hub id into its base_model_name_or_path")
    if (folder / base).is_dir() and not Path(base).is_dir():
        base = str(folder / base)
    if _is_adapter(Path(base)):
        raise SourceError(
            f"the base model of the adapter {name!r} is an adapter itself, {base!r}, and one is put on at a time: "
            f"merge that one into its own base first, with peft's merge_and_unload"
        )
    try:
        found = resolve(replace(choice, name=base, revision=None))
    except SourceError as error:
        raise SourceError(
            f"the base model of the adapter {name!r} is not there, by the base_model_name_or_path of its "
            f"{ADAPTER_CONFIG}: {error}"
        ) from error
    return replace(found, name=name, adapter=folder, base=found.name)


def read_config(source: Source) -> dict[str, Any]:
    """config.json of a source, as it stands in the file; empty for a .gguf file, which needs torch to be read.

    Raises SourceError where it is missing or not a JSON object.
    """
    if source.kind == "gguf":
        return {}
    path = source.config_folder() / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SourceError(
            f"{source.name!r} has no config.json: give the directory that save_pretrained wrote, or {_alternatives()}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise SourceError(f"config.json of {source.name!r} is not JSON ({error}): fetch or write it again") from error
    except OSError as error:
        raise SourceError(f"config.json of {source.name!r} cannot be read: {error.strerror}") from error
    if not isinstance(config, dict):
        raise SourceError(f"config.json of {source.name!r} holds no JSON object: fetch or write it again")
    return config


def _check_gguf(file: Path) -> None:
    """Raise SourceError for a file that is no GGUF, or whose reader is not installed."""
    with file.open("rb") as stream:
        head = stream.read(4)
    if head != b"GGUF":
        raise SourceError(f"{file} is no GGUF: it begins with {head!r}; fetch it again")
    if find_spec("gguf") is None:
        raise SourceError(f"{file} needs the package gguf to be read: install it with 'pip install gguf'")


def _alternatives() -> str:
    return f"give a bundled model ({', '.join(bundled_models())}), a local directory, a .gguf file or a Hub id"


@dataclass(frozen=True)
class HubFile:
    """A weight file of a repository on the Hub."""

    name: str
    size: int | None
    path: Path | None
    """Where it is in the local cache; None where it has yet to be fetched."""
    header: Callable[[], dict[str, Any]] | None
    """Fetches its header; None for a file that is not safetensors."""


def hub_weights(source: Source) -> list[HubFile]:
    """The weight files of a repository, without fetching any: safetensors where there are any, else pytorch_model.bin.

    Raises SourceError where there are none, the Hub cannot be reached, or offline where they are not in the cache.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    folder = source.folder(CONFIG_FILES + INDEX_FILES)
    if source.offline:
        here = sorted(path for kind in ("model*.safetensors", "pytorch_model*.bin") for path in folder.glob(kind))
        if not here:
            raise SourceError(f"the weights of {source.name!r} are not in the local cache: run once without --offline")
        kind = here[0].suffix
        return [HubFile(path.name, path.stat().st_size, path, None) for path in here if path.suffix == kind]
    api, commit = HfApi(), folder.name
    with _as_source_error(source):
        listed = api.model_info(source.repository, revision=commit, files_metadata=True).siblings or []
    sizes = {file.rfilename: file.size for file in listed}
    names = [name for name in sizes if re.fullmatch(r"model(-\d+-of-\d+)?\.safetensors", name)]
    names = names or [name for name in sizes if re.fullmatch(r"pytorch_model(-\d+-of-\d+)?\.bin", name)]
    if not names:
        raise SourceError(f"{source.name!r} has no weights on the Hub: no model.safetensors and no pytorch_model.bin")

    def header_of(name: str) -> Callable[[], dict[str, Any]]:
        def fetch() -> dict[str, Any]:
            with _as_source_error(source):
                found = api.parse_safetensors_file_metadata(source.repository, name, revision=commit).tensors
            return {
                key: {"dtype": each.dtype, "shape": each.shape, "data_offsets": each.data_offsets}
                for key, each in found.items()
            }

        return fetch

    found = []
    for name in sorted(names):
        cached = try_to_load_from_cache(source.repository, name, revision=commit)
        path = Path(cached) if isinstance(cached, str) else None
        found.append(HubFile(name, sizes[name], path, header_of(name) if name.endswith(".safetensors") else None))
    return found


def _snapshot(source: Source, patterns: Sequence[str]) -> Path:
    """The folder of the Hub's local cache that holds these files, downloading what is missing."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.logging import set_verbosity
    from huggingface_hub.utils.tqdm import disable_progress_bars

    # Its warnings would stand beside the one sentence; what matters of them is said below.
    set_verbosity(logging.CRITICAL)
    if not os.isatty(2):
        disable_progress_bars()
    with _as_source_error(source):
        return Path(
            snapshot_download(
                source.repository,
                revision=source.revision,
                allow_patterns=list(patterns),
                local_files_only=source.offline,
            )
        )


@contextmanager
def _as_source_error(source: Source) -> Iterator[None]:
    """Turn what huggingface_hub raises into one sentence."""
    from huggingface_hub import errors

    name = repr(source.repository)
    if source.adapter is not None:
        name += f", the base model of the adapter {source.name!r},"
    at = f" at revision {source.revision!r}" if source.revision else ""
    try:
        yield
    except errors.GatedRepoError as error:
        raise SourceError(
            f"{name} needs its owner's permission: ask on its Hub page, then log in with 'hf auth login'"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise SourceError(f"{name} on the Hub has no revision {source.revision!r}: check --revision") from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError(
            f"there is no model {name}, neither here nor on the Hub (or it is private): {_alternatives()}"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        if isinstance(error.__cause__, errors.HfHubHTTPError):
            status = error.__cause__.response.status_code
            raise SourceError(
                f"{name}{at} is not in the local cache, and the Hub answered with status {status}: try later"
            ) from error
        if source.offline:
            raise SourceError(
                f"{name}{at} is not in the local cache, and the Hub may not be asked offline: "
                f"run once without --offline, or {_alternatives()}"
            ) from error
        raise SourceError(
            f"{name}{at} is not in the local cache and the Hub cannot be reached: "
            f"check the network, or {_alternatives()}"
        ) from error
    except errors.HFValidationError as error:
        raise SourceError(f"{name} is neither a directory nor a Hub id: {_alternatives()}") from error
    except (OSError, errors.HTTPError, errors.RevisionResolutionError) as error:  # type: ignore[attr-defined]
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceError(f"{name}{at} could not be fetched from the Hub: {reason}") from error
