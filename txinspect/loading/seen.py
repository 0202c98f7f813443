"""The names of models that were seen before, so that a wrong one is refused without importing torch.

They follow from config.json, the versions of transformers and of this program, and how the model is quantized. What
else may change them (code of the model's own, an adapter, a stored quantization, the length of the text, a head that
the checkpoint lacks) keeps a model from being remembered.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

from txinspect import opening, stages
from txinspect.anatomy import families
from txinspect.anatomy.names import Names
from txinspect.guards.cache import cached_at, read_cached, write_cached
from txinspect.model_choice import ModelChoice
from txinspect.sources.config import TEXT_PARTS
from txinspect.sources.source import Source
from txinspect.version import __version__


def recall(source: Source, choice: ModelChoice) -> Names | None:
    """Recall the names of a model's stages and modules, if it was seen before in this form; None if it was not."""
    import msgspec

    path = _path(source, choice)
    content = read_cached(path)
    try:
        return msgspec.json.decode(content, type=Names) if content is not None else None
    except msgspec.MsgspecError:
        return None


def remember(source: Source, choice: ModelChoice, names: Names) -> None:
    """Remember the names of a model that was seen, where they are sure to be the same next time."""
    import msgspec

    path = _path(source, choice)
    if path is not None:
        write_cached(path, msgspec.json.encode(names))


def _path(source: Source, choice: ModelChoice) -> Path | None:
    """The cache file of a model that was seen, in the form that a choice gives it; None for one not remembered."""
    if not source.is_as_saved:
        return None
    config = source.config
    parts = [config, *(part for name in TEXT_PARTS if isinstance(part := config.get(name), dict))]
    if "auto_map" in config or any(part.get("quantization_config") for part in parts):
        return None
    if config.get("model_type") in families.SWAPS_MODULES:
        return None
    digest = hashlib.sha256(f"{__version__} {version('transformers')}".encode())
    # A quantization that cannot be had says so before a stage is looked for: only one that was had before is known.
    digest.update(f"\n{choice.task} {choice.quantization} {choice.skip_modules}\n".encode())
    own = source.config_folder() / "config.json"
    for file in (own, *_rules()):
        content = source.files.read(file, opening.SMALL) if file == own else file.read_bytes()
        digest.update(f"\n{file.name} {len(content)}\n".encode() + content)
    return cached_at("names", f"{digest.hexdigest()}.json")


def _rules() -> list[Path]:
    """This program's files that decide what a seen model's names are, which change while it is written."""
    assert families.__file__ is not None
    assert stages.__file__ is not None
    return [*sorted(Path(families.__file__).parent.glob("*.py")), Path(stages.__file__)]
