"""Query → Report: one short function per command. This is the public Python API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING, Any, overload

from txinspect import __version__, describing, planning, quantizing
from txinspect.errors import SourceError, StageError
from txinspect.queries import (
    AttnQuery,
    EmbedQuery,
    PlanQuery,
    PosQuery,
    Query,
    RunQuery,
    StagesQuery,
    TensorQuery,
    TokenizeQuery,
    TreeQuery,
)
from txinspect.records import (
    SCHEMA_VERSION,
    AttnReport,
    HeadRecord,
    InputRecord,
    PlanReport,
    Report,
    StageRecord,
    StagesReport,
    TensorRecord,
    TensorsReport,
    TokenizeReport,
    TreeReport,
)
from txinspect.source import Source, read_config, resolve
from txinspect.subject import Notify, Subject, load_subject
from txinspect.wording import short_bytes, some_of

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from txinspect.capture import Caught
    from txinspect.rehearsing import Rehearsal


@overload
def inspect(query: TokenizeQuery, notify: Notify = ...) -> TokenizeReport: ...
@overload
def inspect(query: TreeQuery, notify: Notify = ...) -> TreeReport: ...
@overload
def inspect(query: StagesQuery, notify: Notify = ...) -> StagesReport: ...
@overload
def inspect(query: AttnQuery, notify: Notify = ...) -> AttnReport: ...
@overload
def inspect(query: EmbedQuery | PosQuery | RunQuery, notify: Notify = ...) -> TensorsReport: ...
@overload
def inspect(query: PlanQuery, notify: Notify = ...) -> PlanReport: ...
@overload
def inspect(query: Query, notify: Notify = ...) -> Report: ...
def inspect(query: Query, notify: Notify = lambda _: None) -> Report:
    """Answer a query with its report.

    `notify` is told what is going on, such as 'loading opt-mini'. Raises InspectError, with one sentence, for what
    cannot be done.
    """
    return _answer(query, notify)


@singledispatch
def _answer(query: Query, notify: Notify) -> Report:
    raise TypeError(f"{type(query).__name__} is no query that txinspect answers")


@_answer.register
def _(query: TokenizeQuery, notify: Notify) -> TokenizeReport:
    source = resolve(query.model)
    raw = read_config(source)
    return TokenizeReport(
        **_head("tokenize"),
        model=describing.unbuilt_model_record(source, raw),
        input=_encode(query, source),
    )


@_answer.register
def _(query: TreeQuery, notify: Notify) -> TreeReport:
    from txinspect import accounting, tree

    subject = load_subject(resolve(query.model), query.model, notify)
    record = describing.model_record(subject, subject.shown)
    notes, stored = [], dict[str, tree.Size]()
    try:
        stored = accounting.stored_sizes(subject) if query.model.dtype == "auto" else {}
    except SourceError as error:
        notes.append(f"Types and sizes are those of config.json: {error}.")
    if query.model.dtype != "auto":
        notes.append(f"--dtype {query.model.dtype}: sizes are those after the conversion, not as stored.")
    return TreeReport(
        **_head("tree", [*notes, *_loading_notes(subject)]),
        model=record,
        quantization=subject.quantization,
        modules=tree.module_records(subject.shown, stored),
        totals=tree.totals(subject.skeleton if subject.quantization else subject.shown, stored),
    )


@_answer.register
def _(query: StagesQuery, notify: Notify) -> StagesReport:
    subject = load_subject(resolve(query.model), query.model, notify)
    stages = [
        StageRecord(
            name=supply.name,
            axes=list(supply.axes) if supply.axes else None,
            module=supply.module,
            class_=supply.class_name,
            available=supply.available,
            reason=supply.reason,
            note=supply.note,
        )
        for supply in planning.listed(subject.architecture.supplies())
    ]
    return StagesReport(
        **_head("stages", _loading_notes(subject)),
        model=describing.model_record(subject, subject.shown),
        stages=stages,
        quantization=subject.quantization,
    )


@_answer.register
def _(query: EmbedQuery, notify: Notify) -> TensorsReport:
    return TensorsReport(**_observe(query, notify, "embed"))


@_answer.register
def _(query: PosQuery, notify: Notify) -> TensorsReport:
    return TensorsReport(**_observe(query, notify, "pos"))


@_answer.register
def _(query: RunQuery, notify: Notify) -> TensorsReport:
    return TensorsReport(**_observe(query, notify, "run"))


@_answer.register
def _(query: AttnQuery, notify: Notify) -> AttnReport:
    heads: list[HeadRecord] = []

    def look(caught: Caught) -> None:
        if caught.want.supply.part == "weights" and len(caught.tensor.shape) == 4:
            heads.extend(describing.head_records(caught))

    fields = _observe(query, notify, "attn", look)
    return AttnReport(**fields, layer=query.layer, heads=heads)


@_answer.register
def _(query: PlanQuery, notify: Notify) -> PlanReport:
    from txinspect import accounting

    prepared = _prepare(query.of, notify)
    subject = prepared.subject
    return PlanReport(
        **_head("plan", [*prepared.plan.notes, *_loading_notes(subject)]),
        model=describing.model_record(subject, subject.shown),
        input=prepared.text,
        asked=list(dict.fromkeys(want.supply.name for want in prepared.plan.wants)),
        loading=accounting.plan(subject, query.of.model, prepared.rehearsal),
        quantization=subject.quantization,
    )


def _observe(
    query: TensorQuery,
    notify: Notify,
    command: str,
    look: Callable[[Caught], None] = lambda _: None,
) -> dict[str, Any]:
    """Run the model once and return the fields of the report; `look` sees every tensor before it is gone."""
    from txinspect import accounting, architecture, capture, checking, loading, saving, weights

    prepared = _prepare(query, notify)
    subject, plan, text, source = prepared.subject, prepared.plan, prepared.text, prepared.subject.source
    _, size = accounting.in_memory(subject, prepared.rehearsal.uses)
    notify(f"loading {short_bytes(size)} of weights of {source.name}")
    loaded = weights.load(subject, query.model, prepared.rehearsal.uses)
    model = loaded.model
    records: list[TensorRecord] = []
    kept: dict[str, Tensor] = {}

    def receive(caught: Caught) -> None:
        look(caught)
        record = describing.tensor_record(caught, subject, text, query)
        records.append(record)
        if query.save:
            kept[record.name] = caught.tensor.whole().detach().to("cpu", copy=True).contiguous()

    notify(f"running {source.name} on {len(text.tokens)} tokens")
    architecture.settle(model, len(text.tokens))
    until = planning.until(subject, plan)
    inputs = {name: tensor.to(model.device) for name, tensor in _inputs(model, text).items()}
    with loading.quiet():
        idle = capture.run(model, inputs, plan.wants, receive, skip_norm=plan.skip_norm, until=until)
        checks = checking.check(model, subject.architecture, inputs, idle) if query.check else None
    if not records:
        raise StageError(f"{idle[0]!r} passed no tensor on: its module did not run in this pass")
    records, kept = describing.numbered(records, kept)
    notes = [
        *plan.notes,
        *_loading_notes(subject),
        *([f"{some_of(idle)}: passed no tensor on in this pass."] if idle else []),
    ]
    if query.save:
        notes += saving.save(query.save, kept, records, source.name)
    return _head(command, notes) | {
        "model": describing.model_record(subject, model),
        "input": text,
        "tensors": records,
        "saved": str(query.save) if query.save else None,
        "checks": checks,
        "loading": accounting.done(subject, query.model, prepared.rehearsal, loaded),
        "quantization": subject.quantization,
    }


@dataclass(frozen=True)
class _Prepared:
    """All that a pass needs but the weights."""

    subject: Subject
    plan: planning.Plan
    text: InputRecord
    rehearsal: Rehearsal


def _prepare(query: TensorQuery, notify: Notify) -> _Prepared:
    """The tokens, the model without weights, what is to be recorded, and which weights that takes."""
    from txinspect import loading, rehearsing, saving, weights

    source = resolve(query.model)
    read_config(source)
    try:
        text = _encode(query, source)
    except SourceError:
        # A config that no model can be built from often fails in the tokenizer first: that error says more.
        load_subject(source, query.model, notify)
        raise
    if query.save:
        saving.check_writable(query.save)
    subject = load_subject(source, query.model, notify, len(text.tokens))
    plan = planning.plan(subject, query)
    planning.check_length(subject, text, query)
    with loading.quiet():
        rehearsal = (
            # A check runs the whole model.
            rehearsing.whole(subject)
            if query.check
            else rehearsing.rehearse(subject, _inputs(subject.skeleton, text), plan)
        )
    if weights.device_for(query.model) == "cpu":
        quantizing.check_widths(subject.shown, query.model, rehearsal.uses)
    return _Prepared(subject, plan, text, rehearsal)


def _loading_notes(subject: Subject) -> list[str]:
    """What to know of how the model is loaded."""
    source = subject.source
    notes = [f"The adapter {source.name} is on {source.base}."] if source.adapter else []
    return notes + ([quantizing.sentence(subject.quantization)] if subject.quantization else [])


def _encode(query: TokenizeQuery | TensorQuery, source: Source) -> InputRecord:
    from txinspect import tokens

    return tokens.encode(source, query.text, special=query.special, trust_remote_code=query.model.trust_remote_code)


def _inputs(model: PreTrainedModel, text: InputRecord) -> dict[str, Tensor]:
    """What the model is called with; (batch, seq) each, on the CPU."""
    import torch

    from txinspect import architecture

    ids = torch.tensor(text.input_ids)
    mask = torch.tensor(text.attention_mask)
    # A model that reads several rows of ids is given the text's in each.
    return {"input_ids": ids.repeat(architecture.rows_of_ids(model), 1), "attention_mask": mask}


def _head(command: str, notes: Sequence[str] = ()) -> dict[str, Any]:
    """The fields that every report begins with."""
    return {
        "schema_version": SCHEMA_VERSION,
        "txinspect": __version__,
        "command": command,
        "notes": list(notes),
    }
