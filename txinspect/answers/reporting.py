"""What reports have in common: their head, the text's tokens, how the model is loaded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from txinspect.loading.quantization import record
from txinspect.loading.subject import Subject
from txinspect.loading.task import other_input
from txinspect.loading.weights import fit
from txinspect.records import SCHEMA_VERSION
from txinspect.version import __version__, untested


def loading_notes(subject: Subject) -> list[str]:
    """What a report notes of how the model is loaded."""
    source = subject.source
    task = subject.task
    notes = []
    if task.headless is not None:
        notes.append(
            f"The checkpoint has no head, as {task.headless} would: it is loaded as the bare model, {task.class_name}."
        )
    if task.instead_of is not None:
        notes.append(
            f"config.json names {task.instead_of}{_reads(task.instead_of)}: the model is built as {task.class_name}."
        )
    notes += [f"The adapter {source.name} is applied to {source.adapter.base}."] if source.adapter else []
    notes += [record.sentence(subject.quantization)] if subject.quantization else []
    notes += [f"The modules are those of the config: {subject.missing}."] if subject.missing else []
    newer = untested()
    return notes + ([f"{newer}: --check compares its own pass with a plain one."] if newer else [])


def _reads(class_name: str) -> str:
    """What a model's class reads that is not read here, in a clause of a report's notes; empty for a class of text."""
    other = other_input(class_name)
    return "" if other is None else f", which reads {other}; {other} is not read here"


def surplus_notes(subject: Subject, names: Collection[str]) -> list[str]:
    """The report's note that a checkpoint holds tensors that the model has no place for, if it does."""
    surplus = fit.surplus(subject, names)
    if not surplus:
        return []
    one = len(surplus) == 1
    held, are = ("1 tensor", "it is") if one else (f"{len(surplus)} tensors", "they are")
    example = surplus[0] if one else f"such as {surplus[0]}"
    return [f"The checkpoint holds {held} that config.json has no place for, {example}: {are} ignored."]


def head(command: str, notes: Sequence[str] = ()) -> dict[str, Any]:
    """The head of every report: the fields that it begins with."""
    return {
        "schema_version": SCHEMA_VERSION,
        "txinspect": __version__,
        "command": command,
        "notes": list(notes),
    }
