"""How far back an attention sees, as its config or its module says."""

from __future__ import annotations

from typing import Any

_OF_WINDOW = ("sliding_window", "window_size", "attention_window_size", "local_attention", "attention_chunk_size")
"""What configs and modules call the number of tokens that an attention in a window sees."""

_WINDOWED = ("sliding", "local", "chunked")
"""What the kind of a layer begins with whose attention sees a window."""

EXPERTS_USED = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts", "top_k")
"""What configs and modules call the number of experts that a token is given to."""


def window(config: Any, attention: Any, index: int) -> int | None:
    """How many tokens the attention of a layer sees: those of its module, or of its config where that says so."""
    kinds = field(config, "layer_types", list) or field(config, "attention_layers", list)
    if kinds and index < len(kinds):
        if not str(kinds[index]).startswith(_WINDOWED):
            return None
        return _first(attention, int) or _first(config, int)
    return _first(attention, int)


def field(holder: Any, name: str, kind: type) -> Any:
    """A field of a config or module, if it is of a type; some configs refuse a value that differs by layer."""
    try:
        value = getattr(holder, name, None)
    except RuntimeError:
        return None
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


def _first(holder: Any, kind: type) -> int | None:
    """The window that a config or module names, if it is a number of tokens."""
    found = (field(holder, name, kind) for name in _OF_WINDOW)
    return next((int(value) for value in found if value and value > 0), None)


def experts_used(config: Any, modules: list[Any]) -> int | None:
    """How many experts each token is given to, as a config or one of a layer's modules says."""
    found = (field(holder, name, int) for holder in (*modules, config) for name in EXPERTS_USED)
    return next((int(value) for value in found if value), None)
