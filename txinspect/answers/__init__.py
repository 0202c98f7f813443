"""Query → Report: a file per command, `answer(query, session)`, with `questions(query)` where it runs the model."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from txinspect.commands import command_of
from txinspect.queries import Query


def module_of(query: Query[Any]) -> ModuleType:
    """The module of `answers` that answers a query. Raises TypeError for what is not a query."""
    return import_module(f"{__name__}.{command_of(query).name}")
