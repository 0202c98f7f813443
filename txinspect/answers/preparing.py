"""All that a pass needs but the weights: the tokens, the model's modules, what is recorded and what that takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from txinspect.anatomy.names import names_of
from txinspect.answers import decoder_text, editing, limits, saving
from txinspect.answers.question import Question
from txinspect.answers.session import AtHand, Session
from txinspect.errors import SourceError
from txinspect.forward.inputs import model_inputs
from txinspect.forward.wants import Plan, check_names
from txinspect.guards.quiet import quiet
from txinspect.loading import device, seen, uses
from txinspect.loading.quantization import bitsandbytes
from txinspect.loading.subject import Subject, context
from txinspect.queries import PassQuery
from txinspect.records import InputRecord
from txinspect.stage_names import ENCODER
from txinspect.texts.windows import Window, windows

MOST_REHEARSED = 256
"""Lengths and stages of which a model at hand remembers what a pass uses."""


@dataclass(frozen=True)
class Preparation:
    """All that a pass needs but the weights."""

    subject: Subject
    plan: Plan
    text: InputRecord
    windows: list[Window]
    """The text itself, or its parts where it is beyond the model's positions; then the question's other texts."""
    uses: uses.Uses
    generates: bool
    """Whether the model has yet to generate its decoder's text: until then as many start tokens stand for it."""
    destination: saving.Destination | None
    """Where the tensors are to be written; None if they are not."""
    editing: editing.Editing
    """What the pass does differently, as it was asked to."""


def prepare(question: Question[Any], session: Session) -> Preparation:
    """Prepare a pass: all that a question needs of a model but its weights.

    A stage that a model seen before does not have is refused before torch is imported. Raises InspectError for what
    cannot be done.
    """
    query, model = question.query, session.model(question.query.model)
    opened = model.opened
    limits.check_layer_numbers(query, opened.source)
    limits.check_size(query, opened.source)
    text = _read(question, model)
    destination = None
    if query.save:
        destination = saving.check_destination(query.save, [opened.source], overwrite=query.overwrite)
    subject = _loaded(question, model, len(text.tokens))
    text = decoder_text.before_the_run(subject, query, text, question.decoder)
    question.meet(subject, text)
    plan = question.plan(subject, text)
    limits.check_step(subject, query)
    parts = _parts(subject, query, text)
    limits.check_text(subject, parts[0].text, query)
    with quiet():
        plan, used = _rehearsed(model, subject, parts[0].text, plan)
    made_here = question.decoder is None and decoder_text.is_generated(subject, query)
    generates = made_here and any(want.supply.stack != ENCODER for want in plan.wants)
    if made_here and not generates:
        text = decoder_text.with_start_alone(subject, query, text)
        parts = _parts(subject, query, text)
    if query.check or generates:  # a check runs the whole model, and so does what generates
        used = uses.of_all_modules(subject)
    if device.device_for(query.model) == "cpu":
        bitsandbytes.check_widths(subject.as_loaded, query.model, used.modules)
    parts += [Window(each, 0, 0) for each in question.others(opened)]
    edited = editing.Editing(question.edits, query, subject, text, generates=generates)
    edited.check_reached(used)
    return Preparation(subject, plan, text, parts, used, generates, destination, edited)


def with_generated(prepared: Preparation, question: Question[Any], text: InputRecord, notes: list[str]) -> Preparation:
    """The preparation of a pass on a text with what the model generated for its decoder."""
    question.meet(prepared.subject, text)
    plan = question.plan(prepared.subject, text)  # its rows were those of the start tokens
    plan = replace(plan, runs=prepared.plan.runs, notes=(*plan.notes, *notes))
    return replace(prepared, text=text, plan=plan, windows=windows(text, None, None))


def _read(question: Question[Any], model: AtHand) -> InputRecord:
    """The tokens of a question, read while its pass is prepared."""
    try:
        return question.read(model.opened)
    except SourceError:
        # A config that no model can be built from often fails in the tokenizer first: that error says more.
        model.subject()
        raise


def _loaded(question: Question[Any], model: AtHand, length: int) -> Subject:
    """The model without weights for a pass, after the names asked for were looked up where it was seen before."""
    opened = model.opened
    if model.has_subject(length):
        return model.subject(length)
    known = seen.recall(opened.source, opened.choice)
    if known is not None and question.names:
        check_names(known, opened.source.name, question.names)
    subject = model.subject(length)
    if known is None and subject.task.headless is None:
        seen.remember(opened.source, opened.choice, names_of(subject.architecture))
    return subject


def _parts(subject: Subject, query: PassQuery[Any], text: InputRecord) -> list[Window]:
    """The text to prepare, or its windows where the query has a step for them and the model is no encoder–decoder."""
    return windows(text, context(subject), query.window_step if not subject.has_decoder else None)


def _rehearsed(model: AtHand, subject: Subject, text: InputRecord, plan: Plan) -> tuple[Plan, uses.Uses]:
    """A prepared plan that knows how often modules run, and the modules whose weights the pass uses.

    Where weights stay, the same stages of a text of the same length use the same ones. On opt-mini a
    rehearsal is three quarters of a question's time.
    """
    from txinspect.forward.rehearsal import rehearse, with_runs  # written with torch

    inputs = model_inputs(subject.as_configured, text)
    is_plain = not (plan.watches or plan.edits or plan.writes)  # those may use other modules
    wants = tuple((want.supply.name, want.by_glob, want.reported) for want in plan.wants)
    key = (id(subject), tuple((name, tuple(each.shape)) for name, each in inputs.items()), wants, plan.until)
    if is_plain and key in model.rehearsed:
        runs, used = model.rehearsed[key]
        return replace(plan, runs=runs), used
    plan = with_runs(subject, inputs, plan)
    used = rehearse(subject, inputs, plan)
    if is_plain:
        if len(model.rehearsed) >= MOST_REHEARSED:
            model.rehearsed.clear()
        model.rehearsed[key] = plan.runs, used
    return plan, used
