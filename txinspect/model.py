"""A model at hand in Python: one method a command, its files and weights loaded once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_type_hints

from txinspect import commands
from txinspect.answer import Answer
from txinspect.answers.packing import Packing
from txinspect.answers.session import Session
from txinspect.inspecting import answered
from txinspect.model_choice import ModelChoice
from txinspect.queries import Query, ReportType, TextQuery

METHODS = tuple(name for name in commands.NAMES if name not in ("models", "plan"))
"""Commands about one model, each of which is a method; a plan is one of another query."""


class Model:
    """A model at hand. Each method asks what the command of its name does, and takes its options, with names as here.

    The first argument is the text, where a command has one. Files, tokenizer and weights are loaded when they are first
    needed, and kept. Raises InspectError for what cannot be done.
    """

    def __init__(self, choice: ModelChoice) -> None:
        self.choice = choice
        self._session = Session(keeps_weights=True)
        self._session.opened(choice).source.name  # noqa: B018, a name that leads nowhere is told at once

    def ask(self, query: Query[ReportType]) -> Answer[ReportType]:
        """The answer to any query, such as a PlanQuery, with its tensors."""
        self._session.attached, self._session.packing = {}, Packing()
        try:
            report = answered(query, self._session)
            tensors, packing = self._session.attached, self._session.packing
        finally:
            self._session.attached = self._session.packing = None
        return Answer(report, commands.command_of(query), query, tensors, packing.attentions)

    def __repr__(self) -> str:
        return f"<txinspect model {self.choice.name}>"

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Callable[..., Answer[Any]]: ...


def load(name: str, **choice: Any) -> Model:
    """A model by its name: a bundled one, a folder, a .gguf file or a Hub id; `choice` are fields of ModelChoice.

    Raises InspectError for a name that leads nowhere, UsageError for a choice that cannot be.
    """
    return Model(ModelChoice(name=name, **choice))


def _method(name: str) -> Callable[..., Answer[Any]]:
    """The method of a model that asks what a command does."""
    query: Any = commands.named(name).query

    def ask(self: Model, *text: str, **options: Any) -> Answer[Any]:
        bound = signature.bind(self, *text, **options)
        return self.ask(
            query(model=self.choice, **{key: each for key, each in bound.arguments.items() if key != "self"})
        )

    hints = get_type_hints(query)
    own = [each for each in fields(query) if each.name not in ("model", "text")]
    keywords = [
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=hints[each.name])
        for each in own
    ]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    first = (
        [inspect.Parameter("text", kind, default=query.text, annotation=str)] if issubclass(query, TextQuery) else []
    )
    signature = inspect.Signature([inspect.Parameter("self", kind), *first, *keywords], return_annotation=Answer)
    ask.__name__, ask.__qualname__, ask.__doc__ = name, f"Model.{name}", query.__doc__
    ask.__signature__ = signature  # type: ignore[attr-defined]
    return ask


for _name in METHODS:
    setattr(Model, _name, _method(_name))
