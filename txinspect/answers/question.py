"""What a command asks of a pass through a model: what to read, what to record, what to do with it as it comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from txinspect.edits import Edit
from txinspect.forward.wants import Plan
from txinspect.loading.subject import Subject
from txinspect.queries import PassQuery
from txinspect.records import InputRecord, SentenceRecord
from txinspect.texts.opened import Opened
from txinspect.texts.reading import encode

if TYPE_CHECKING:
    from txinspect.answers.running import Running
    from txinspect.answers.saving import KeptTensor
    from txinspect.forward.capture import CaughtTensor

QueryType = TypeVar("QueryType", bound=PassQuery[Any])


class Question(Generic[QueryType]):
    """A query about a pass. Each command's own says what differs from these."""

    token_rows: ClassVar[bool] = False
    """Whether statistics of each token's vector are reported."""

    decoder: SentenceRecord | None = None
    """What the decoder of an encoder–decoder reads, where that is known."""

    def __init__(self, query: QueryType) -> None:
        self.query = query

    @property
    def names(self) -> tuple[str, ...]:
        """Stages and modules that are asked for by name: one that a model does not have is refused before torch is
        imported."""
        return ()

    @property
    def edits(self) -> Sequence[Edit]:
        """What the pass of a question does differently, as it was asked to."""
        edits: Sequence[Edit] = getattr(self.query, "changes", ())
        return edits

    @property
    def more_tensors(self) -> Mapping[str, KeptTensor]:
        """Tensors that a question made of what it saw, which are kept and saved beside those recorded."""
        return {}

    @property
    def told(self) -> Mapping[str, str]:
        """What a file of a question's tensors says of how they were made."""
        return {}

    def read(self, opened: Opened) -> InputRecord:
        """The tokens that the model runs on for a question."""
        return encode(self.query, opened)

    def others(self, opened: Opened) -> list[InputRecord]:
        """More texts that a question is about, each of which runs by itself, as the second run and so on."""
        return []

    def meet(self, subject: Subject, text: InputRecord) -> None:
        """Learn which model and text the question is about; once more where the decoder's text was generated since.

        Raises InspectError for what they cannot answer.
        """

    def plan(self, subject: Subject, text: InputRecord) -> Plan:
        """What the pass of a question records; nothing is changed. Raises InspectError for what cannot be."""
        raise NotImplementedError

    def made(self, caught: CaughtTensor) -> CaughtTensor:
        """What a question reports in the place of a recorded tensor."""
        return caught

    def look(self, caught: CaughtTensor) -> None:
        """Let a question see a tensor of the pass before it is gone."""

    def then(self, running: Running) -> None:
        """What else a question runs the model for after its pass."""
