"""Run a model once and record what a query wants."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from txinspect.anatomy.names import names_of
from txinspect.answers import decoder_text, reading, saving, soundness, tensors
from txinspect.answers.question import Question
from txinspect.answers.reporting import head, loading_notes, surplus_notes
from txinspect.answers.running import Running
from txinspect.answers.saving import Destination, KeptTensor
from txinspect.answers.windows import Window, windows
from txinspect.errors import InspectError, SourceError, StageError, spelled
from txinspect.forward import checking
from txinspect.forward.capture import CaughtTensor
from txinspect.forward.inputs import model_inputs
from txinspect.forward.wants import Plan, check_layers, check_names
from txinspect.models import cost, describing, device, partial, seen, uses
from txinspect.models.opened import Opened
from txinspect.models.quantization import bitsandbytes
from txinspect.models.quiet import quiet
from txinspect.models.subject import Subject, context, load_subject
from txinspect.models.uses import Uses
from txinspect.queries import Notify, PassQuery
from txinspect.records import (
    CheckRecord,
    InputRecord,
    LoadingRecord,
    ModelRecord,
    QuantizationRecord,
    SentenceRecord,
    TensorRecord,
)
from txinspect.sources.config import layer_count, number
from txinspect.sources.source import Source
from txinspect.stages import ENCODER
from txinspect.wording import short_bytes, some_of

if TYPE_CHECKING:
    pass

LONGEST_TOKENS = 64
"""Characters that a token has at most, on average."""

UNSTATED = 65_536
"""Positions of a model that says nothing of them, where a text is too long to be true."""

BEYOND = 4
"""Times the positions that a model was made for beyond which its attention would take hours."""


@dataclass(frozen=True)
class Preparation:
    """All that a pass needs but the weights."""

    subject: Subject
    plan: Plan
    text: InputRecord
    windows: list[Window]
    """The text itself, or its parts where it is beyond the model's positions."""
    uses: Uses
    generates: bool
    """Whether the model has yet to generate its decoder's text: until then as many start tokens stand for it."""
    destination: Destination | None
    """Where the tensors are to be written; None if they are not."""


@dataclass(frozen=True)
class Observation:
    """What a pass came to: the fields of a report about tensors."""

    model: ModelRecord
    notes: list[str]
    input: InputRecord
    findings: list[str]
    tensors: list[TensorRecord]
    saved: str | None
    replaced: bool
    checks: list[CheckRecord] | None
    loading: LoadingRecord
    quantization: QuantizationRecord | None

    def fields(self, command: str) -> dict[str, Any]:
        """The fields of a command's report."""
        return head(command) | vars(self)


def observe(question: Question[Any], notify: Notify, opened: Opened | None = None) -> Observation:
    """Run the model of a question once and record what it wants; an `opened` one where it is at hand.

    A text beyond the model's positions runs in windows where the query has a step for them. Raises InspectError for
    what cannot be done.
    """
    query = question.query
    prepared = prepare(question, notify, opened)
    subject, name = prepared.subject, prepared.subject.source.name
    _, size = cost.in_memory(subject, prepared.uses.modules)
    notify(f"loading {short_bytes(size)} of weights of {name}")
    loaded = partial.load(subject, query.model, prepared.uses.modules)
    model = loaded.model
    running = Running(subject, model)
    if prepared.generates:
        notify(f"generating up to {query.new} tokens with {name}")
        prepared = _with_generated(prepared, question, running)
    plan, text = prepared.plan, prepared.text
    records: list[TensorRecord] = []
    kept: dict[str, KeptTensor] = {}

    def receive(caught: CaughtTensor) -> None:
        caught = question.made(caught)
        question.look(caught)
        if not caught.want.reported:
            return
        record = tensors.tensor_record(caught, subject, text, values=query.values, token_rows=question.token_rows)
        records.append(record)
        if query.save:
            kept[record.name] = KeptTensor(caught.copied(), record.axes, record.coordinates)

    notify(f"running {name} on {len(text.tokens)} tokens")
    first = prepared.windows[0].text
    idle = running.run(first, plan, receive)
    for index, window in enumerate(prepared.windows[1:], 2):
        running.run(window.text, plan, lambda caught, index=index: receive(replace(caught, run=index)))  # type: ignore[misc]
    with quiet():
        checks = checking.check(model, subject.architecture, running.inputs(first)) if query.check else []
    question.then(running)
    if not records and any(want.reported for want in plan.wants):
        raise StageError(f"{idle[0]!r} passed no tensor on: its module did not run in this pass")
    records, kept = tensors.numbered(records, kept)
    findings = soundness.findings(records)
    cautions = [*reading.notes(text), *plan.notes, *surplus_notes(subject, loaded.names)]
    if idle:
        cautions.append(f"{some_of(idle)} passed no tensor on in this pass.")
    destination = prepared.destination
    if destination is not None:
        cautions += saving.save(destination.path, kept, name, text.text, destination)
    return Observation(
        model=describing.model_record(subject, model),
        notes=[*findings, *cautions, *loading_notes(subject)],
        input=text,
        findings=findings,
        tensors=records,
        saved=str(query.save) if query.save else None,
        replaced=destination is not None and destination.replaces,
        checks=[*checks, *soundness.checks(records, query.fail_on)] if query.check or query.fail_on else None,
        loading=cost.done(subject, query.model, prepared.uses, loaded),
        quantization=subject.quantization,
    )


def prepare(question: Question[Any], notify: Notify, opened: Opened | None = None) -> Preparation:
    """The tokens, the model without weights, what is to be recorded, and which weights that takes.

    A stage that a model seen before does not have is refused before torch is imported.
    Raises InspectError for what cannot be done.
    """
    query, opened = question.query, opened or Opened(question.query.model)
    source, raw = opened.source, opened.source.config
    layers = layer_count(raw)
    if layers is not None and raw.get("is_encoder_decoder") is not True:  # else each stack has a count of its own
        check_layers(source.name, query.layers_asked, layers)
    _check_size(query, source)
    try:
        text = question.read(opened)
    except SourceError:
        # A config that no model can be built from often fails in the tokenizer first: that error says more.
        load_subject(opened, notify)
        raise
    destination = None
    if query.save:
        destination = saving.check_destination(query.save, [source], overwrite=query.overwrite)
    known = seen.recall(source, query.model)
    if known is not None and question.names:
        check_names(known, source.name, question.names)
    subject = load_subject(opened, notify, len(text.tokens))
    if known is None and subject.task.headless is None:
        seen.remember(source, query.model, names_of(subject.architecture))
    text = decoder_text.before_the_run(subject, query, text, question.decoder)
    plan = question.plan(subject, text)
    limit = context(subject)
    if query.window_step is not None and limit is not None and query.window_step > limit:
        raise InspectError(
            f"{spelled('stride')} {query.window_step} would leave tokens out: give at most {limit}, the positions of "
            f"{source.name!r}"
        )
    parts = windows(text, limit, query.window_step if not subject.has_decoder else None)
    advice = query.too_long if subject.task.name == "causal-lm" else query.too_long_unread
    _check_text(subject, parts[0].text, advice, given=query.ids is not None)
    with quiet():
        plan, used = _rehearsed(subject, parts[0].text, plan)
    made_here = question.decoder is None and decoder_text.is_generated(subject, query)
    generates = made_here and any(want.supply.stack != ENCODER for want in plan.wants)
    if made_here and not generates:
        text = decoder_text.with_start_alone(subject, query, text)
        parts = windows(text, limit, query.window_step if not subject.has_decoder else None)
    if query.check or generates:  # a check runs the whole model, and so does what generates
        used = uses.whole(subject)
    if device.device_for(query.model) == "cpu":
        bitsandbytes.check_widths(subject.as_loaded, query.model, used.modules)
    return Preparation(subject, plan, text, parts, used, generates, destination)


def _with_generated(prepared: Preparation, question: Question[Any], running: Running) -> Preparation:
    """The preparation with what the model generates in its decoder's text, and a plan for it."""
    subject = prepared.subject
    with quiet():
        inputs = running.inputs(prepared.text)
        text, notes = decoder_text.generated(subject, question.query, prepared.text, running.model, inputs)
    plan = question.plan(subject, text)
    plan = replace(plan, runs=prepared.plan.runs, notes=(*plan.notes, *notes))
    return replace(prepared, text=text, plan=plan, windows=windows(text, None, None))


def _rehearsed(subject: Subject, text: InputRecord, plan: Plan) -> tuple[Plan, Uses]:
    """A plan that knows how often modules run, and the modules whose weights it uses."""
    from txinspect.forward.rehearsal import rehearse, with_runs  # written with torch

    inputs = model_inputs(subject.as_configured, text)
    plan = with_runs(subject, inputs, plan)
    return plan, rehearse(subject, inputs, plan)


def _check_size(query: PassQuery[Any], source: Source) -> None:
    """Raise InspectError for a text that is far too long for the model, before it is even tokenized."""
    positions = number(source.config, "max_position_embeddings")
    most = (positions or UNSTATED) * LONGEST_TOKENS
    if query.fits and query.window_step is None and len(query.text) > most:
        raise InspectError(
            f"the text has {len(query.text):,} characters, far more than {source.name!r} has positions"
            f"{f', {positions:,}' if positions else ''}: {query.too_long}"
        )


def _check_text(subject: Subject, text: InputRecord, too_long: str, *, given: bool) -> None:
    """Raise InspectError for a text with more tokens, or other ones, than the model has rows for; `given` are ids."""
    count, limit = len(text.tokens), subject.architecture.max_positions
    if limit is not None and count > limit:
        raise InspectError(
            f"the text is {count} tokens long, but {subject.source.name!r} has {limit} positions: {too_long}"
        )
    stated = context(subject) or UNSTATED
    if count > BEYOND * stated:
        raise InspectError(
            f"the text is {count:,} tokens long, more than {BEYOND} times the {stated:,} that "
            f"{subject.source.name!r} was made for: {too_long}"
        )
    if text.decoder is not None:
        _check_decoder(subject, text.decoder)
    rows = getattr(subject.as_configured.get_input_embeddings(), "num_embeddings", None)
    largest = max(text.tokens, key=lambda token: token.id)
    if rows is not None and largest.id >= rows and given:
        raise InspectError(
            f"{spelled('ids')} {largest.id} is beyond the vocabulary of {subject.source.name!r}: give ids from 0 to "
            f"{rows - 1}"
        )
    if rows is not None and largest.id >= rows:
        raise InspectError(
            f"the tokenizer of {subject.source.name!r} gives token id {largest.id}, but the embedding table has {rows} "
            f"rows: the tokenizer does not belong to these weights"
        )


def _check_decoder(subject: Subject, sentence: SentenceRecord) -> None:
    """Raise InspectError for a decoder's text with more tokens than the decoder has positions."""
    count, limit = len(sentence.tokens), subject.architecture.main.max_positions
    if limit is not None and count > limit:
        raise InspectError(
            f"the decoder's text is {count} tokens long with its start token, but the decoder of "
            f"{subject.source.name!r} has {limit} positions: shorten {spelled('decoder')}"
        )
