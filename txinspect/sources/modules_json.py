"""modules.json of a sentence-transformers model: which modules it has, and in which folders."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from txinspect import opening
from txinspect.errors import SourceError
from txinspect.wording import shown

FILE = "modules.json"

_OWN = "sentence_transformers."
"""What the names of sentence-transformers' own modules begin with."""


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    """Read modules.json: a model's modules, in their order. Raises SourceError for a file that holds no list."""
    what = f"{FILE} of {name!r}"
    try:
        found = json.loads(opening.read_text(folder / FILE, opening.SMALL, what))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{what} is not JSON ({error}): fetch or write it again") from error
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise SourceError(f"{what} is no list of modules: fetch or write it again")
    return found


def kind(module: dict[str, Any]) -> str:
    """The kind of a module in modules.json, such as Pooling; the whole name if it is not of sentence-transformers."""
    named = str(module.get("type"))
    return named.rpartition(".")[2] if named.startswith(_OWN) else named


def place(module: dict[str, Any], name: str) -> str:
    """The folder of a module in modules.json, "" for the model's. Raises SourceError for one that is not in that."""
    found = module.get("path", "")
    if found in ("", "."):
        return ""
    if not isinstance(found, str) or not re.fullmatch(r"[\w-][\w.-]*", found):
        what = "outside of it" if isinstance(found, str) and ("/" in found or ".." in found) else "that none is called"
        raise SourceError(f"{FILE} of {name!r} names a folder {what}, {shown(found)}: it is damaged")
    return found


def encoder(folder: Path, name: str) -> str:
    """The folder that modules.json gives for a model's encoder, such as 0_BERT; "" where it is the model's own.

    Raises SourceError for a modules.json that is damaged.
    """
    if not opening.is_there(folder / FILE):
        return ""
    return next((place(each, name) for each in read(folder, name) if kind(each) == "Transformer"), "")
