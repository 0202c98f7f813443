"""A model's name → where its files are."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from txinspect import opening
from txinspect.errors import SourceError, UsageError, spelled
from txinspect.model_choice import ModelChoice
from txinspect.sources import modules_json
from txinspect.sources.adapter import Adapter, is_adapter
from txinspect.sources.adapter_checks import check_adapter
from txinspect.sources.bundled_models import alternatives, bundled_folder, bundled_models
from txinspect.sources.gguf_header import read_header
from txinspect.sources.hub import Repository, offline_variable
from txinspect.sources.names import ADAPTER_CONFIG, ADAPTER_FILES, CONFIG_FILES, SENTENCE_FILES, TOKENIZER_FILES
from txinspect.sources.places import Folder, GgufFile
from txinspect.sources.source import Source, looks_like_hub_id
from txinspect.wording import shown, some_of


def resolve(choice: ModelChoice) -> Source:
    """Resolve a model's name: a bundled model, a directory, a .gguf file or a Hub id, in that order.

    Raises SourceError for a name that can be none of them.
    """
    name = choice.name
    if not name:
        raise SourceError("there is no file or directory ''", alternatives())
    if name in bundled_models():
        if choice.revision is not None:
            raise UsageError(
                f"{spelled('revision')} picks a snapshot on the Hub, and {name!r} comes with the program", "omit it"
            )
        return Source(name, Folder(bundled_folder(name), "bundled"))
    try:
        path = Path(name).expanduser()
        here = path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        # Too long for a path, a NUL in it, a folder that may not be entered, a user without a home.
        reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise SourceError(f"{shown(name)} cannot be looked up: {reason}", alternatives(), by="; ") from error
    if not here and path.is_symlink():
        opening.check(path, None, repr(name))
    if choice.revision is not None and here:
        raise UsageError(f"{spelled('revision')} picks a snapshot on the Hub, and {name!r} is a local path", "omit it")
    if (path / ADAPTER_CONFIG).is_file() and (path / "config.json").is_file():
        # transformers would put the adapter on the model without a word.
        raise SourceError(
            f"{name!r} holds a model and an adapter, config.json and {ADAPTER_CONFIG}",
            "move the one you do not want into a folder of its own",
        )
    if path.is_dir():
        return _adapted(choice, path) if is_adapter(path) else _in_directory(name, path)
    if here:
        opening.check(path, None, repr(name))
        if is_gguf(path):
            _check_gguf(path)
            return Source(name, GgufFile(path))
        raise SourceError(
            f"{name!r} is a file, not a model", "give the directory that holds its config.json, or a .gguf file"
        )
    repository, _, file = name.rpartition("/") if is_gguf(path) else (name, "", "")
    if not looks_like_hub_id(repository) or (file and "/" not in repository):
        raise SourceError(f"there is no file or directory {shown(name)}", alternatives(name))
    return _on_hub(choice, repository, file)


def _in_directory(name: str, path: Path) -> Source:
    """Resolve a directory of a model, or of a sentence-transformers model that has it in a folder such as 0_BERT."""
    inner = "" if opening.is_there(path / "config.json") else modules_json.encoder(path, name)
    return Source(name, Folder(path / inner), modules=path) if inner else Source(name, Folder(path))


def _on_hub(choice: ModelChoice, repository: str, file: str) -> Source:
    """Resolve a Hub id: of a model, of an adapter alone, or of .gguf files, of which `file` may name one."""
    offline_by = None if choice.offline else offline_variable()
    hub = Repository(repository, choice.revision, choice.offline or offline_by is not None, offline_by)
    if not file:
        if (hub.folder(CONFIG_FILES) / "config.json").is_file():
            return Source(choice.name, hub)
        if is_adapter(folder := hub.folder((ADAPTER_CONFIG, *ADAPTER_FILES, *TOKENIZER_FILES, *SENTENCE_FILES))):
            return _adapted(choice, folder)
        if inner := modules_json.encoder(folder, choice.name):
            raise SourceError(
                f"{choice.name!r} on the Hub has its encoder in a folder of its own, {inner}, which is read from a "
                f"local folder alone",
                f"fetch it with 'hf download {repository} --local-dir FOLDER', and give that folder",
            )
        offered = [each for each in hub.names() if is_gguf(Path(each)) and "/" not in each]
        if not offered:
            return Source(choice.name, hub)  # whoever reads its config says that there is none
        if len(offered) > 1:
            raise SourceError(
                f"{choice.name!r} holds {len(offered)} .gguf files, {some_of(offered)}",
                f"give one of them, such as {repository}/{offered[0]}",
            )
        file = offered[0]
    path = hub.folder((file,)) / file
    if not opening.is_there(path):
        raise SourceError(f"{repository!r} on the Hub has no file {file!r}", alternatives())
    _check_gguf(path)
    return Source(choice.name, GgufFile(path))


def is_gguf(path: Path) -> bool:
    """Whether the file that a model's name stands for is a GGUF, by its own name."""
    return path.suffix.lower() == ".gguf"


def _adapted(choice: ModelChoice, folder: Path) -> Source:
    """Resolve a PEFT adapter: its base model, with the adapter on it.

    A base given by a relative path is looked for from the working directory, then from the adapter's folder. Raises
    SourceError for an adapter that is damaged or whose base is not there, or where peft is not installed.
    """
    name = choice.name
    if find_spec("peft") is None:
        raise SourceError(
            f"{name!r} is a PEFT adapter, which needs the package peft", "install it with 'pip install peft'"
        )
    if not Adapter(name, folder).files:
        raise SourceError(f"the adapter {name!r} has no weights: none of {', '.join(ADAPTER_FILES)} is in {folder}")
    adapter = Adapter(name, folder)
    config, what = adapter.config, adapter.what
    check_adapter(config, what)
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise SourceError(f"{what} names no base model", "write a folder or a Hub id into its base_model_name_or_path")
    try:
        if (folder / base).is_dir() and not Path(base).is_dir():
            base = str(folder / base)
        twice = is_adapter(Path(base))
    except (OSError, ValueError):  # no name of a path
        twice = False
    if twice:
        raise SourceError(
            f"the base model of the adapter {name!r} is itself an adapter, {base!r}, and only one can be applied",
            "merge that one into its own base first, with peft's merge_and_unload",
        )
    try:
        found = resolve(replace(choice, name=base, revision=None))
    except SourceError as error:
        raise SourceError(
            f"the base model of the adapter {name!r} cannot be found by the base_model_name_or_path in its "
            f"{ADAPTER_CONFIG}: {error}"
        ) from error
    place = replace(found.place, adapter=name) if isinstance(found.place, Repository) else found.place
    return replace(found, name=name, place=place, adapter=replace(adapter, base=found.name))


def _check_gguf(file: Path) -> None:
    """Raise SourceError for a name's file that is not a GGUF, or only a part of one, or damaged."""
    if part := re.search(r"-(\d{5})-of-(\d{5})\.gguf$", file.name, re.IGNORECASE):
        raise SourceError(
            f"{file} is part {int(part[1])} of {int(part[2])} of a split .gguf, which transformers does not read",
            "put the parts together with llama.cpp's 'llama-gguf-split --merge'",
        )
    read_header(file)
