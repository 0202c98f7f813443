"""The models that need no network: those that come with the program, and those in the Hub's local cache."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path

from txinspect import opening
from txinspect.errors import SourceError

BUNDLED = Path(__file__).parent.parent / "bundled"
"""One folder per bundled model."""

_MUCH_ALIKE = 0.75
"""Two letters in eight changed, or a letter left out of four: opt-mini is meant by opt-min, not by gpt-mid."""


def bundled_folder(name: str) -> Path:
    """Where a bundled model is."""
    return BUNDLED / name


def bundled_models() -> list[str]:
    """Names of the models that come with the program."""
    return sorted(config.parent.name for config in BUNDLED.glob("*/config.json"))


def cached_models() -> list[str]:
    """Hub ids of the models in the local cache, which need no network."""
    folders = hub_cache().glob("models--*")
    return sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in folders)


def cached_folder(name: str) -> Path:
    """Where the files of a cached model are: the snapshot of its branch main, else the newest one.

    The repository's own folder where it has no snapshot.
    """
    repository = hub_cache() / f"models--{name.replace('/', '--')}"
    snapshots = sorted(repository.glob("snapshots/*/"), key=lambda folder: folder.stat().st_mtime)
    try:
        main = opening.read_text(repository / "refs" / "main", opening.SMALL).strip()
    except SourceError:
        main = ""
    return next((folder for folder in snapshots if folder.name == main), (snapshots or [repository])[-1])


def hub_cache() -> Path:
    """The folder of the Hub's local cache, in which the cached models need no network."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def alternatives(name: str = "", here: Sequence[str] | None = None) -> str:
    """The models that may be given instead, for the end of a sentence; with the one that a wrong name is like."""
    bundled = bundled_models()
    like = lookalike(name, bundled if here is None else here)
    hint = f"; did you mean {like!r}?" if like else ""
    return f"give a bundled model ({', '.join(bundled)}), a local directory, a .gguf file or a Hub id{hint}"


def lookalike(name: str, here: Sequence[str]) -> str | None:
    """The model that a mistyped name is most like, with its owner on the Hub or without; None if none is much like it.

    A name that is here is not mistyped.
    """
    if name in here:
        return None
    likeness = {model: max(_likeness(name, model), _likeness(name, model.rpartition("/")[2])) for model in here}
    nearest = max(likeness, key=lambda model: likeness[model], default=None)
    return nearest if nearest is not None and likeness[nearest] >= _MUCH_ALIKE else None


def _likeness(name: str, other: str) -> float:
    return SequenceMatcher(None, name.casefold(), other.casefold(), autojunk=False).ratio()
