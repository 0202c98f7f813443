"""The models that need no network: those that come with the program, and those in the Hub's local cache."""

from __future__ import annotations

from pathlib import Path

BUNDLED = Path(__file__).parent.parent / "bundled"
"""One folder per bundled model."""


def bundled_folder(name: str) -> Path:
    """Where a bundled model is."""
    return BUNDLED / name


def bundled_models() -> list[str]:
    """Names of the models that come with the program."""
    return sorted(config.parent.name for config in BUNDLED.glob("*/config.json"))


def cached_models() -> list[str]:
    """Hub ids of the models in the local cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folders = Path(HF_HUB_CACHE).glob("models--*")
    return sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in folders)


def alternatives() -> str:
    """What a model may be given as, for the end of a sentence."""
    return f"give a bundled model ({', '.join(bundled_models())}), a local directory, a .gguf file or a Hub id"
