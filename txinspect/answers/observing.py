"""Run a model once and record what a question wants."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from txinspect.answers import decoder_text, saving, soundness, tensors
from txinspect.answers.preparing import Preparation, prepare, with_generated
from txinspect.answers.question import Question
from txinspect.answers.reporting import head, loading_notes, surplus_notes
from txinspect.answers.running import Running
from txinspect.answers.session import Session
from txinspect.errors import StageError
from txinspect.forward import checking
from txinspect.forward.capture import CaughtTensor
from txinspect.forward.layers_done import LayersDone
from txinspect.guards.quiet import quiet
from txinspect.loading import cost, describing
from txinspect.records import (
    CheckRecord,
    EditRecord,
    InputRecord,
    LoadingRecord,
    ModelRecord,
    QuantizationRecord,
    Report,
    TensorRecord,
)
from txinspect.texts import reading
from txinspect.wording import short_bytes, some_of

Kind = TypeVar("Kind", bound=Report)


@dataclass(frozen=True)
class Observation:
    """What a pass came to: the fields of a report about tensors."""

    model: ModelRecord
    cautions: list[str]
    """What else to know before reading the numbers."""
    input: InputRecord
    edits: list[EditRecord]
    """What was changed, in order."""
    findings: list[str]
    tensors: list[TensorRecord]
    saved: str | None
    replaced: bool
    checks: list[CheckRecord] | None
    loading: LoadingRecord
    quantization: QuantizationRecord | None

    @property
    def notes(self) -> list[str]:
        """What was found in an observed pass, and cautions."""
        return [*self.findings, *self.cautions]

    def report(
        self, kind: type[Kind], command: str, *, first: Sequence[str] = (), last: Sequence[str] = (), **own: Any
    ) -> Kind:
        """A command's report of an observed pass, with fields of its `own`; its notes come `first` and `last`."""
        notes = [*self.findings, *first, *self.cautions, *last]
        fields = {name: value for name, value in vars(self).items() if name != "cautions"}
        return kind(**head(command, notes), **fields, **own)


def observe(question: Question[Any], session: Session) -> Observation:
    """Run the model of a question once, observe the pass, and record what the question wants.

    A text beyond the model's positions runs in windows where the query has a step for them. Raises InspectError for
    what cannot be done.
    """
    query = question.query
    prepared = prepare(question, session)
    subject, name = prepared.subject, prepared.subject.source.name
    _, size = cost.in_memory(subject, prepared.uses.modules)
    session.notify(f"loading {short_bytes(size)} of weights of {name}")
    loaded = session.model(query.model).loaded(subject, prepared.uses)
    running = Running(subject, loaded.model, session.progress)
    if prepared.generates:
        session.notify(f"generating up to {query.new} tokens with {name}")
        prepared = _generated(prepared, question, running)
    if session.packing is not None:
        session.packing.begin(subject, prepared.plan.wants)
    running = replace(running, writes=prepared.editing.writes(running, session.opened(query.model)))
    recorder = _Recorder(question, prepared, session)
    doing = f"running {name} on {len(prepared.text.tokens)} tokens"
    session.notify(doing)
    idle = recorder.run(running, doing)
    checks = _checks(question, prepared, running)
    question.then(running)
    if not recorder.records and any(want.reported for want in prepared.plan.wants):
        raise StageError(f"{idle[0]!r} passed no tensor on: its module did not run in this pass")
    records, kept = tensors.numbered(recorder.records, {**recorder.kept, **question.more_tensors})
    if session.attached is not None:
        session.attached |= kept
    findings = [*prepared.editing.said(), *soundness.findings(records)]
    cautions = [*reading.notes(prepared.text), *prepared.plan.notes, *surplus_notes(subject, loaded.names)]
    if idle:
        cautions.append(f"{some_of(idle)} passed no tensor on in this pass.")
    destination = prepared.destination
    if destination is not None:
        cautions += saving.save(destination.path, kept, name, prepared.text, destination, question.told)
    return Observation(
        model=describing.model_record(subject, loaded.model),
        cautions=[*cautions, *loading_notes(subject)],
        input=prepared.text,
        edits=prepared.editing.records(),
        findings=findings,
        tensors=records,
        saved=str(query.save) if query.save else None,
        replaced=destination is not None and destination.replaces,
        checks=_asked_checks(query, checks, records),
        loading=cost.spent(subject, query.model, prepared.uses, loaded),
        quantization=subject.quantization,
    )


class _Recorder:
    """Turns the tensors of a pass into records as they come, and keeps what --save writes."""

    def __init__(self, question: Question[Any], prepared: Preparation, session: Session) -> None:
        self.question, self.prepared, self.packing = question, prepared, session.packing
        self.keeps = bool(question.query.save) or session.attached is not None
        self.records: list[TensorRecord] = []
        self.kept: dict[str, saving.KeptTensor] = {}

    def run(self, running: Running, doing: str) -> list[str]:
        """Run the model on each window to record it; returns the stages that passed nothing on in the first."""
        plan, (first, *others) = self.prepared.plan, self.prepared.windows
        if running.progress is not None:
            layers = [layer.first for stack in running.subject.architecture.stacks for layer in stack.layers]
            counting = LayersDone(doing, layers, len(self.prepared.windows), running.progress)
            plan = replace(plan, watches=(*plan.watches, counting))
        idle = running.run(first.text, plan, self.receive)
        for run, window in enumerate(others, 2):
            running.run(window.text, plan, lambda caught, run=run: self.receive(replace(caught, run=run)))  # type: ignore[misc]
        return idle

    def receive(self, caught: CaughtTensor) -> None:
        """Let the question look at a tensor of the pass, and record it where it is to be reported."""
        question, query = self.question, self.question.query
        caught = question.made(caught)
        question.look(caught)
        if self.packing is not None:
            self.packing.receive(caught)
        if not caught.want.reported:
            return
        subject, text = self.prepared.subject, self.prepared.text
        record = tensors.tensor_record(
            caught, subject, text, values=getattr(query, "values", False), token_rows=question.token_rows
        )
        self.records.append(record)
        if self.keeps:
            self.kept[record.name] = saving.KeptTensor(
                caught.copied(), record.axes, record.coordinates, caught.want.supply.stack
            )


def _generated(prepared: Preparation, question: Question[Any], running: Running) -> Preparation:
    """The preparation of an observed pass, with what the model generates for its decoder."""
    inputs = running.inputs(prepared.text)
    first, most = prepared.subject.architecture.main.layers[:1], question.query.new
    made = (
        LayersDone("generating", [layer.first for layer in first], most, running.progress) if running.progress else None
    )
    with quiet(), made.watching(running.model) if made else nullcontext():
        text, notes = decoder_text.generated(prepared.subject, question.query, prepared.text, running.model, inputs)
    return with_generated(prepared, question, text, notes)


def _asked_checks(query: Any, checks: list[CheckRecord], records: list[TensorRecord]) -> list[CheckRecord] | None:
    """What --check and --fail-on find of an observed pass; None where neither is asked."""
    fail_on = getattr(query, "fail_on", ())
    return [*checks, *soundness.checks(records, fail_on)] if query.check or fail_on else None


def _checks(question: Question[Any], prepared: Preparation, running: Running) -> list[CheckRecord]:
    """What --check finds of an observed model; nothing where it is not asked."""
    if not question.query.check:
        return []
    with quiet():
        return checking.check(running.model, prepared.subject.architecture, running.inputs(prepared.windows[0].text))
