"""What each layer would predict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from txinspect.commands.command import Command, Themed
from txinspect.errors import UsageError, spelled
from txinspect.indices import Layers
from txinspect.option import Option
from txinspect.queries import EditedQuery
from txinspect.records import Record, TensorsReport, VocabularyRecord, doc
from txinspect.value_checks import check_one_of

LAST = tuple(range(-9, 0))
"""The tokens that are read after where none is asked for: of a shorter text all. Each takes as long as the logits."""

At = Literal["output", "attention", "mlp"]


@dataclass(frozen=True, kw_only=True)
class LensQuery(EditedQuery["LensReport"]):
    """Show what each layer would predict: the logit lens, the model's own way from its last layer to the logits."""

    layers: Annotated[
        Layers,
        Option(
            "-l/--layer/--layers", "Layers to read, such as 0,2-3 or -1; if not given all, and what enters them.", "N"
        ),
    ] = None
    position: Annotated[
        Layers,
        Option(
            "--position/--query",
            "Tokens to read after, such as 0,4-5, -1 or all; if not given the masks, else the last nine.",
            "N",
        ),
    ] = LAST
    top_k: Annotated[int, Option("-k/--top-k", "Likeliest tokens of each layer and token.", "K")] = 1
    targets: Annotated[
        tuple[str, ...],
        Option("--target", "A token, such as ' dog', to follow through the layers; may be repeated.", "TOKEN"),
    ] = ()
    at: Annotated[
        At, Option("--at", "Where in a layer: its output, or the stream after its attention or its mlp.", "PLACE")
    ] = "output"

    lens: Annotated[
        Path | None,
        Option("--lens", "Read through a tuned or a Jacobian lens, .safetensors or .pt.", "FILE"),
    ] = None

    @property
    def layers_asked(self) -> Layers:
        """See EditedQuery."""
        return self.layers

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("at", self.at, get_args(At))
        if self.top_k < 1:
            raise UsageError(f"{spelled('top_k')} {self.top_k} lists no token", "give 1 or more")
        for name, chosen in (("layers", self.layers), ("position", self.position)):
            if chosen == ():
                raise UsageError(f"{spelled(name)} chooses none", "name at least one, or omit it for all")
        if self.lens is not None and self.at != "output":
            raise UsageError(f"{spelled('lens')} and {spelled('at', self.at)} cannot be combined: it reads outputs")
        if "" in self.targets:
            raise UsageError(f"{spelled('targets')} '' is empty", "give at least one character")


class LikelyRecord(VocabularyRecord, frozen=True, kw_only=True):
    """A likely token."""

    prob: Annotated[float | None, doc("Its probability.")]


class FollowedRecord(VocabularyRecord, frozen=True, kw_only=True):
    """A token that is followed through the layers."""

    rank: Annotated[int | None, doc("1 + the number of tokens with a larger logit; null for NaN.")]
    prob: Annotated[float | None, doc("Its probability.")]


class CellRecord(Record, frozen=True, kw_only=True):
    """What a layer would predict after a token."""

    position: Annotated[int, doc("Index of the token.")]
    entropy: Annotated[float | None, doc("Entropy over the vocabulary, in nats.")]
    kl: Annotated[float | None, doc("Divergence from the model's own prediction, KL(final ‖ this), in nats.")]
    top: Annotated[list[LikelyRecord], doc("The likeliest tokens; equal ones by id.")]
    targets: Annotated[
        list[FollowedRecord], doc("The tokens of --target; else every token that is likeliest here in some layer.")
    ]


class LensRowRecord(Record, frozen=True, kw_only=True):
    """What one layer would predict."""

    layer: Annotated[int, doc("The layer; -1 for what enters layer 0.")]
    at: Annotated[At, doc("Where in the layer.")]
    cells: Annotated[list[CellRecord], doc("A cell for each token that was asked for.")]


class DecidedRecord(Record, frozen=True, kw_only=True):
    """When a prediction was there."""

    position: Annotated[int, doc("Index of the token.")]
    token: Annotated[str | None, doc("The token decoded.")]
    decided_at: Annotated[int, doc("The layer from which on the model's own likeliest token stays the likeliest.")]
    first_at: Annotated[int, doc("The first layer in which it is the likeliest.")]


class LensReport(TensorsReport, frozen=True, kw_only=True):
    """Report of `lens`."""

    command: Annotated[Literal["lens"], doc("The command that made the report.")]  # type: ignore[assignment]
    rows: Annotated[list[LensRowRecord], doc("From the first layer to the last, which is the model's own prediction.")]
    positions: Annotated[list[DecidedRecord], doc("When each prediction was there.")]
    last_row_equals_logits: Annotated[bool, doc("Whether the way from the last layer gave the logits to the last bit.")]


COMMAND = Command(
    "lens",
    LensQuery,
    LensReport,
    examples=(
        "txinspect lens 'The quick brown fox jumps over the lazy'",
        "txinspect lens --position -1 --target ' dog' --json | jq -c '.rows[] | [.layer, .cells[0].targets[0].rank]'",
        "txinspect lens --layer 0,2-3 --top-k 3",
    ),
    view=Themed,
)
