"""What config files hold that transformers stumbles over, though it is plain what is meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from txinspect.guards.patching import patched

DTYPES = ("dtype", "torch_dtype")


def mended(config: dict[str, Any]) -> dict[str, Any]:
    """A config mended as transformers reads it, with types of numbers: 'torch.float16' is float16."""
    found = {}
    for name, value in config.items():
        if name in DTYPES and isinstance(value, str):
            value = value.removeprefix("torch.")
        found[name] = mended(value) if isinstance(value, dict) else value
    return found


@contextmanager
def mended_configs() -> Iterator[None]:
    """While open, transformers reads configs as mended."""
    from transformers import PreTrainedConfig

    read = PreTrainedConfig.get_config_dict.__func__  # type: ignore[attr-defined]

    def get_config_dict(kind: Any, *arguments: Any, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        config, unused = read(kind, *arguments, **options)
        return mended(config), unused

    with patched(PreTrainedConfig, "get_config_dict", classmethod(get_config_dict)):
        yield
