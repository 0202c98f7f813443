"""What was recorded → records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from txinspect.anatomy.families import IN_BLOCKS
from txinspect.anatomy.locating import rows_of_ids
from txinspect.measure import stats
from txinspect.records import InputRecord, TensorRecord

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.anatomy.architecture import Supply
    from txinspect.forward.capture import CaughtTensor
    from txinspect.loading.subject import Subject

Kept = TypeVar("Kept")

_ROWS_OF_VECTORS = (["batch", "seq", "hidden"], ["batch", "position", "hidden"])
"""Axes of tensors that have a vector per token."""


def numbered(records: list[TensorRecord], kept: dict[str, Kept]) -> tuple[list[TensorRecord], dict[str, Kept]]:
    """Records of tensors with #1 in the name for the first run of what ran several times in the pass."""
    from msgspec import structs

    first = first_runs(record.name for record in records)
    renamed = [structs.replace(record, name=first.get(record.name, record.name)) for record in records]
    return renamed, {first.get(name, name): tensor for name, tensor in kept.items()}


def first_runs(names: Iterable[str]) -> dict[str, str]:
    """The names of recorded tensors that others with #2 tell to be those of a first run, each with its #1."""
    found = set(names)
    return {name: f"{name}#1" for name in found if f"{name}#2" in found}


def tensor_record(
    caught: CaughtTensor, subject: Subject, text: InputRecord, *, values: bool, token_rows: bool
) -> TensorRecord:
    """The record of a recorded tensor, with `values`, and with `token_rows` statistics of each token's vector."""
    supply, tensor = caught.want.supply, caught.tensor
    axes = axes_of(caught, subject, text)
    measured, histogram = stats.measure(tensor.blocks)
    with_rows = token_rows and axes in _ROWS_OF_VECTORS
    return TensorRecord(
        name=name_of(caught),
        module=supply.module or None,
        class_=supply.class_name,
        axes=axes,
        shape=list(tensor.shape),
        coordinates=caught.coordinates,
        dtype=str(tensor.dtype).removeprefix("torch."),
        stats=measured,
        histogram=histogram,
        rows=stats.measure_rows(tensor.whole()[0]) if with_rows else None,
        values=_values(tensor.whole()) if values else None,
    )


def _values(tensor: Tensor) -> Any:
    """The numbers in a tensor's record, nested by axis; a complex one, as some rotary tables hold, as a pair."""
    import torch

    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).tolist()


def name_of(caught: CaughtTensor) -> str:
    """The name in a tensor's record: its stage's, with the kind of layer a table is for, and #2 for the second run."""
    name = caught.want.supply.name
    if caught.label is not None and caught.want.supply.pick is not None:
        name = f"{name.rpartition('.')[0]}.{caught.label}.{name.rpartition('.')[2]}"
    return name if caught.run == 1 else f"{name}#{caught.run}"


def axes_of(caught: CaughtTensor, subject: Subject, text: InputRecord) -> list[str] | None:
    """Names of axes in a tensor's record: the stage's as far as sizes agree, or a module's as far as they tell."""
    supply, shape = caught.want.supply, caught.tensor.shape
    config = subject.as_configured.config.get_text_config()
    hidden, tokens = getattr(config, "hidden_size", None), len(text.read_by(supply.stack).tokens)
    if supply.axes is not None and len(supply.axes) == len(shape):
        return _agreeing(supply, shape, hidden, tokens, rows_of_ids(subject.as_configured))
    if supply.tap == "attention" and supply.axes is not None and len(supply.axes) + 1 == len(shape):
        extra = "block" if supply.class_name in IN_BLOCKS else "stream"
        return [supply.axes[0], extra, *supply.axes[1:]]
    if len(shape) != 3 or shape[:2] not in ((1, tokens), (1, len(text.main.tokens))):
        return None
    return ["batch", "seq", {getattr(config, "vocab_size", None): "vocab", hidden: "hidden"}.get(shape[2], "feature")]


def _agreeing(supply: Supply, shape: tuple[int, ...], hidden: int | None, tokens: int, rows: int) -> list[str]:
    """The stage's axes for a tensor's record, with other names where a size shows that an axis is something else."""
    axes = list(supply.axes or ())
    if axes[:2] == ["batch", "seq"] and shape[:2] == (tokens, 1) and tokens > 1:
        axes[:2] = ["seq", "batch"]
    if axes == ["batch", "seq", "hidden"] and shape == (1, hidden, tokens) and hidden != tokens:
        axes = ["batch", "hidden", "seq"]
    sizes = dict(zip(axes, shape, strict=True))
    if sizes.get("batch", 1) != 1:
        axes[axes.index("batch")] = "codebook" if sizes["batch"] == rows else "row"
    if sizes.get("seq", tokens) != tokens:
        # Patches, prompts, padding, predicted streams: positions that are not the text's tokens.
        axes[axes.index("seq")] = "position"
    if sizes.get("hidden", hidden) != hidden and supply.name != "token_embeddings":
        axes[axes.index("hidden")] = "feature"
    return axes
