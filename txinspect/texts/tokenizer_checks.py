"""What a tokenizer's files may say: ids that are none, and more added tokens than any tokenizer has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from txinspect import opening
from txinspect.errors import SourceError
from txinspect.sources.source import Source
from txinspect.texts.kept import deciding_files
from txinspect.wording import shown

LARGEST_ID = 10_000_000
"""Of a token."""

MOST_ADDED = 80_000
"""Tokens that may be added to a vocabulary."""

MOST_SPECIAL = 10_000
"""Special ones: each is looked for among all others."""

_WITH_ADDED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")

_ADDED = {
    "added_tokens": MOST_ADDED,
    "added_tokens_decoder": MOST_ADDED,
    "additional_special_tokens": MOST_SPECIAL,
    "extra_special_tokens": MOST_SPECIAL,
}
"""Keys of tokens that are added one by one, and how many they may name."""


def check_files(source: Source, folder: Path) -> None:
    """Check a tokenizer's files: raise SourceError for JSON that holds no object, or a template that is no text."""
    for name in deciding_files(source, folder):
        what = f"{name} of {source.name!r}"
        if name.endswith(".json"):
            found = source.files.read_object(folder / name, opening.VOCABULARY, what)
            _check_ids(found, what)
            for key, value in found.items() if name in _WITH_ADDED else ():
                most = _ADDED.get(key)
                if most is not None and isinstance(value, (list, dict)) and len(value) > most:
                    raise SourceError(f"{what} has {len(value):,} {key}: no tokenizer has more than {most:,}")
        elif name.endswith(".jinja"):
            opening.read_text(folder / name, opening.SMALL, what)


def _check_ids(found: dict[str, Any], what: str) -> None:
    """Raise SourceError for a tokenizer's id beyond any vocabulary: the tokenizers library counts up to the largest."""
    model, added = found.get("model"), found.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    ids = list(vocabulary.items()) if isinstance(vocabulary, dict) else []
    for each in added if isinstance(added, list) else []:
        ids += [(each.get("content"), each.get("id"))] if isinstance(each, dict) else []
    for token, id in ids:
        if isinstance(id, int) and not 0 <= id <= LARGEST_ID:
            raise SourceError(f"{what} gives the token {shown(token)} the id {id}: ids are from 0 to {LARGEST_ID:,}")
