"""See what happens inside a Hugging Face causal language model.

`inspect(query)` answers a query record with a report record; the command line is a thin layer over it:

    >>> import txinspect
    >>> report = txinspect.inspect(txinspect.EmbedQuery(text="Hello"))
    >>> report.tensors[0].shape
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from txinspect.errors import InspectError
    from txinspect.inspecting import inspect
    from txinspect.queries import (
        AttnQuery,
        EmbedQuery,
        ModelChoice,
        PlanQuery,
        PosQuery,
        RunQuery,
        StagesQuery,
        TokenizeQuery,
        TreeQuery,
    )
    from txinspect.records import to_json

_HOMES = {
    "InspectError": "errors",
    "inspect": "inspecting",
    "to_json": "records",
    **dict.fromkeys(
        (
            "AttnQuery",
            "EmbedQuery",
            "ModelChoice",
            "PlanQuery",
            "PosQuery",
            "RunQuery",
            "StagesQuery",
            "TokenizeQuery",
            "TreeQuery",
        ),
        "queries",
    ),
}

__all__ = [
    "AttnQuery",
    "EmbedQuery",
    "InspectError",
    "ModelChoice",
    "PlanQuery",
    "PosQuery",
    "RunQuery",
    "StagesQuery",
    "TokenizeQuery",
    "TreeQuery",
    "__version__",
    "inspect",
    "to_json",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import txinspect` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'txinspect' has no attribute {name!r}")
    return getattr(import_module(f"txinspect.{_HOMES[name]}"), name)
