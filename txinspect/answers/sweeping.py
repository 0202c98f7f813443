"""A text several times in one batch: as it is, with its own values written back, and changed in a row for each part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from txinspect.anatomy.families import READS_AGAIN
from txinspect.answers.running import Running
from txinspect.errors import InspectError, StageError
from txinspect.forward.edits import Write
from txinspect.forward.resuming import CannotResumeError, Passed, Resume
from txinspect.forward.wants import Plan
from txinspect.indices import from_start
from txinspect.records import InputRecord

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.anatomy.architecture import Layer, Supply
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


def heads(asked: Sequence[int] | None, count: int, layer: int) -> list[int]:
    """The heads of a layer that a sweep is of, one after the other. Raises StageError for one that it does not have."""

    def wrong(head: int) -> StageError:
        return StageError(f"head {head} is out of range: layer {layer} has heads 0 to {count - 1}")

    return list(from_start(None if asked is None else tuple(asked), count, wrong)) if count else []


class Sweep:
    """Runs a text with each of many sets of changes, several in a batch, from the first layer that they change on."""

    def __init__(self, logits: Plan) -> None:
        self._logits = logits
        self._passes: dict[tuple[int, int], _OwnPass] = {}

    def rows(self, running: Running, text: InputRecord, sets: Sequence[Changes]) -> list[Tensor]:
        """The logits of a text with each set of changes made, (1, …) each, from one batch in which only they differ.

        Raises StageError for a model that does not keep several texts apart.
        """
        found: list[Tensor] = []

        def receive(caught: CaughtTensor) -> None:
            whole = caught.copied()
            if len(whole) != len(sets):
                raise StageError(f"{running.subject.source.name!r} cannot run several texts at once")
            found.extend(row[None] for row in whole)

        own = self._passes.setdefault((id(running), id(text)), _OwnPass(running, text, self._logits))
        plan = replace(self._logits, writes=_writes(sets), edits=own.resumed(sets))
        running.run(text, plan, receive, copies=len(sets))
        return found


class _OwnPass:
    """A text's own pass, from which others go on where the layers before what they change would do the same."""

    def __init__(self, running: Running, text: InputRecord, logits: Plan) -> None:
        self.running, self.text, self.logits = running, text, logits
        self._before: dict[tuple[str, int], dict[str, Any]] = {}

    def resumed(self, sets: Sequence[Changes]) -> tuple[Resume, ...]:
        """What lets the layers pass on what they did before all that sets of changes are about; nothing where these
        are not about layers alone, or going on gives other logits, were it by one bit."""
        architecture = self.running.subject.architecture
        places = {(supply.stack, supply.layer) for changes in sets for supply, _ in changes}
        if not places or self.running.subject.architecture.model_type in READS_AGAIN:
            return ()
        prefixes = [stack.prefix for stack in architecture.stacks]
        known = [(prefixes.index(stack), layer) for stack, layer in places if layer is not None and stack in prefixes]
        if len(known) < len(places):
            return ()
        index, layer = min(known)
        start = prefixes[index], layer
        if start not in self._before:
            self._before[start] = self._checked(start)
        before = self._before[start]
        return (Resume(before, len(sets)),) if before else ()

    @cached_property
    def _passed(self) -> tuple[Tensor, dict[str, list[Any]]]:
        """The logits of the text's own pass, and what its layers passed on."""
        layers = [layer.first for stack in self.running.subject.architecture.stacks for layer in stack.layers]
        passed = Passed(list(dict.fromkeys(layers)))
        return self._run(replace(self.logits, watches=(*self.logits.watches, passed))), passed.outputs

    def _run(self, plan: Plan) -> Tensor:
        found: list[Tensor] = []
        self.running.run(self.text, plan, lambda caught: found.append(caught.copied()))
        return found[0]

    def _checked(self, start: tuple[str, int]) -> dict[str, Any]:
        """What the layers before one passed on, by their modules; none where a pass that goes on from there has other
        logits than the text's own, or cannot."""
        layers = list(self._layers_before(start))
        if not layers or any(layer.first != layer.last or layer.first in layer.attentions for layer in layers):
            return {}
        logits, outputs = self._passed
        if any(len(outputs[layer.first]) != 1 for layer in layers):
            return {}
        before = {layer.first: outputs[layer.first][0] for layer in layers}
        try:
            again = self._run(replace(self.logits, edits=(Resume(before, 1),)))
        except (CannotResumeError, InspectError):
            return {}
        return before if again.equal(logits) else {}

    def _layers_before(self, start: tuple[str, int]) -> Iterator[Layer]:
        """The layers that a text's own pass comes to before one, in their stacks' order."""
        for stack in self.running.subject.architecture.stacks:
            if stack.prefix == start[0]:
                yield from stack.layers[: start[1]]
                return
            yield from stack.layers


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
