"""The tokenizer that transformers makes of a folder's files, and what is wrong where it makes none."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from txinspect import opening
from txinspect.errors import SourceError, spelled
from txinspect.guards import gguf_reader
from txinspect.guards.blame import blamed
from txinspect.guards.mending import mended_configs
from txinspect.guards.quiet import as_source_error, quiet
from txinspect.queries import LESSON
from txinspect.sources.names import TOKENIZER_FILES
from txinspect.sources.source import Source
from txinspect.version import is_installed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(source: Source, folder: Path, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """Load the tokenizer that transformers makes of a folder's files.

    Raises SourceError if it cannot.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerBase

    if not source.is_one_file and not any(path for pattern in TOKENIZER_FILES for path in folder.glob(pattern)):
        raise SourceError(
            f"{source.name!r} has no tokenizer: none of {', '.join(TOKENIZER_FILES[:6])}, … is in {folder}; "
            f"copy them from the model it was made from"
        )
    if not trust_remote_code and _has_code(source):
        raise SourceError(
            f"the tokenizer of {source.name!r} comes with Python code of its own: "
            f"read it, and add {spelled('trust_remote_code', True)} to run it"
        )

    def made(folder: Path) -> PreTrainedTokenizerBase:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=trust_remote_code, local_files_only=True, gguf_file=source.place.in_one_file
        )
        if not isinstance(tokenizer, PreTrainedTokenizerBase):  # such as RagTokenizer, which is two
            raise TypeError(f"{type(tokenizer).__name__} is no tokenizer of one text")
        tokenizer(LESSON)  # some faults show only here
        return tokenizer

    what = f"the tokenizer of {source.name!r} could not be loaded"
    blame = partial(_blame, source, folder, made)
    try:
        with (
            quiet(),
            as_source_error(what, blame=blame),
            gguf_reader.remembered() if source.is_one_file else nullcontext(),
            mended_configs(),
        ):
            tokenizer = made(folder)
    except SourceError as error:
        if advice := _sentencepiece_is_missing(source, folder):
            raise SourceError(advice) from error
        if "instantiate the backend tokenizer" in str(error):
            raise SourceError(
                f"{source.name!r} has no vocabulary: neither tokenizer.json nor what it is made of is in {folder}; "
                f"copy the files from the model it was made from"
            ) from error
        raise
    return tokenizer


def _blame(source: Source, folder: Path, made: Callable[[Path], object]) -> str | None:
    """The key of a tokenizer's files without which transformers makes it, and its value; None if not one alone."""
    if source.tokenizer_file("tokenizer.json") is None:  # it may be that what is missing
        return None
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if not (folder / name).is_file():
            continue

        def works(config: dict[str, Any], name: str = name) -> None:
            with tempfile.TemporaryDirectory() as view:
                for other in folder.iterdir():
                    if other.name != name:
                        (Path(view) / other.name).symlink_to(other.absolute())
                (Path(view) / name).write_text(json.dumps(config), encoding="utf-8")
                made(Path(view))

        if found := blamed(opening.read_object(folder / name, opening.VOCABULARY), works):
            return f"in {name} {found}"
    return None


def _sentencepiece_is_missing(source: Source, folder: Path) -> str | None:
    """What to install for transformers to make a tokenizer of SentencePiece; None if that is not missing."""
    if source.is_one_file or source.tokenizer_file("tokenizer.json") is not None:
        return None
    models = [file for kind in ("*.model", "*.spm") for file in folder.glob(kind) if file.read_bytes()[:1] == b"\n"]
    needed = [name for name in ("sentencepiece", "google.protobuf") if not is_installed(name)]
    if not models or not needed:
        return None
    packages = " ".join("protobuf" if name == "google.protobuf" else name for name in needed)
    return (
        f"the tokenizer of {source.name!r} is a SentencePiece model, {models[0].name}, which needs "
        f"{packages.replace(' ', ' and ')}: install with 'pip install {packages}'"
    )


def _has_code(source: Source) -> bool:
    """Whether a tokenizer_config.json names a tokenizer class of the repository's own."""
    path = source.tokenizer_file("tokenizer_config.json")
    own = source.files.read_object(path, opening.VOCABULARY).get("auto_map") if path is not None else None
    return isinstance(own, dict) and "AutoTokenizer" in own
