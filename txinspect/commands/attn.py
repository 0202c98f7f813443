"""One layer's self-attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from txinspect.blocks import Block
from txinspect.commands.command import Command, Themed
from txinspect.commands.heads import Kind
from txinspect.errors import UsageError, spelled
from txinspect.indices import Layers
from txinspect.option import FROM_WIDTH, Option
from txinspect.queries import EditedQuery
from txinspect.records import Record, TensorsReport, doc
from txinspect.value_checks import check_one_of

Scale = Literal["head", "row", "0-1"]


@dataclass(frozen=True, kw_only=True)
class AttnQuery(EditedQuery["AttnReport"]):
    """Show layers' attention: a map per head, then input, q, k, v, scores, weights, context and output."""

    layer: Annotated[
        Layers,
        Option("-l/--layer", "Layers to look at, such as 0, 0,2-3, -1 for the last, or all; may be repeated.", "N"),
    ] = 0
    heads: Annotated[
        tuple[int, ...] | None, Option("--head", "Heads to look at, such as 0,2-3 or -1; all if not given.", "H")
    ] = None
    queries: Annotated[
        tuple[int, ...] | None,
        Option("--query/--position", "Query tokens to look at, such as 9 or -1; all if not given.", "N"),
    ] = None
    encoder: Annotated[
        bool, Option("--encoder", "Of an encoder–decoder: the encoder's self-attention, not the decoder's.")
    ] = False
    cross: Annotated[
        bool, Option("--cross", "Of an encoder–decoder: how the decoder's tokens attend to the encoder's.")
    ] = False
    map_size: Annotated[int, FROM_WIDTH] = 64
    """Keys that a head's map has columns for; beyond that they are in blocks."""
    skip_norm: Annotated[
        bool, Option("--skip-norm", "Feed the attention the layer's input without the norm, as the lesson does.")
    ] = False

    @property
    def layers_asked(self) -> Layers:
        """See EditedQuery."""
        return () if self.encoder else self.layer

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoder and self.cross:
            raise UsageError(
                f"{spelled('encoder', True)} and {spelled('cross', True)} cannot be combined: the encoder attends to "
                f"its own text alone",
                "give one of them",
                by="; ",
            )
        if self.cross and self.skip_norm:
            raise UsageError(
                f"{spelled('cross', True)} and {spelled('skip_norm', True)} cannot be combined: a cross-attention "
                f"reads what the layer's own attention made"
            )
        if self.check and self.skip_norm:
            raise UsageError(
                f"{spelled('check')} and {spelled('skip_norm')} cannot be combined: the check is about the model as it "
                f"is"
            )
        if self.map_size < 1:
            raise UsageError(f"{spelled('map_size')} {self.map_size} is no size of a map", "give 1 or more")
        for name, chosen in (("layer", self.layer), ("heads", self.heads), ("queries", self.queries)):
            if chosen == ():
                raise UsageError(f"{spelled(name)} chooses none", "name at least one, or omit it for all")
        if self.skip_norm and not (isinstance(self.layer, int) or len(self.layer or ()) == 1):
            raise UsageError(
                f"{spelled('skip_norm')} changes what later layers are given", f"give it one {spelled('layer')}"
            )


@dataclass(frozen=True, kw_only=True)
class AttnView(Themed):
    """How the heads are drawn."""

    keys: Annotated[bool, Option("--keys", "List the strongest keys of every query.")] = False
    scale: Annotated[
        Scale,
        Option(
            "--scale",
            "What is brightest: head (its largest weight beyond key 0 and the early queries, and more), row, or 0-1.",
            "SCALE",
        ),
    ] = "head"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("scale", self.scale, get_args(Scale))


class WindowRecord(Record, frozen=True, kw_only=True):
    """A head's weights for the last of its queries and keys."""

    queries: Annotated[list[int], doc("Query index of each row.")]
    keys: Annotated[list[int], doc("Key index of each column.")]
    weights: Annotated[list[list[float | None]], doc("Axes: query, key.")]


class MapRecord(Record, frozen=True, kw_only=True):
    """All of a head's weights, in blocks where there are many: what a heatmap draws."""

    queries: Annotated[list[Block], doc("First and last query index of each row.")]
    keys: Annotated[list[Block], doc("First and last key index of each column; the strongest keys have their own.")]
    weights: Annotated[list[list[float | None]], doc("The largest weight in each block; axes: query, key.")]


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

    layer: Annotated[int, doc("The layer.")]
    head: Annotated[int, doc("Head index.")]
    run: Annotated[int, doc("Which of the layer's attentions in a pass it is, from 1; most layers have only one.")]
    queries: Annotated[list[QueryRecord], doc("Every query that was asked for.")]
    strongest: Annotated[
        list[KeyRecord], doc("The keys with the largest weights on average over the queries, the largest first.")
    ]
    window: Annotated[WindowRecord, doc("At most 64 queries and keys; --values gives all weights.")]
    map: Annotated[MapRecord, doc("All queries and keys.")]
    labels: Annotated[
        list[Kind] | None,
        doc("What kinds of head it is, as 'heads' says; null for cross-attention, and where queries were chosen."),
    ]


class AttnReport(TensorsReport, frozen=True, kw_only=True):
    """Report of `attn`."""

    command: Annotated[Literal["attn"], doc("The command that made the report.")]  # type: ignore[assignment]
    layer: Annotated[int, doc("The layer; the first of several.")]
    layers: Annotated[list[int], doc("The layers asked for, in order.")]
    attention: Annotated[
        Literal["self", "cross"], doc("self: queries and keys are of one text; cross: keys are of the encoder's.")
    ]
    stack: Annotated[
        Literal["encoder", "decoder"] | None, doc("Whose layers they are; null where the model has one stack.")
    ]
    heads: Annotated[list[HeadRecord], doc("The heads asked for.")]


COMMAND = Command(
    "attn",
    AttnQuery,
    AttnReport,
    examples=(
        "txinspect attn --layer 0",
        "txinspect attn 'the cat sat on the mat' --layer 2 --head 0,2-3",
        "txinspect attn --layer -1 --query -1",
        "txinspect attn 'the quick brown fox' -m transformer-mini --layer 1 --cross",
        "txinspect attn --layer 0 --skip-norm --save layer0.safetensors",
    ),
    view=AttnView,
)
