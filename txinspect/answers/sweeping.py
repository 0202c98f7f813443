"""A text several times in one batch: as it is, with its own values written back, and changed in a row for each part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from txinspect.answers.running import Running
from txinspect.errors import StageError
from txinspect.forward.edits import Write
from txinspect.forward.wants import Plan
from txinspect.records import InputRecord

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.anatomy.architecture import Supply
    from txinspect.forward.capture import CaughtTensor

ROWS = 16
"""Parts that are changed in one pass, each in a row of its own."""

LOGITS = 1 << 26
"""Logits of one pass at most: 256 MB in float32."""

BESIDE = 2
"""Rows of each batch for the text as it is, and with its own values written back: the null row."""

Changes = Sequence[tuple["Supply", Callable[["Tensor"], "Tensor"]]]
"""What becomes of each stage that is changed in a row of a batch: a text by itself, (1, …)."""


def at_once(logits: int) -> int:
    """How many parts a sweep changes in one batch, where a text has so many logits."""
    return max(1, min(ROWS, LOGITS // max(1, logits) - BESIDE))


def rows(running: Running, text: InputRecord, logits: Plan, sets: Sequence[Changes]) -> list[Tensor]:
    """The logits of a text with each set of changes made, (1, …) each, from one batch in which only they differ.

    Raises StageError for a model that does not keep several texts apart.
    """
    found: list[Tensor] = []

    def receive(caught: CaughtTensor) -> None:
        whole = caught.copied()
        if len(whole) != len(sets):
            raise StageError(f"{running.subject.source.name!r} cannot run several texts at once")
        found.extend(row[None] for row in whole)

    running.run(text, replace(logits, writes=_writes(sets)), receive, copies=len(sets))
    return found


def _writes(sets: Sequence[Changes]) -> tuple[Write, ...]:
    """What makes each set of changes in its row of a batch."""
    by_supply: dict[Supply, list[tuple[int, Callable[[Tensor], Tensor]]]] = {}
    for row, changes in enumerate(sets):
        for supply, change in changes:
            by_supply.setdefault(supply, []).append((row, change))
    return tuple(Write(supply, _by_row(supply, own, len(sets))) for supply, own in by_supply.items())


def _by_row(
    supply: Supply, changes: Sequence[tuple[int, Callable[[Tensor], Tensor]]], count: int
) -> Callable[[Tensor], Tensor]:
    """What makes of each row of a batch what its own changes do, in their order."""

    def change(own: Tensor) -> Tensor:
        if own.shape[0] != count:
            raise StageError(f"{supply.name!r} does not keep several texts apart: its shape is {list(own.shape)}")
        new = own.clone()
        for row, make in changes:
            new[row : row + 1] = make(new[row : row + 1])
        return new

    return change
