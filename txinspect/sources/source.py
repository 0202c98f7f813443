"""A model's name → where its files are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from txinspect import opening
from txinspect.errors import SourceError, UsageError, spelled
from txinspect.queries import ModelChoice, shown
from txinspect.sources import modules
from txinspect.sources.adapter_checks import check_adapter
from txinspect.sources.bundled_models import alternatives, bundled_folder, bundled_models
from txinspect.sources.gguf_header import read_header
from txinspect.sources.hub import Repository, offline_variable
from txinspect.sources.names import (
    ADAPTER_CONFIG,
    ADAPTER_FILES,
    CONFIG_FILES,
    SAFETENSORS_FILES,
    SENTENCE_FILES,
    TAKEN_FILES,
    TOKENIZER_FILES,
    TORCH_FILES,
)
from txinspect.wording import some_of

Kind = Literal["bundled", "directory", "gguf", "hub"]


@dataclass(frozen=True)
class Source:
    """A model's name, resolved to the kind of place its files are in."""

    name: str
    kind: Kind
    path: Path | None
    """The folder, or the .gguf file; None for the Hub."""
    hub: Repository | None = None
    """Where it is on the Hub; None for a local model."""
    adapter: Path | None = None
    """The folder of a PEFT adapter that is applied to the model."""
    base: str | None = None
    """The name of the model that the adapter is applied to."""
    modules: Path | None = None
    """The folder of a sentence-transformers model whose encoder is in a folder of it, which `path` then is."""
    files: opening.Files = field(default_factory=opening.Files, compare=False, repr=False)
    """Its small files, as they were when they were first read."""

    def folder(self, patterns: Sequence[str]) -> Path:
        """The local folder that holds the files these glob patterns name, fetched from the Hub if need be.

        Raises SourceError if the Hub does not have them or cannot be reached.
        """
        if self.hub is not None:
            return self.hub.folder(patterns)
        assert self.path is not None, "a model is on the Hub or at a path"
        return self.path.parent if self.gguf_file else self.path

    @property
    def gguf_file(self) -> str | None:
        """The name of the .gguf file, which holds config, tokenizer and weights at once."""
        return self.path.name if self.kind == "gguf" and self.path is not None else None

    def config_folder(self) -> Path:
        """The folder that holds config.json."""
        return self.folder(CONFIG_FILES)

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json, as it stands in the file; empty for a .gguf file, which needs torch to be read.

        Raises SourceError if it is missing or not a JSON object.
        """
        if self.gguf_file:
            return {}
        path = self.config_folder() / "config.json"
        if not opening.is_there(path):
            raise SourceError(_without_config(self, path.parent))
        return self.files.read_object(path, opening.SMALL, f"config.json of {self.name!r}")

    def tokenizer_folder(self) -> Path:
        """The folder that holds the tokenizer's files: an adapter's own, where it comes with one."""
        if self.adapter is not None and any((self.adapter / name).is_file() for name in TOKENIZER_FILES):
            return self.adapter
        return self.folder(CONFIG_FILES + TOKENIZER_FILES)

    @property
    def bundled_tokenizer(self) -> Path | None:
        """The fast tokenizer that comes with a bundled model; None for any other model."""
        return self.path / "tokenizer.json" if self.kind == "bundled" and self.path is not None else None

    @cached_property
    def named_weights(self) -> str | None:
        """The weight file, or the index of shards, that config.json itself names and transformers takes before others;
        None where it names none.

        Raises SourceError for what is no safetensors file of the model's own (modeling_utils._get_resolved_checkpoint_
        files).
        """
        if self.gguf_file or not opening.is_there(self.config_folder() / "config.json"):
            return None
        what, named = f"config.json of {self.name!r}", self.config.get("transformers_weights")
        if named is None:
            return None
        part = r"[\w-][\w.-]*"  # no way out of the folder
        if not isinstance(named, str) or not re.fullmatch(rf"({part}/)*{part}\.safetensors(\.index\.json)?", named):
            raise SourceError(
                f"{what} says transformers_weights is {shown(named)}: give the name of a file in its folder that "
                f"ends in .safetensors or, for shards, in .safetensors.index.json; or take the key out"
            )
        return named

    @property
    def weight_names(self) -> tuple[str, ...]:
        """What transformers looks for, in its order."""
        named = self.named_weights
        return SAFETENSORS_FILES + TORCH_FILES if named is None else (named,)

    def weights_folder(self) -> Path:
        """The folder that holds weights in one file, or the index of shards: safetensors where there are any."""
        if self.named_weights is not None:
            return self.folder(self.weight_names)
        folder = self.folder(SAFETENSORS_FILES)
        if self.hub is not None and not any((folder / name).is_file() for name in SAFETENSORS_FILES):
            folder = self.folder(TORCH_FILES)
        return folder

    @property
    def adapter_files(self) -> list[Path]:
        """The weights of the adapter: one file, or none."""
        if self.adapter is None:
            return []
        return [self.adapter / name for name in ADAPTER_FILES if opening.is_there(self.adapter / name)][:1]

    def owns(self, file: Path) -> bool:
        """Whether a path, all links followed, is a file of the model or of its adapter, or would be taken for one."""
        folders = [
            folder for folder in (self.path, self.adapter, self.modules) if folder is not None and folder.is_dir()
        ]
        if any(fnmatch(file.name, kind) and file.parent == each.resolve() for each in folders for kind in TAKEN_FILES):
            return True
        own = [each for folder in folders for each in folder.iterdir() if not each.is_dir()]
        own += [self.path] if self.gguf_file and self.path is not None else []
        if self.path is not None and self.named_weights is not None:
            own.append(self.path / self.named_weights)
        return any(file == each.resolve() or (file.exists() and each.exists() and file.samefile(each)) for each in own)

    @property
    def commit(self) -> str | None:
        """The commit of the Hub's snapshot that config.json is of; None for a local model."""
        return self.config_folder().name if self.hub is not None else None


def _without_config(source: Source, folder: Path) -> str:
    """What is wrong with a folder or a repository without a config.json, by what else is there."""
    has = f"{source.name!r} has no config.json"
    if gguf := sorted(path.name for path in folder.glob("*.[gG][gG][uU][fF]")):
        return f"{has}, but {some_of(gguf)}: give the file itself, such as {str(folder / gguf[0])!r}"
    advice = f"give the directory that save_pretrained wrote, or {alternatives()}"
    if source.kind == "directory" and looks_like_hub_id(source.name):
        return f"{has}: the local folder ./{source.name} hides the Hub's {source.name!r}; rename it, or {advice}"
    return f"{has}: {advice}"


def resolve(choice: ModelChoice) -> Source:
    """What a model's name stands for: a bundled model, a directory, a .gguf file or a Hub id, in that order.

    Raises SourceError for a name that can be none of them.
    """
    name = choice.name
    if not name:
        raise SourceError(f"there is no file or directory '': {alternatives()}")
    if name in bundled_models():
        if choice.revision is not None:
            raise UsageError(
                f"{spelled('revision')} picks a snapshot on the Hub, and {name!r} comes with the program: omit it"
            )
        return Source(name, "bundled", bundled_folder(name))
    try:
        path = Path(name).expanduser()
        here = path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        # Too long for a path, a NUL in it, a folder that may not be entered, a user without a home.
        reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise SourceError(f"{shown(name)} cannot be looked up: {reason}; {alternatives()}") from error
    if not here and path.is_symlink():
        opening.check(path, None, repr(name))
    if choice.revision is not None and here:
        raise UsageError(f"{spelled('revision')} picks a snapshot on the Hub, and {name!r} is a local path: omit it")
    if (path / ADAPTER_CONFIG).is_file() and (path / "config.json").is_file():
        # transformers would put the adapter on the model without a word.
        raise SourceError(
            f"{name!r} holds a model and an adapter, config.json and {ADAPTER_CONFIG}: move the one you do not want "
            f"into a folder of its own"
        )
    if path.is_dir():
        return _adapted(choice, path) if is_adapter(path) else _in_directory(name, path)
    if here:
        opening.check(path, None, repr(name))
        if is_gguf(path):
            _check_gguf(path)
            return Source(name, "gguf", path)
        raise SourceError(
            f"{name!r} is a file, not a model: give the directory that holds its config.json, or a .gguf file"
        )
    repository, _, file = name.rpartition("/") if is_gguf(path) else (name, "", "")
    if not looks_like_hub_id(repository) or (file and "/" not in repository):
        raise SourceError(f"there is no file or directory {shown(name)}: {alternatives(name)}")
    return _on_hub(choice, repository, file)


def _in_directory(name: str, path: Path) -> Source:
    """A folder of a model, or of a sentence-transformers model that has it in a folder of its own, such as 0_BERT."""
    inner = "" if opening.is_there(path / "config.json") else modules.encoder(path, name)
    return Source(name, "directory", path / inner, modules=path) if inner else Source(name, "directory", path)


def _on_hub(choice: ModelChoice, repository: str, file: str) -> Source:
    """A repository on the Hub: of a model, of an adapter alone, or of .gguf files, of which `file` may name one."""
    offline_by = None if choice.offline else offline_variable()
    hub = Repository(repository, choice.revision, choice.offline or offline_by is not None, offline_by)
    if not file:
        if (hub.folder(CONFIG_FILES) / "config.json").is_file():
            return Source(choice.name, "hub", None, hub)
        if is_adapter(folder := hub.folder((ADAPTER_CONFIG, *ADAPTER_FILES, *TOKENIZER_FILES, *SENTENCE_FILES))):
            return _adapted(choice, folder)
        if inner := modules.encoder(folder, choice.name):
            raise SourceError(
                f"{choice.name!r} on the Hub has its encoder in a folder of its own, {inner}, which is read from a "
                f"local folder alone: fetch it with 'hf download {repository} --local-dir FOLDER', and give that folder"
            )
        offered = [each for each in hub.names() if is_gguf(Path(each)) and "/" not in each]
        if not offered:
            return Source(choice.name, "hub", None, hub)  # whoever reads its config says that there is none
        if len(offered) > 1:
            raise SourceError(
                f"{choice.name!r} holds {len(offered)} .gguf files, {some_of(offered)}: give one of them, such as "
                f"{repository}/{offered[0]}"
            )
        file = offered[0]
    path = hub.folder((file,)) / file
    if not opening.is_there(path):
        raise SourceError(f"{repository!r} on the Hub has no file {file!r}: {alternatives()}")
    _check_gguf(path)
    return Source(choice.name, "gguf", path)


def looks_like_hub_id(name: str) -> bool:
    """Whether a name may be a model's on the Hub."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", name) is not None


def is_gguf(path: Path) -> bool:
    """Whether a file is a GGUF by its name."""
    return path.suffix.lower() == ".gguf"


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter and no model."""
    return opening.is_there(folder / ADAPTER_CONFIG) and not opening.is_there(folder / "config.json")


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
    if not any(opening.is_there(folder / file) for file in ADAPTER_FILES):
        raise SourceError(f"the adapter {name!r} has no weights: none of {', '.join(ADAPTER_FILES)} is in {folder}")
    what, files = f"{ADAPTER_CONFIG} of {name!r}", opening.Files()
    config = files.read_object(path, opening.SMALL, what)
    check_adapter(config, what)
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise SourceError(f"{what} names no base model: write a folder or a Hub id into its base_model_name_or_path")
    try:
        if (folder / base).is_dir() and not Path(base).is_dir():
            base = str(folder / base)
        twice = is_adapter(Path(base))
    except (OSError, ValueError):  # no name of a path
        twice = False
    if twice:
        raise SourceError(
            f"the base model of the adapter {name!r} is itself an adapter, {base!r}, and only one can be applied: "
            f"merge that one into its own base first, with peft's merge_and_unload"
        )
    try:
        found = resolve(replace(choice, name=base, revision=None))
    except SourceError as error:
        raise SourceError(
            f"the base model of the adapter {name!r} cannot be found by the base_model_name_or_path in its "
            f"{ADAPTER_CONFIG}: {error}"
        ) from error
    hub = replace(found.hub, adapter=name) if found.hub else None
    return replace(found, name=name, hub=hub, adapter=folder, base=found.name, files=files)


def _check_gguf(file: Path) -> None:
    """Raise SourceError for a file that is not a GGUF, or only a part of one, or damaged."""
    try:
        with file.open("rb") as stream:
            head = stream.read(4)
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror}") from error
    if part := re.search(r"-(\d{5})-of-(\d{5})\.gguf$", file.name, re.IGNORECASE):
        raise SourceError(
            f"{file} is part {int(part[1])} of {int(part[2])} of a split .gguf, which transformers does not read: put "
            f"the parts together with llama.cpp's 'llama-gguf-split --merge'"
        )
    if head != b"GGUF":
        raise SourceError(f"{file} is not a GGUF file: it begins with {head!r}; fetch it again")
    read_header(file)
