"""Where a model holds what tells two texts apart: each part of one text's pass is put into the other's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isfinite, nan
from typing import TYPE_CHECKING

from txinspect.answers import decoder_text, limits, sweeping
from txinspect.answers.observing import observe
from txinspect.answers.patches import places, sides
from txinspect.answers.patches.compared import Compared
from txinspect.answers.patches.sides import Sample, Side, Way
from txinspect.answers.question import Question
from txinspect.answers.running import Running
from txinspect.answers.session import Session
from txinspect.commands.patch import (
    LEAST_GAP,
    NOISES,
    SMALL_GAP,
    STEPS,
    CellRecord,
    PatchNoiseRecord,
    PatchQuery,
    PatchReport,
)
from txinspect.errors import InspectError, spelled
from txinspect.forward.changes import put
from txinspect.forward.wants import Plan, plan_of, plan_of_names
from txinspect.loading.subject import Subject
from txinspect.measure import answers
from txinspect.records import InputRecord

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.answers.patches.places import Cell
    from txinspect.texts.opened import Opened


def answer(query: PatchQuery, session: Session) -> PatchReport:
    """The report of `patch`."""
    patching = _Patching(query)
    observed = observe(patching, session)
    compared, where = patching.compared, patching.where
    return observed.report(
        PatchReport,
        "patch",
        last=patching.notes(),
        other_input=None if query.subject is not None else patching.corrupt,
        subject=patching.corrupted,
        deviation=patching.deviation,
        samples=len(patching.samples),
        sweep=query.sweep,
        stack=where.stack,
        cross=query.cross,
        positions=None if where.pairs is None else [list(pair) for pair in where.pairs],
        metric=query.metric,
        answers=compared.records(compared.answers),
        wrong=compared.records(compared.wrong),
        clean=patching.clean,
        corrupt=patching.broken,
        cells=patching.cells,
        noise=PatchNoiseRecord(metric=patching.floor, effect=_share(patching.floor, abs(patching.gap))),
    )


def questions(query: PatchQuery) -> list[_Patching]:
    """What `patch` asks."""
    return [_Patching(query)]


class _Patching(Question[PatchQuery]):
    """Runs each text with each part of the other's pass."""

    def __init__(self, query: PatchQuery) -> None:
        super().__init__(query)
        self.samples: list[Sample] = []
        self.cells: list[CellRecord] = []
        self.corrupted: list[int] | None = None
        self.deviation: float | None = None
        self.floor = 0.0
        self.same = False

    def read(self, opened: Opened) -> InputRecord:
        """The tokens of CLEAN; those of CORRUPT are kept."""
        clean = super().read(opened)
        self.other = clean if self.query.corrupt is None else sides.corrupt(self.query, opened)
        return clean

    def meet(self, subject: Subject, text: InputRecord) -> None:
        """Find what `patch` compares and where it patches; check that both texts can be run."""
        query = self.query
        if decoder_text.is_generated(subject, query):
            raise InspectError(
                f"{subject.source.name!r} would generate what its decoder reads, another text for CLEAN and CORRUPT",
                f"give the decoder's text by {spelled('decoder')}; '' is none but its start token",
            )
        self.model = subject
        self.corrupt = decoder_text.before_the_run(subject, query, self.other, None)
        limits.check_text(subject, self.corrupt, query)
        self.compared = Compared(query, subject, text)
        self.compared.check_other(self.corrupt)
        self.where = places.Places(query, subject, text, self.corrupt)
        if query.subject is not None:
            self.corrupted = places.positions_of(query.subject, query, subject, text, "CLEAN", "subject")
            self.embeddings = sides.embeddings(subject)
        for suffix in self.compared.suffixes():
            limits.check_text(subject, self.compared.extended(text, suffix), query)
        self.text = text
        self.logits = plan_of_names(subject, ["logits"])
        self.swept = sweeping.Sweep(self.logits)

    def plan(self, subject: Subject, text: InputRecord) -> Plan:
        """What the pass of `patch` records: nothing but what comes out, which the weights of a whole pass are for."""
        return plan_of(subject.architecture, [replace(want, reported=False) for want in self.logits.wants])

    def then(self, running: Running) -> None:
        """Run both texts alone, check that they differ, and run each with parts of the other, some at a time."""
        self.samples = list(self._samples(running))
        first = self.samples[0]
        with_text = self.corrupted is None
        self.compared.settle(first.clean.logits[()], first.corrupt.logits[()] if with_text else None)
        self.clean = self._mean([self._metric(each.clean.logits, each) for each in self.samples])
        self.broken = self._mean([self._metric(each.corrupt.logits, each) for each in self.samples])
        self.gap = self.clean - self.broken
        self._check_answers()
        self._check_gap(self._steps(), "two steps of the logits' type")
        cells = list(self.where.cells(first.clean.values[()]))
        ways: tuple[Way, ...] = ("denoise", "noise") if self.query.direction == "both" else (self.query.direction,)
        many = sweeping.at_once(sum(each.numel() for each in first.clean.logits.values()) * len(self.text.main.tokens))
        batches = [(way, cells[begin : begin + many]) for way in ways for begin in range(0, len(cells), many)]
        for way, batch in running.counted("patching parts", batches):
            self.cells += self._patched(way, batch)
            self._check_gap(NOISES * self.floor, "ten times the noise")

    def notes(self) -> list[str]:
        """What to know of the texts of a patch: what was taken where it was not given, and a small gap."""
        found, compared = [], self.compared
        others = "CORRUPT" if self.corrupted is None else "CLEAN"
        taken = (("answer", compared.answers, "CLEAN"), ("wrong", compared.wrong, others))
        said = [
            f"--{name} {compared.spell(ids[0])!r}, the likeliest of {whose}{compared.beside(name)}"
            for name, ids, whose in taken
            if ids and getattr(self.query, name) is None
        ]
        if said:
            found.append(f"Taken: {'; '.join(said)}.")
        if self.same:
            found.append("Both texts have one answer: what is restored is how strongly it is given.")
        if abs(self.gap) < SMALL_GAP:
            found.append(f"CLEAN and CORRUPT are only {abs(self.gap):.3g} apart: a small change is a large effect.")
        return found

    def _samples(self, running: Running) -> Iterator[Sample]:
        """The two sides of each sample."""
        supplies = [each for own in self.where.supplies.values() for each in own]

        def side(running: Running, text: InputRecord) -> Side:
            return sides.side(running, text, self.compared, self.logits, supplies)

        clean = side(running, self.text)
        if self.corrupted is None:
            yield Sample(clean, side(running, self.corrupt))
            return
        at, query = self.corrupted, self.query
        self.deviation, writes = sides.noises(running, self.embeddings, at, query.deviations, query.seed)
        for write in running.counted("corrupting the subject", writes):
            yield Sample(clean, side(sides.with_write(running, write), self.text))

    def _patched(self, way: Way, cells: Sequence[Cell]) -> list[CellRecord]:
        """What each of some parts, patched in a batch, makes of the metric: the mean over the samples."""
        totals, own = [0.0] * len(cells), 0.0
        for sample in self.samples:
            to, source = sample.sides(way)
            plain, null, *patched = [self._metric(each, sample) for each in self._rows(way, cells, to, source)]
            alone = self._metric(to.logits, sample)
            self.floor = max(self.floor, abs(plain - alone), abs(null - plain))
            totals = [total + each / len(self.samples) for total, each in zip(totals, patched, strict=True)]
            own += plain / len(self.samples)
        gap = self.gap if way == "denoise" else -self.gap
        return [
            CellRecord(
                direction=way,
                layer=cell.layer,
                head=cell.head,
                position=None if cell.pair is None else cell.pair[way == "denoise"],
                metric=metric,
                effect=_share(metric - own, gap),
            )
            for cell, metric in zip(cells, totals, strict=True)
        ]

    def _rows(self, way: Way, cells: Sequence[Cell], to: Side, source: Side) -> list[answers.Read]:
        """What is predicted of a text as it is, with its own values patched into it, and with each part of another."""
        found: list[dict[answers.Ids, Tensor]] = [{} for _ in range(len(cells) + sweeping.BESIDE)]
        for suffix, text in to.texts.items():
            own, other = to.values[suffix], source.values[suffix]
            stages = dict.fromkeys(each for cell in cells for each in cell.supplies)
            null = [(each, put(each, own[each])) for each in stages]
            patched = [
                [(each, put(each, other[each], head=cell.head, at=self._at(way, cell))) for each in cell.supplies]
                for cell in cells
            ]
            sets = [[], null, *patched]
            rows = self.swept.rows(to.running, text, sets)
            for reads, logits in zip(found, rows, strict=True):
                reads[suffix] = self.compared.rows(logits, to.text, suffix)
        return list(found)

    def _at(self, way: Way, cell: Cell) -> list[tuple[int, int]] | None:
        """The positions that a part is patched at in a text, each with that in the other."""
        pairs = self.where.pairs if cell.pair is None else [cell.pair]
        return [(other, own) if way == "denoise" else (own, other) for own, other in pairs] if pairs else None

    def _metric(self, read: answers.Read, sample: Sample) -> float:
        compared = self.compared
        return answers.measured(
            self.query.metric, read, sample.clean.logits, compared.answers, compared.wrong, continued=compared.continued
        )

    def _mean(self, values: Sequence[float]) -> float:
        return sum(values) / len(values)

    def _steps(self) -> float:
        """So many steps of the logits' type as a change of the metric."""
        first = self.samples[0]
        step = max(answers.step(rows) for side in (first.clean, first.corrupt) for rows in side.logits.values())
        return STEPS * step * (max(self.clean, self.broken) if self.query.metric == "prob" else 1.0)

    def _check_answers(self) -> None:
        """Raise InspectError where both texts have one answer, so that there is nothing to restore."""
        if self.corrupted is not None:
            return
        if self.query.metric == "logit-difference":
            same = (self.clean > 0) == (self.broken > 0)
            said = f"{self.compared.of()} is {self.clean:.4g} for CLEAN and {self.broken:.4g} for CORRUPT"
        else:
            first = self.samples[0]
            left, right = (side.logits[()].argmax(-1) for side in (first.clean, first.corrupt))
            same = bool((left == right).all())
            said = f"{self.compared.spell(tuple(left.tolist()))!r} is the likeliest for CLEAN and for CORRUPT"
        self.same = same
        if same and not self.query.force:
            raise InspectError(
                f"both texts have one answer: {said}",
                f"give texts with different ones, or add {spelled('force', True)}",
            )

    def _check_gap(self, least: float, what: str) -> None:
        """Raise InspectError for texts that differ by less than can be told from nothing."""
        if self.query.force:
            return
        gap, limit = abs(self.gap), max(least, LEAST_GAP)
        of = f"the {self.query.metric} of {self.compared.of()}"
        said = f"{of} is {self.clean:.6g} for CLEAN and {self.broken:.6g} for CORRUPT"
        if not isfinite(gap):
            raise InspectError(
                f"{said}: that is no gap to be restored", f"give other texts, or add {spelled('force', True)}"
            )
        if gap < limit:
            least_of = what if limit > LEAST_GAP else "the least that is told"
            raise InspectError(
                f"{said}: a gap of {gap:.2g} is below {limit:.2g}, {least_of}",
                f"give texts that differ more, or add {spelled('force', True)}",
            )


def _share(change: float, gap: float) -> float | None:
    """A change as a share of the gap; None where that is no number."""
    found = change / gap if gap else nan
    return found if isfinite(found) else None
