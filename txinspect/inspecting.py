"""Query → Report: one short function per command. This is the public Python API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import singledispatch
from typing import TYPE_CHECKING, Any, overload

from txinspect import __version__, describing, planning
from txinspect.errors import SourceError, StageError, some_of
from txinspect.queries import (
    AttnQuery,
    EmbedQuery,
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

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from txinspect.capture import Caught


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
    from txinspect import loading, tree

    subject = load_subject(resolve(query.model), replace(query.model, quantization=None), notify)
    model = subject.skeleton
    record = describing.model_record(subject, query.model, model)
    totals = tree.totals(model)
    notes = []
    if query.model.dtype != "auto":
        notes.append(f"--dtype {query.model.dtype}: sizes are those after the conversion, not as stored.")
    if query.model.quantization:
        loading.quantize_skeleton(model, query.model)
        notes.append(f"--{query.model.quantization} quantizes {totals.linear_modules} linear layers.")
    return TreeReport(**_head("tree", notes), model=record, modules=tree.module_records(model), totals=totals)


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
        **_head("stages"), model=describing.model_record(subject, query.model, subject.skeleton), stages=stages
    )


@_answer.register
def _(query: EmbedQuery, notify: Notify) -> TensorsReport:
    return TensorsReport(
        **_observe(query, notify, "embed", lambda subject: planning.named(subject, ["token_embeddings"]))
    )


@_answer.register
def _(query: PosQuery, notify: Notify) -> TensorsReport:
    return TensorsReport(
        **_observe(query, notify, "pos", lambda subject: planning.named(subject, ["position_embeddings"]))
    )


@_answer.register
def _(query: RunQuery, notify: Notify) -> TensorsReport:
    return TensorsReport(**_observe(query, notify, "run", lambda subject: planning.named(subject, query.stages)))


@_answer.register
def _(query: AttnQuery, notify: Notify) -> AttnReport:
    heads: list[HeadRecord] = []

    def look(caught: Caught) -> None:
        if caught.want.supply.part == "weights" and len(caught.tensor.shape) == 4:
            heads.extend(describing.head_records(caught))

    fields = _observe(query, notify, "attn", lambda subject: planning.attention(subject, query), look)
    return AttnReport(**fields, layer=query.layer, heads=heads)


def _observe(
    query: TensorQuery,
    notify: Notify,
    command: str,
    plan_for: Callable[[Subject], planning.Plan],
    look: Callable[[Caught], None] = lambda _: None,
) -> dict[str, Any]:
    """Run the model once and return the fields of the report; `look` sees every tensor before it is gone."""
    from txinspect import architecture, capture, checking, loading, saving

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
    plan = plan_for(subject)
    planning.check_length(subject, text, query)

    notify(f"loading {source.name}")
    model = loading.load(source, query.model, subject.config)
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
    inputs = _inputs(model, text)
    with loading.quiet():
        idle = capture.run(model, inputs, plan.wants, receive, skip_norm=plan.skip_norm, until=until)
        checks = checking.check(model, subject.architecture, inputs, idle) if query.check else None
    if not records:
        raise StageError(f"{idle[0]!r} passed no tensor on: its module did not run in this pass")
    records, kept = describing.numbered(records, kept)
    notes = [*plan.notes, *([f"{some_of(idle)}: passed no tensor on in this pass."] if idle else [])]
    if query.save:
        notes += saving.save(query.save, kept, records, source.name)
    return _head(command, notes) | {
        "model": describing.model_record(subject, query.model, model),
        "input": text,
        "tensors": records,
        "saved": str(query.save) if query.save else None,
        "checks": checks,
    }


def _encode(query: TokenizeQuery | TensorQuery, source: Source) -> InputRecord:
    from txinspect import tokens

    return tokens.encode(source, query.text, special=query.special, trust_remote_code=query.model.trust_remote_code)


def _inputs(model: PreTrainedModel, text: InputRecord) -> dict[str, Tensor]:
    """What the model is called with; (batch, seq) each."""
    import torch

    from txinspect import architecture

    ids = torch.tensor(text.input_ids, device=model.device)
    mask = torch.tensor(text.attention_mask, device=model.device)
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
