"""A model with its weights, that runs on texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from txinspect.anatomy import locating
from txinspect.errors import InspectError, PassError
from txinspect.forward import capture
from txinspect.forward.capture import CaughtTensor
from txinspect.forward.inputs import model_inputs
from txinspect.forward.wants import Plan
from txinspect.guards.quiet import quiet
from txinspect.loading.subject import Subject
from txinspect.queries import Progress
from txinspect.records import InputRecord

Item = TypeVar("Item")

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from txinspect.forward.edits import Write


@dataclass(frozen=True)
class Running:
    """A model with its weights, for what a command runs on it."""

    subject: Subject
    model: PreTrainedModel
    progress: Progress | None = None
    """Told how far what takes several passes is."""
    writes: tuple[Write, ...] = ()
    """What is changed in every pass, before what a plan changes."""

    def counted(self, doing: str, items: Sequence[Item]) -> Iterator[Item]:
        """The items of a loop that runs the model for each, with a word of how many are done."""
        for number, item in enumerate(items):
            if self.progress is not None:
                self.progress(doing, number, len(items))
            yield item

    def run(
        self, text: InputRecord, plan: Plan, receive: Callable[[CaughtTensor], None], *, copies: int = 1
    ) -> list[str]:
        """Run the loaded model on a text, or on `copies` of it at once, and receive what the plan wants.

        Copies are no other texts, so nothing is padded; an edit of each can differ. See capture.run.
        """
        inputs = {name: each.repeat(copies, *(1,) * (each.ndim - 1)) for name, each in self.inputs(text).items()}
        plan = replace(plan, writes=(*self.writes, *plan.writes)) if self.writes else plan
        locating.settle(self.model, len(text.tokens))
        try:
            with quiet():
                return capture.run(self.model, inputs, plan, receive)
        except PassError as error:
            raise InspectError(f"{self.subject.source.name!r} could not be run: its {error}") from error

    def inputs(self, text: InputRecord) -> dict[str, Tensor]:
        """What a running model is called with for a text."""
        return {key: tensor.to(self.model.device) for key, tensor in model_inputs(self.model, text).items()}
