"""The positions of a text: embeddings that are added, or what the model has in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from txinspect.answers.observing import observe
from txinspect.answers.question import Question
from txinspect.answers.session import Session
from txinspect.answers.tensors import name_of
from txinspect.commands.pos import LAYOUTS, PosQuery, PosReport, SinusoidsRecord
from txinspect.forward.wants import Plan, in_stacks
from txinspect.loading.subject import Subject
from txinspect.measure import sinusoids
from txinspect.records import InputRecord

if TYPE_CHECKING:
    from txinspect.forward.capture import CaughtTensor


def answer(query: PosQuery, session: Session) -> PosReport:
    """The report of `pos`."""
    asked = _Positions(query)
    observed = observe(asked, session)
    return observed.report(PosReport, "pos", last=list(map(_sentence, asked.found)), sinusoids=asked.found)


def questions(query: PosQuery) -> list[_Positions]:
    """What `pos` asks."""
    return [_Positions(query)]


class _Positions(Question[PosQuery]):
    """The embeddings of positions, and which of them are sinusoids."""

    token_rows = True

    def __init__(self, query: PosQuery) -> None:
        super().__init__(query)
        self.found: list[SinusoidsRecord] = []

    def plan(self, subject: Subject, text: InputRecord) -> Plan:
        """What `pos` records: the position embeddings of both stacks."""
        return in_stacks(subject, "position_embeddings")

    def look(self, caught: CaughtTensor) -> None:
        """Recognise, for `pos`, a table of positions that is made of sinusoids."""
        tensor = caught.tensor.whole()
        rows = tensor[0] if tensor.ndim == 3 and tensor.shape[0] == 1 else tensor
        table = sinusoids.recognised(rows) if rows.ndim == 2 else None
        if table is not None:
            record = SinusoidsRecord(
                name=name_of(caught), layout=table.layout, first_position=table.first, max_difference=table.off
            )
            self.found.append(record)


def _sentence(table: SinusoidsRecord) -> str:
    start = f", from position {table.first_position} on" if table.first_position else ""
    return (
        f"{table.name} is made of sinusoids: {LAYOUTS[table.layout]}{start}; the largest difference from the formula "
        f"is {table.max_difference:.2g}."
    )
