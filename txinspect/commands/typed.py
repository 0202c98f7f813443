"""A query as it is typed in a shell: the command line that asks it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from txinspect.commands import command_of
from txinspect.model_choice import ModelChoice
from txinspect.option import option_of
from txinspect.queries import LESSON, Query


def line(query: Query[Any]) -> str:
    """The command line that asks a query, without what is so by default."""
    words = ["txinspect", command_of(query).name]
    text = getattr(query, "text", LESSON)
    if text != LESSON:
        words += ["--", text] if text.startswith("-") else [text]
    options = list(_options(query))
    split = words.index("--") if "--" in words else len(words)
    return shlex.join([*words[:split], *options, *words[split:]] if split < len(words) else [*words, *options])


def _options(query: Query[Any]) -> Iterator[str]:
    """The options of a query's command line, as words."""
    choice = getattr(query, "model", None)
    if isinstance(choice, ModelChoice):
        yield from _of_choice(choice, query)
    if not getattr(query, "special", True):
        yield "--no-special"
    yield from _of_fields(query, ())


def _of_choice(choice: ModelChoice, query: Query[Any]) -> Iterator[str]:
    """The words that choose a query's model on a command line."""
    idle: tuple[str, ...] = getattr(query, "idle", ())
    if choice.name != ModelChoice.name:
        yield from (["-m", choice.name] if hasattr(query, "text") else [choice.name])
    if choice.quantization is not None and "quantization" not in idle:
        yield f"--{choice.quantization}"
    yield from _of_fields(choice, ("name", "offline", *idle))  # what is read is the same without the Hub


def _of_fields(record: Any, without: tuple[str, ...]) -> Iterator[str]:
    """The options of a record's fields that are not as they are by default, as words of a command line."""
    for field in fields(record):
        option, value = option_of(type(record), field.name), getattr(record, field.name)
        if option is None or field.name in without or value == field.default:
            continue
        names = option.spelling.split("/")
        name = next((each for each in names if each.startswith("--")), names[0])
        yield from ([name] if value is True else _valued(name, value))


def _valued(name: str, value: Any) -> Iterator[str]:
    """An option of a command line with its value; a list of whole numbers in one word, others one by one."""
    several = isinstance(value, tuple)
    whole = several and all(isinstance(each, int) for each in value)
    each = [",".join(map(str, value))] if whole else list(map(str, value)) if several else [str(value)]
    for word in ["all"] if value is None else each:
        yield from ([f"{name}={word}"] if word.startswith("-") and not word[1:2].isdigit() else [name, word])
