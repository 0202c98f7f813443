"""One layer's self-attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from txinspect.commands.command import Command
from txinspect.errors import UsageError, spelled
from txinspect.queries import Option, TensorQuery
from txinspect.records import Record, TensorsReport, doc


@dataclass(frozen=True, kw_only=True)
class AttnQuery(TensorQuery["AttnReport"]):
    """Show one layer's self-attention: input, q, k, v, scores, weights, context, output, and a heatmap per head."""

    layer: Annotated[int, Option("--layer", "The layer, counted from 0.", "N")] = 0
    heads: Annotated[
        tuple[int, ...] | None, Option("--head", "Heads to look at, such as 0,2-3; all if not given.", "H")
    ] = None
    queries: Annotated[
        tuple[int, ...] | None, Option("--query", "Query tokens to look at, such as 9; all if not given.", "N")
    ] = None
    skip_norm: Annotated[
        bool, Option("--skip-norm", "Feed the attention the layer's input without the norm, as the lesson does.")
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.check and self.skip_norm:
            raise UsageError(
                f"{spelled('check')} and {spelled('skip_norm')} cannot be combined: the check is about the model as it "
                f"is"
            )
        if self.layer < 0:
            raise UsageError(f"{spelled('layer')} {self.layer} is out of range: layers are counted from 0")
        for name, chosen in (("heads", self.heads), ("queries", self.queries)):
            if chosen is not None and not chosen:
                raise UsageError(f"{spelled(name)} chooses none: name at least one, or omit it for all")
            negative = [index for index in chosen or () if index < 0]
            if negative:
                raise UsageError(f"{spelled(name)} {negative[0]} is out of range: {name} are counted from 0")


class WindowRecord(Record, frozen=True, kw_only=True):
    """A head's weights for the last of its queries and keys: what a heatmap draws."""

    queries: Annotated[list[int], doc("Query index of each row.")]
    keys: Annotated[list[int], doc("Key index of each column.")]
    weights: Annotated[list[list[float | None]], doc("Axes: query, key.")]


class KeyRecord(Record, frozen=True, kw_only=True):
    """A key that a query attends to."""

    index: Annotated[int, doc("Key index.")]
    weight: Annotated[float | None, doc("Attention weight.")]


class QueryRecord(Record, frozen=True, kw_only=True):
    """The strongest keys of one query."""

    index: Annotated[int, doc("Query index.")]
    keys: Annotated[list[KeyRecord], doc("Strongest first.")]


class HeadRecord(Record, frozen=True, kw_only=True):
    """One attention head: a window on its weights, and where each query looks."""

    head: Annotated[int, doc("Head index.")]
    run: Annotated[int, doc("Which of the layer's attentions in a pass it is, from 1; most layers have only one.")]
    queries: Annotated[list[QueryRecord], doc("Every query that was asked for.")]
    window: Annotated[WindowRecord, doc("At most 64 queries and keys; --values gives all weights.")]


class AttnReport(TensorsReport, frozen=True, kw_only=True):
    """Report of `attn`."""

    command: Annotated[Literal["attn"], doc("The command that made the report.")]  # type: ignore[assignment]
    layer: Annotated[int, doc("The layer.")]
    heads: Annotated[list[HeadRecord], doc("The heads asked for.")]


COMMAND = Command(
    "attn",
    AttnQuery,
    AttnReport,
    group="Run",
    examples=(
        "txinspect attn --layer 0",
        "txinspect attn 'the cat sat on the mat' --layer 2 --head 0,2-3",
        "txinspect attn --layer 0 --skip-norm --save layer0.safetensors",
    ),
)
