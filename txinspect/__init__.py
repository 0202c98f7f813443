"""See what happens inside a Hugging Face transformer.

A model is loaded once, and has a method for each command:

    >>> import txinspect
    >>> model = txinspect.load("opt-mini")
    >>> answer = model.attn("Hello world", layer=1)
    >>> answer["layers.1.attention.weights"].shape
    (1, 4, 6, 6)
    >>> answer.show()

What cannot be done raises InspectError, with one sentence. `load` takes the fields of ModelChoice: dtype="float32",
quantization="8bit", offline=True and others.

Underneath, `inspect(query)` answers a query record with a report record. Each command has its query: AblateQuery,
AttnQuery, AttributeQuery, DiagramQuery, DiffQuery, EmbedQuery, HeadsQuery, LensQuery, LessonQuery, LogitsQuery,
ModelsQuery, PageQuery, ParamsQuery, PatchQuery, PlanQuery, PosQuery, RunQuery, StagesQuery, SteerQuery, TokenizeQuery,
TreeQuery, WhyQuery. `txinspect help python` says more.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from txinspect.as_json import to_json
    from txinspect.commands.ablate import AblateQuery
    from txinspect.commands.attn import AttnQuery
    from txinspect.commands.attribute import AttributeQuery
    from txinspect.commands.diagram import DiagramQuery
    from txinspect.commands.diff import DiffQuery
    from txinspect.commands.embed import EmbedQuery
    from txinspect.commands.heads import HeadsQuery
    from txinspect.commands.lens import LensQuery
    from txinspect.commands.lesson import LessonQuery
    from txinspect.commands.logits import LogitsQuery
    from txinspect.commands.models import ModelsQuery
    from txinspect.commands.page import PageQuery
    from txinspect.commands.params import ParamsQuery
    from txinspect.commands.patch import PatchQuery
    from txinspect.commands.plan import PlanQuery
    from txinspect.commands.pos import PosQuery
    from txinspect.commands.run import RunQuery
    from txinspect.commands.stages import StagesQuery
    from txinspect.commands.steer import SteerQuery
    from txinspect.commands.tokenize import TokenizeQuery
    from txinspect.commands.tree import TreeQuery
    from txinspect.commands.why import WhyQuery
    from txinspect.errors import InspectError
    from txinspect.inspecting import inspect
    from txinspect.model import load
    from txinspect.model_choice import ModelChoice
    from txinspect.version import __version__

_HOMES = {
    "InspectError": "errors",
    "load": "model",
    "ModelChoice": "model_choice",
    "__version__": "version",
    "inspect": "inspecting",
    "to_json": "as_json",
}

__all__ = [
    "AblateQuery",
    "AttnQuery",
    "AttributeQuery",
    "DiagramQuery",
    "DiffQuery",
    "EmbedQuery",
    "HeadsQuery",
    "InspectError",
    "LensQuery",
    "LessonQuery",
    "LogitsQuery",
    "ModelChoice",
    "ModelsQuery",
    "PageQuery",
    "ParamsQuery",
    "PatchQuery",
    "PlanQuery",
    "PosQuery",
    "RunQuery",
    "StagesQuery",
    "SteerQuery",
    "TokenizeQuery",
    "TreeQuery",
    "WhyQuery",
    "__version__",
    "inspect",
    "load",
    "to_json",
]


def __dir__() -> list[str]:
    """What help(txinspect) shows in full: the functions. It names the other public names, which are in __all__."""
    return ["__version__", "inspect", "load", "to_json"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import txinspect` costs nothing."""
    if name in _HOMES:
        return getattr(import_module(f"txinspect.{_HOMES[name]}"), name)
    if name.endswith("Query"):
        for command in map(import_module("txinspect.commands").named, import_module("txinspect.commands").NAMES):
            if command.query.__name__ == name:
                return command.query
    raise AttributeError(f"module 'txinspect' has no attribute {name!r}")
