"""Query → Report: one short function per command. This is the public Python API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import TYPE_CHECKING, Any, overload

from txinspect import __version__
from txinspect.errors import InspectError, StageError
from txinspect.queries import (
    AttnQuery,
    EmbedQuery,
    ModelChoice,
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
    KeyRecord,
    ModelRecord,
    QueryRecord,
    Report,
    StageRecord,
    StagesReport,
    TensorRecord,
    TensorsReport,
    TokenizeReport,
    TreeReport,
    WindowRecord,
)
from txinspect.source import Source, read_config, resolve
from txinspect.stages import ATTENTION_PARTS, BY_PART, is_glob, matching, nearest

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel

    from txinspect.architecture import Architecture, Layer, Supply
    from txinspect.capture import Caught, Want

Notify = Callable[[str], None]
"""Told, in a few words, what is going on: loading, running."""

WINDOW = 64
"""Queries and keys in the window that a heatmap draws."""

STRONGEST = 5
"""Keys listed for each query."""


@dataclass(frozen=True)
class _Subject:
    """The model a query is about: where it is, and its modules without weights."""

    source: Source
    config: PretrainedConfig
    skeleton: PreTrainedModel
    architecture: Architecture


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
        model=_unbuilt_model_record(source, raw),
        input=_encode(query, source),
    )


@_answer.register
def _(query: TreeQuery, notify: Notify) -> TreeReport:
    from txinspect import loading, tree

    subject = _subject(replace(query.model, quantization=None), notify)
    model = subject.skeleton
    record = _model_record(subject, query.model, model)
    totals = tree.totals(model)
    notes = []
    if query.model.quantization:
        loading.quantize_skeleton(model, query.model)
        notes.append(f"--{query.model.quantization} quantizes {totals.linear_modules} linear layers.")
    return TreeReport(**_head("tree", notes), model=record, modules=tree.module_records(model), totals=totals)


@_answer.register
def _(query: StagesQuery, notify: Notify) -> StagesReport:
    subject = _subject(query.model, notify)
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
        for supply in _listed(subject.architecture.supplies())
    ]
    return StagesReport(**_head("stages"), model=_model_record(subject, query.model, subject.skeleton), stages=stages)


def _listed(supplies: Sequence[Supply]) -> list[Supply]:
    """The stages to list: without those of other kinds of model, such as routers where no layer has experts."""

    def part(supply: Supply) -> str:
        return supply.name.split(".", 2)[2] if supply.name.startswith("layers.") else supply.name

    present = {part(supply) for supply in supplies if supply.available}
    return [s for s in supplies if part(s) in present or part(s) not in BY_PART or not BY_PART[part(s)].optional]


@_answer.register
def _(query: EmbedQuery, notify: Notify) -> TensorsReport:
    return TensorsReport(**_observe(query, notify, "embed", lambda subject: _named(subject, ["token_embeddings"])))


@_answer.register
def _(query: PosQuery, notify: Notify) -> TensorsReport:
    return TensorsReport(**_observe(query, notify, "pos", lambda subject: _named(subject, ["position_embeddings"])))


@_answer.register
def _(query: RunQuery, notify: Notify) -> TensorsReport:
    return TensorsReport(**_observe(query, notify, "run", lambda subject: _named(subject, query.stages)))


@_answer.register
def _(query: AttnQuery, notify: Notify) -> AttnReport:
    heads: list[HeadRecord] = []

    def look(caught: Caught) -> None:
        if caught.want.supply.part == "weights" and len(caught.tensor.shape) == 4:
            heads.extend(_head_records(caught))

    fields = _observe(query, notify, "attn", lambda subject: _attention(subject, query), look)
    return AttnReport(**fields, layer=query.layer, heads=heads)


@dataclass(frozen=True)
class _Plan:
    """What one forward pass records."""

    wants: list[Want]
    skip_norm: Layer | None = None
    notes: tuple[str, ...] = ()


def _named(subject: _Subject, patterns: Sequence[str]) -> _Plan:
    """The stages and modules that names and globs pick."""
    from txinspect.capture import Want

    chosen: dict[Supply, Want] = {}
    for pattern in sorted(patterns, key=is_glob):
        supplies = _supplies(subject, pattern)
        # Of several modules that can supply a stage, such as rotary tables of two kinds, not all need to run.
        may_be_idle = is_glob(pattern) or len({supply.module for supply in supplies}) > 1
        for supply in supplies:
            chosen.setdefault(supply, Want(supply, by_glob=may_be_idle))
    return _Plan(list(chosen.values()))


def _supplies(subject: _Subject, pattern: str) -> list[Supply]:
    """What one name or glob picks. Raises StageError where the model has nothing of the kind."""
    known: dict[str, list[Supply]] = {}
    for supply in subject.architecture.supplies() + subject.architecture.module_supplies():
        known.setdefault(supply.name, []).append(supply)
    if is_glob(pattern):
        picked = [supply for name in matching(pattern, known) for supply in known[name]]
    else:
        parts = [supply for name in known if name.startswith(pattern + ".") for supply in known[name]]
        picked = known.get(pattern) or (parts if pattern in BY_PART else [])
    available = [supply for supply in picked if supply.available]
    if available:
        return available
    if picked:
        raise StageError(f"{subject.source.name!r} has no stage {pattern!r}: {picked[0].reason}")
    _check_layer_in_name(subject, pattern)
    near = nearest(pattern, list(known))
    hint = f"did you mean {' or '.join(near)}?" if near else "'txinspect stages' and 'txinspect tree' list the names"
    raise StageError(f"{subject.source.name!r} has no stage or module {pattern!r}: {hint}")


def _attention(subject: _Subject, query: AttnQuery) -> _Plan:
    """Everything about one layer's attention."""
    from txinspect.attention import Selection
    from txinspect.capture import Want

    _check_layer(subject, query.layer)
    names = [f"layers.{query.layer}.attention.{part}" for part in ATTENTION_PARTS]
    selection = Selection(query.heads, query.queries)
    supplies = [supply for supply in subject.architecture.supplies() if supply.name in names]
    reasons = tuple(dict.fromkeys(supply.reason for supply in supplies if supply.reason is not None))
    if not any(supply.available for supply in supplies):
        raise StageError(f"{subject.source.name!r}: {reasons[0]}")
    wants = [Want(supply, selection) for supply in supplies if supply.available]
    return _Plan(wants, subject.architecture.layers[query.layer] if query.skip_norm else None, reasons)


def _observe(
    query: TensorQuery,
    notify: Notify,
    command: str,
    plan_for: Callable[[_Subject], _Plan],
    look: Callable[[Caught], None] = lambda _: None,
) -> dict[str, Any]:
    """Run the model once and return the fields of the report; `look` sees every tensor before it is gone."""
    from txinspect import architecture, capture, checking, loading, saving

    source = resolve(query.model)
    read_config(source)
    text = _encode(query, source)
    if query.save:
        saving.check_writable(query.save)
    subject = _subject(query.model, notify, len(text.tokens))
    plan = plan_for(subject)
    _check_length(subject, text, query)

    notify(f"loading {source.name}")
    model = loading.load(source, query.model, subject.config)
    records: list[TensorRecord] = []
    kept: dict[str, Tensor] = {}

    def receive(caught: Caught) -> None:
        look(caught)
        record = _tensor_record(caught, subject, text, query)
        records.append(record)
        if query.save:
            kept[record.name] = caught.tensor.whole().detach().to("cpu", copy=True).contiguous()

    notify(f"running {source.name} on {len(text.tokens)} tokens")
    architecture.settle(model, len(text.tokens))
    until = _until(subject, plan)
    inputs = _inputs(model, text)
    idle = capture.run(model, inputs, plan.wants, receive, skip_norm=plan.skip_norm, until=until)
    if not records:
        raise StageError(f"{idle[0]!r} passed no tensor on: its module did not run in this pass")
    records, kept = _numbered(records, kept)
    notes = [*plan.notes, *([f"{', '.join(idle)}: passed no tensor on in this pass."] if idle else [])]
    if query.save:
        notes += saving.save(query.save, kept, records, source.name)
    return _head(command, notes) | {
        "model": _model_record(subject, query.model, model),
        "input": text,
        "tensors": records,
        "saved": str(query.save) if query.save else None,
        "checks": checking.check(model, subject.architecture, inputs, idle) if query.check else None,
    }


def _until(subject: _Subject, plan: _Plan) -> str | None:
    """The module before whose start the pass may not stop: tables of positions may be made once per kind of layer."""
    if subject.architecture.loops:
        return None
    in_layers = subject.architecture.rotaries and ".layers." in subject.architecture.rotaries[0] + "."
    positions = [want for want in plan.wants if want.supply.name.startswith("position_embeddings.")]
    return subject.architecture.first_layer() if positions and not in_layers else ""


def _numbered(records: list[TensorRecord], kept: dict[str, Tensor]) -> tuple[list[TensorRecord], dict[str, Tensor]]:
    """Names with #1 for the first run of what ran several times in the pass."""
    from msgspec import structs

    names = {record.name for record in records}
    first = {name: f"{name}#1" for name in names if f"{name}#2" in names}
    renamed = [structs.replace(record, name=first.get(record.name, record.name)) for record in records]
    return renamed, {first.get(name, name): tensor for name, tensor in kept.items()}


def _subject(choice: ModelChoice, notify: Notify, length: int = 1) -> _Subject:
    """The model without weights, in the form that it takes for a text of that many tokens."""
    notify("importing torch and transformers")
    from txinspect import architecture, loading

    source = resolve(choice)
    config = loading.load_config(source, choice)
    skeleton = loading.skeleton(source, choice, config)
    if choice.quantization:
        loading.quantize_skeleton(skeleton, choice)
    architecture.settle(skeleton, length)
    return _Subject(source, config, skeleton, architecture.locate(skeleton))


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


def _check_layer(subject: _Subject, layer: int) -> None:
    count = len(subject.architecture.layers)
    if not count:
        raise StageError(f"layer {layer} is out of range: {subject.source.name!r} has no layers")
    if layer >= count:
        raise StageError(f"layer {layer} is out of range: {subject.source.name!r} has layers 0 to {count - 1}")


def _check_layer_in_name(subject: _Subject, name: str) -> None:
    """A name such as layers.99.output is best answered with the layers there are."""
    first, _, rest = name.partition(".")
    number = rest.partition(".")[0]
    if first == "layers" and number.isdecimal():
        _check_layer(subject, int(number))


def _check_length(subject: _Subject, text: InputRecord, query: TensorQuery) -> None:
    """Raise InspectError for a text, or a query index, beyond what the model and the text have."""
    count, limit = len(text.tokens), subject.architecture.max_positions
    if limit is not None and count > limit:
        raise InspectError(
            f"the text is {count} tokens long and {subject.source.name!r} has {limit} positions: shorten the text"
        )
    rows = getattr(subject.skeleton.get_input_embeddings(), "num_embeddings", None)
    largest = max(text.tokens, key=lambda token: token.id)
    if rows is not None and largest.id >= rows:
        raise InspectError(
            f"the tokenizer of {subject.source.name!r} gives token id {largest.id}, and its embedding table has {rows} "
            f"rows: the tokenizer does not belong to these weights"
        )
    queries = (query.queries if isinstance(query, AttnQuery) else None) or ()
    beyond = [index for index in queries if index >= count]
    if beyond:
        raise InspectError(f"query {beyond[0]} is out of range: the text has tokens 0 to {count - 1}")


def _tensor_record(caught: Caught, subject: _Subject, text: InputRecord, query: TensorQuery) -> TensorRecord:
    from txinspect import stats

    supply, tensor = caught.want.supply, caught.tensor
    axes = _axes(supply, tensor.shape, subject, text)
    measured, histogram = stats.measure(tensor.blocks)
    with_rows = isinstance(query, (EmbedQuery, PosQuery)) and axes == ["batch", "seq", "hidden"]
    return TensorRecord(
        name=_name(caught),
        module=supply.module or None,
        class_=supply.class_name,
        axes=axes,
        shape=list(tensor.shape),
        coordinates=caught.coordinates,
        dtype=str(tensor.dtype).removeprefix("torch."),
        stats=measured,
        histogram=histogram,
        rows=stats.measure_rows(tensor.whole()[0]) if with_rows else None,
        values=tensor.whole().tolist() if query.values else None,
    )


def _name(caught: Caught) -> str:
    """The stage's name, with the kind of layer a table is for, and #2 for the second run in the pass."""
    name = caught.want.supply.name
    if caught.label is not None and caught.want.supply.pick is not None:
        name = f"{name.rpartition('.')[0]}.{caught.label}.{name.rpartition('.')[2]}"
    return name if caught.run == 1 else f"{name}#{caught.run}"


def _axes(supply: Supply, shape: tuple[int, ...], subject: _Subject, text: InputRecord) -> list[str] | None:
    """Names of a tensor's axes: the stage's, or for a module's output what its shape tells."""
    if supply.axes is not None and len(supply.axes) == len(shape):
        return list(supply.axes)
    if len(shape) != 3 or shape[:2] != (1, len(text.tokens)):
        return None
    config = subject.skeleton.config.get_text_config()
    last = {getattr(config, "vocab_size", None): "vocab", getattr(config, "hidden_size", None): "hidden"}
    return ["batch", "seq", last.get(shape[2], "feature")]


def _head_records(caught: Caught) -> list[HeadRecord]:
    """Each head's strongest keys per query, and a window on its weights; the tensor: (batch, head, query, key)."""
    import torch

    _, count, rows, keys = caught.tensor.shape
    coordinates = caught.coordinates or {}
    heads = coordinates.get("head", list(range(count)))
    queries = coordinates.get("query", list(range(rows)))
    last_key = min(keys, max(queries) + 1) if rows < keys else keys
    first_key = max(0, last_key - WINDOW)

    strongest: list[list[QueryRecord]] = [[] for _ in heads]
    window: list[list[list[float | None]]] = [[] for _ in heads]
    row = 0
    for block in caught.tensor.blocks():
        values, indices = torch.topk(block[0].float(), min(STRONGEST, keys), dim=-1)
        for offset in range(block.shape[2]):
            for position in range(count):
                pairs = zip(indices[position, offset].tolist(), values[position, offset].tolist(), strict=True)
                keys_seen = [KeyRecord(index=index, weight=weight) for index, weight in pairs if weight != 0]
                strongest[position].append(QueryRecord(index=queries[row], keys=keys_seen))
                if row >= rows - WINDOW:
                    window[position].append(block[0, position, offset, first_key:last_key].tolist())
            row += 1
    return [
        HeadRecord(
            head=head,
            run=caught.run,
            queries=strongest[position],
            window=WindowRecord(
                queries=queries[-WINDOW:], keys=list(range(first_key, last_key)), weights=window[position]
            ),
        )
        for position, head in enumerate(heads)
    ]


def _head(command: str, notes: Sequence[str] = ()) -> dict[str, Any]:
    """The fields that every report begins with."""
    return {
        "schema_version": SCHEMA_VERSION,
        "txinspect": __version__,
        "command": command,
        "notes": list(notes),
    }


def _model_record(subject: _Subject, choice: ModelChoice, model: PreTrainedModel) -> ModelRecord:
    from txinspect.tree import count_parameters

    text_config = subject.skeleton.config.get_text_config()

    def number(name: str) -> int | None:
        # Some configs refuse a value that differs by layer, with an error that getattr's default does not catch.
        try:
            value = getattr(text_config, name, None)
        except RuntimeError:
            return None
        return value if isinstance(value, int) else None

    heads = number("num_attention_heads")
    stored = getattr(model.config, "quantization_config", None)
    method = stored.get("quant_method") if isinstance(stored, dict) else getattr(stored, "quant_method", None)
    return ModelRecord(
        name=subject.source.name,
        revision=subject.source.commit(subject.source.config_folder()),
        model_type=subject.config.model_type,
        class_=type(model).__name__,
        num_parameters=count_parameters(subject.skeleton),
        num_hidden_layers=len(subject.architecture.layers),
        num_attention_heads=heads,
        num_key_value_heads=number("num_key_value_heads") or heads,
        hidden_size=number("hidden_size"),
        vocab_size=number("vocab_size"),
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        quantization=choice.quantization or (method and str(getattr(method, "value", method))),
        attn_implementation=model.config._attn_implementation,
    )


def _unbuilt_model_record(source: Source, raw: dict[str, Any]) -> ModelRecord:
    """What config.json alone tells of a model, without torch."""

    def number(name: str) -> int | None:
        value = raw.get(name)
        return value if isinstance(value, int) else None

    architectures = raw.get("architectures")
    heads = number("num_attention_heads")
    return ModelRecord(
        name=source.name,
        revision=source.commit(source.config_folder()),
        model_type=raw.get("model_type"),
        class_=architectures[0] if isinstance(architectures, list) and architectures else None,
        num_parameters=None,
        num_hidden_layers=number("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=number("num_key_value_heads") or heads,
        hidden_size=number("hidden_size"),
        vocab_size=number("vocab_size"),
        dtype=raw.get("dtype") or raw.get("torch_dtype"),
        device=None,
        quantization=None,
        attn_implementation=None,
    )
