"""The stack of layers that a query is about, and what a sentence calls it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from txinspect.errors import StageError, spelled

if TYPE_CHECKING:
    from txinspect.anatomy.architecture import Stack
    from txinspect.loading.subject import Subject


def whose(subject: Subject, stack: Stack) -> str:
    """What a sentence calls a stack of layers: the model, or its encoder or decoder where it has both."""
    return f"{stack.prefix.rstrip('.')} of {subject.source.name}" if stack.prefix else subject.source.name


def encoder(subject: Subject, asked: str) -> Stack:
    """The stack of an encoder beside a decoder. Raises StageError, about the option that asked, for any other model."""
    if not subject.has_decoder:
        raise StageError(
            f"{subject.source.name!r} has one stack of layers, which attends to its own text: omit "
            f"{spelled(asked, True)}"
        )
    return subject.architecture.stacks[0]
