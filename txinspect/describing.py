"""What was recorded, and the model it was recorded from → records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from txinspect.queries import EmbedQuery, PosQuery, TensorQuery
from txinspect.records import (
    HeadRecord,
    InputRecord,
    KeyRecord,
    ModelRecord,
    QueryRecord,
    TensorRecord,
    WindowRecord,
)

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from txinspect.architecture import Supply
    from txinspect.capture import Caught
    from txinspect.source import Source
    from txinspect.subject import Subject

WINDOW = 64
"""Queries and keys in the window that a heatmap draws."""

_ROWS_OF_VECTORS = (["batch", "seq", "hidden"], ["batch", "position", "hidden"])
"""Axes of tensors that have a vector per token."""

STRONGEST = 5
"""Keys listed for each query."""


def numbered(records: list[TensorRecord], kept: dict[str, Tensor]) -> tuple[list[TensorRecord], dict[str, Tensor]]:
    """Names with #1 for the first run of what ran several times in the pass."""
    from msgspec import structs

    names = {record.name for record in records}
    first = {name: f"{name}#1" for name in names if f"{name}#2" in names}
    renamed = [structs.replace(record, name=first.get(record.name, record.name)) for record in records]
    return renamed, {first.get(name, name): tensor for name, tensor in kept.items()}


def tensor_record(caught: Caught, subject: Subject, text: InputRecord, query: TensorQuery) -> TensorRecord:
    from txinspect import stats

    supply, tensor = caught.want.supply, caught.tensor
    axes = _axes(supply, tensor.shape, subject, text)
    measured, histogram = stats.measure(tensor.blocks)
    with_rows = isinstance(query, (EmbedQuery, PosQuery)) and axes in _ROWS_OF_VECTORS
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
        values=_values(tensor.whole()) if query.values else None,
    )


def _values(tensor: Tensor) -> Any:
    """The numbers, nested by axis; a complex one, as some rotary tables hold, as a pair."""
    import torch

    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).tolist()


def _name(caught: Caught) -> str:
    """The stage's name, with the kind of layer a table is for, and #2 for the second run in the pass."""
    name = caught.want.supply.name
    if caught.label is not None and caught.want.supply.pick is not None:
        name = f"{name.rpartition('.')[0]}.{caught.label}.{name.rpartition('.')[2]}"
    return name if caught.run == 1 else f"{name}#{caught.run}"


def _axes(supply: Supply, shape: tuple[int, ...], subject: Subject, text: InputRecord) -> list[str] | None:
    """Names of a tensor's axes: the stage's as far as the sizes agree, or for a module's output what they tell."""
    from txinspect.architecture import rows_of_ids

    config = subject.skeleton.config.get_text_config()
    hidden, tokens = getattr(config, "hidden_size", None), len(text.tokens)
    if supply.axes is not None and len(supply.axes) == len(shape):
        return _agreeing(supply, shape, hidden, tokens, rows_of_ids(subject.skeleton))
    if supply.tap == "attention" and supply.axes is not None and len(supply.axes) + 1 == len(shape):
        return [supply.axes[0], "stream", *supply.axes[1:]]
    if len(shape) != 3 or shape[:2] != (1, tokens):
        return None
    return ["batch", "seq", {getattr(config, "vocab_size", None): "vocab", hidden: "hidden"}.get(shape[2], "feature")]


def _agreeing(supply: Supply, shape: tuple[int, ...], hidden: int | None, tokens: int, rows: int) -> list[str]:
    """The stage's axes, with other names where a size shows that an axis is something else."""
    axes = list(supply.axes or ())
    if axes[:2] == ["batch", "seq"] and shape[:2] == (tokens, 1) and tokens > 1:
        axes[:2] = ["seq", "batch"]
    sizes = dict(zip(axes, shape, strict=True))
    if sizes.get("batch", 1) != 1:
        axes[axes.index("batch")] = "codebook" if sizes["batch"] == rows else "row"
    if sizes.get("seq", tokens) != tokens:
        # Patches, prompts, padding, predicted streams: positions that are not the text's tokens.
        axes[axes.index("seq")] = "position"
    if sizes.get("hidden", hidden) != hidden and supply.name != "token_embeddings":
        axes[axes.index("hidden")] = "feature"
    return axes


def _last_key(caught: Caught) -> int:
    """One past the last key that any query gives weight to: after it a causal mask hides all."""
    seen = [int(block[0].ne(0).any(0).any(0).nonzero().max()) for block in caught.tensor.blocks() if block.any()]
    return max(seen, default=0) + 1


def head_records(caught: Caught) -> list[HeadRecord]:
    """Each head's strongest keys per query, and a window on its weights; the tensor: (batch, head, query, key)."""
    import torch

    _, count, rows, keys = caught.tensor.shape
    coordinates = caught.coordinates or {}
    heads = coordinates.get("head", list(range(count)))
    queries = coordinates.get("query", list(range(rows)))
    last_key = _last_key(caught) if "query" in coordinates else keys
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


def model_record(subject: Subject, model: PreTrainedModel) -> ModelRecord:
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
    return ModelRecord(
        name=subject.source.name,
        revision=subject.source.commit(subject.source.config_folder()),
        model_type=subject.config.model_type,
        class_=type(model).__name__,
        num_parameters=count_parameters(subject.shown),
        num_hidden_layers=len(subject.architecture.layers),
        num_attention_heads=heads,
        num_key_value_heads=number("num_key_value_heads") or heads,
        hidden_size=number("hidden_size"),
        vocab_size=number("vocab_size"),
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        quantization=subject.quantization.method if subject.quantization else None,
        attn_implementation=model.config._attn_implementation,
    )


def unbuilt_model_record(source: Source, raw: dict[str, Any]) -> ModelRecord:
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
