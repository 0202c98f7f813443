"""Two ways of running, stage by stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from txinspect.answers import dumps, saving
from txinspect.answers.differences import against_file, reruns, verdict
from txinspect.answers.differences.alignment import Alignment
from txinspect.answers.differences.comparison import Comparison
from txinspect.answers.differences.sides import OtherSide, Side, read_alone, side
from txinspect.answers.observing import Observation, observe
from txinspect.answers.reporting import head
from txinspect.answers.running import Running
from txinspect.answers.session import Session
from txinspect.commands.diff import DiffQuery, DiffReport
from txinspect.errors import StageError
from txinspect.loading.subject import Subject
from txinspect.records import InputRecord
from txinspect.sources.resolving import resolve
from txinspect.texts.aligning import Pairs

if TYPE_CHECKING:
    from txinspect.forward.capture import CaughtTensor


def answer(query: DiffQuery, session: Session) -> DiffReport:
    """The report of `diff`."""
    comparison = Comparison(query)
    if query.save:
        models = [resolve(each.query.model) for each in questions(query)]
        comparison.destination = saving.check_destination(query.save, models, overwrite=query.overwrite)
    this = observe(_This(comparison), session)
    other: Observation | None = None
    if query.against_file is not None:
        against_file.compare(comparison, dumps.load(query.against_file, query.names))
    elif query.against_attn is None:
        other = observe(_Other(comparison), session)
    return _report(comparison, this, other)


def questions(query: DiffQuery) -> list[Side]:
    """What each side is asked that loads a model."""
    this = Side(query, side(query, query.model))
    if query.against_file is not None or query.against_attn is not None:
        return [this]
    return [this, OtherSide(query)]


class _This(Side):
    """The side that is kept."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(comparison.query, side(comparison.query, comparison.query.model))
        self.comparison = comparison

    def meet(self, subject: Subject, text: InputRecord) -> None:
        """Let the other side of `diff` know the model and the text that it is compared with."""
        self.comparison.subject, self.comparison.text = subject, text
        self.comparison.beside = {supply.name for supply in read_alone(subject, self.comparison.query)}

    def look(self, caught: CaughtTensor) -> None:
        """Keep a tensor of this side, for the other side of `diff` to be compared with."""
        self.comparison.keep(caught)

    def then(self, running: Running) -> None:
        """What else `diff` runs this side's model for: another backend, the noise."""
        reruns.run_again(self.comparison, running)


class _Other(OtherSide):
    """The side that is compared with it as it comes."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(comparison.query)
        self.comparison = comparison
        self.decoder = comparison.text.decoder if comparison.query.against_text is None else None

    def meet(self, subject: Subject, text: InputRecord) -> None:
        """Align the texts of both sides of `diff`; refuse tokens that have nothing to do with this side's."""
        self.comparison.check_other(subject, text)

    def look(self, caught: CaughtTensor) -> None:
        """Compare a tensor of the other side with this side's in `diff`."""
        self.comparison.compare(caught)

    def then(self, running: Running) -> None:
        """What else `diff` runs the other side's model for: each layer alone."""
        reruns.isolate(self.comparison, running)


def _report(comparison: Comparison, this: Observation, other: Observation | None) -> DiffReport:
    """The report of `diff`, of all that the comparison of the two sides gave."""
    from msgspec import structs

    if not comparison.apart:
        what = "name and shape" if comparison.alignment is None else "name whose axes tell where the texts' tokens are"
        raise StageError(f"the two sides have no stage of the same {what}: there is nothing to compare")
    alignment = Alignment.of(this.input, other.input) if other and comparison.alignment else None
    stages = [
        structs.replace(comparison.apart[name], isolated_rel_l2=comparison.isolated.get(name))
        for name in comparison.this
        if name in comparison.apart
    ]
    tolerance = verdict.tolerance_of(comparison)
    first = verdict.first_apart(stages, tolerance)
    findings = [verdict.finding(comparison, stages, first, tolerance)]
    save, to = comparison.query.save, comparison.destination
    written = saving.save(to.path, comparison.saved, this.model.name, this.input, to) if to is not None else []
    return DiffReport(
        **head("diff", [*findings, *comparison.notes, *written, *this.notes, *(other.notes if other else [])]),
        model=this.model,
        against=other.model if other else None,
        way=comparison.query.way,
        given=comparison.query.given,
        input=this.input,
        other_input=other.input if other and alignment else None,
        aligned=_as_lists(alignment.text if alignment else None),
        decoder_aligned=_as_lists(alignment.decoder if alignment else None),
        findings=findings,
        stages=stages,
        first_divergence=first,
        tolerance=tolerance,
        noise=comparison.noise,
        logits=comparison.logits,
        changed=comparison.changed,
        only_this=[name for name in comparison.this if name not in comparison.apart and name not in comparison.beside],
        only_other=comparison.only_other,
        saved=str(save) if save else None,
        replaced=to is not None and to.replaces,
        checks=verdict.checks(comparison, stages, this, other),
    )


def _as_lists(pairs: Pairs | None) -> list[list[int]] | None:
    return None if pairs is None else [list(pair) for pair in pairs]
