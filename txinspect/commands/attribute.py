"""Which parts of the model wrote a logit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from txinspect.commands.command import Command, Themed
from txinspect.errors import UsageError, spelled
from txinspect.option import Option
from txinspect.queries import ChangedQuery
from txinspect.records import Record, TensorsReport, VocabularyRecord, doc
from txinspect.value_checks import check_one_of

PartKind = Literal[
    "embedding",
    "positions",
    "segments",
    "head",
    "attention",
    "cross head",
    "cross attention",
    "mixer",
    "mlp",
    "attention bias",
    "layer bias",
    "embedding bias",
    "norm bias",
    "head bias",
    "rest",
]

Position = Annotated[
    int | None,
    Option(
        "--position/--query",
        "The token after which it is, or at which of a model that fills masks; the last, or its only mask, if not "
        "given.",
        "N",
    ),
]

Ways = Literal["knockout", "gradients"]

ROWS = 8
"""Parts on the first screen."""


@dataclass(frozen=True, kw_only=True)
class AttributeQuery(ChangedQuery["AttributeReport"]):
    """Say which parts wrote a logit: embedding, positions, every head and MLP, biases, as a sum beside the model's."""

    idle = ("save", "overwrite", "check")

    target: Annotated[
        str | None,
        Option("--target", "A token, such as ' dog', whose logit it is; the likeliest if not given.", "TOKEN"),
    ] = None
    wrong: Annotated[
        str | None,
        Option(
            "--wrong",
            "A token whose logit is taken off; the runner-up if not given, and '' for none: the plain logit.",
            "TOKEN",
        ),
    ] = None
    position: Position = None
    neurons: Annotated[int, Option("--neurons", "The K neurons of all MLPs that wrote the most, too.", "K")] = 0
    experts: Annotated[bool, Option("--experts", "What each expert that was chosen wrote of its MLP's part, too.")] = (
        False
    )
    tokens: Annotated[
        Ways | None,
        Option(
            "--tokens",
            "How much each token matters, too: knockout, with no other token attending to it in any layer; gradients, "
            "integrated from embeddings of zero.",
            "HOW",
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("tokens", self.tokens, (*get_args(Ways), None))
        if self.target == "":
            raise UsageError(f"{spelled('target')} '' is empty", "give at least one character")
        if self.target is not None and self.target == self.wrong:
            raise UsageError(f"{spelled('target')} and {spelled('wrong')} are the same token", "omit one")
        if self.neurons < 0:
            raise UsageError(f"{spelled('neurons')} {self.neurons} lists none", "give 1 or more")


class PartRecord(Record, frozen=True, kw_only=True):
    """A part of the model, and what it adds to the logit."""

    kind: Annotated[PartKind, doc("What it is; rest is what a layer adds that no part of it explains.")]
    layer: Annotated[int | None, doc("The layer; null for what is in none.")]
    head: Annotated[int | None, doc("Head index; null for what is no head.")]
    name: Annotated[str, doc("The stage that was read, or the parameter.")]
    value: Annotated[float | None, doc("What it adds to the logit, with the scales of norms frozen.")]


class NeuronRecord(Record, frozen=True, kw_only=True):
    """A neuron of an MLP: its share of the MLP's part."""

    layer: Annotated[int, doc("The layer.")]
    neuron: Annotated[int, doc("Which number of what the down projection reads it is.")]
    activation: Annotated[float | None, doc("That number, at the position.")]
    value: Annotated[float | None, doc("What it adds to the logit, as a share of its MLP's part.")]


class ExpertRecord(Record, frozen=True, kw_only=True):
    """An expert that the router chose: its share of the MLP's part."""

    layer: Annotated[int, doc("The layer.")]
    expert: Annotated[int, doc("Which expert.")]
    weight: Annotated[float | None, doc("The router's weight of it.")]
    value: Annotated[float | None, doc("What it adds to the logit, as a share of its MLP's part.")]


class TokenEffectRecord(Record, frozen=True, kw_only=True):
    """How much a token matters to the logit."""

    index: Annotated[int, doc("Which token of the text, from 0.")]
    token: Annotated[str | None, doc("The token decoded.")]
    stack: Annotated[
        Literal["encoder", "decoder"] | None, doc("Whose text it is of; null where the model has one stack.")
    ]
    value: Annotated[
        float | None,
        doc("By knockout: the logit less what it is where no other token attends to this; by gradients: its share."),
    ]


class TokensRecord(Record, frozen=True, kw_only=True):
    """How much each token matters."""

    how: Annotated[Ways, doc("How it was found.")]
    tokens: Annotated[list[TokenEffectRecord], doc("Each token of the text.")]
    steps: Annotated[int | None, doc("Of gradients: steps of the integral; null for knockout.")]
    gap: Annotated[
        float | None,
        doc("Of gradients: by how much the shares miss the change that they are of, as a part of it; else null."),
    ]


class AttributeReport(TensorsReport, frozen=True, kw_only=True):
    """Report of `attribute`."""

    command: Annotated[Literal["attribute"], doc("The command that made the report.")]  # type: ignore[assignment]
    position: Annotated[int, doc("The token after which, or at which, the logit is.")]
    target: Annotated[VocabularyRecord, doc("The token whose logit it is.")]
    wrong: Annotated[VocabularyRecord | None, doc("The token whose logit is taken off; null for none.")]
    target_logit: Annotated[float | None, doc("The model's logit of the target, before a cap.")]
    wrong_logit: Annotated[float | None, doc("The model's logit of the wrong token, before a cap; null for none.")]
    cap: Annotated[float | None, doc("What caps the logits afterwards; null where nothing does.")]
    parts: Annotated[list[PartRecord], doc("Every part, in the order of the pass; their sum is the total.")]
    total: Annotated[float | None, doc("The sum of the parts.")]
    logit: Annotated[float | None, doc("The model's own: the target's logit, less the wrong one's.")]
    remainder: Annotated[float | None, doc("The model's own less the total: rounding.")]
    tolerance: Annotated[float | None, doc("How large the remainder may be.")]
    neurons: Annotated[list[NeuronRecord], doc("With --neurons: those that wrote the most; else empty.")]
    experts: Annotated[list[ExpertRecord], doc("With --experts: each that was chosen; else empty.")]
    by_token: Annotated[TokensRecord | None, doc("With --tokens: how much each token matters; else null.")]


@dataclass(frozen=True, kw_only=True)
class Summed(Themed):
    """A view: how many parts are listed on the first screen."""

    top_k: Annotated[int, Option("-k/--top-k", "Parts to list on the first screen.", "K")] = ROWS

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top_k < 1:
            raise UsageError(f"{spelled('top_k')} {self.top_k} lists no part", "give 1 or more")


COMMAND = Command(
    "attribute",
    AttributeQuery,
    AttributeReport,
    examples=(
        "txinspect attribute 'The capital of France is'",
        "txinspect attribute 'The capital of France is' --target ' Paris' --wrong ' Moscow' --tokens knockout",
        "txinspect attribute --json | jq -c '.parts[] | select(.kind == \"head\") | [.layer, .head, .value]'",
    ),
    view=Summed,
    more=(
        "A part is what it writes to the residual stream, times the logit's gradient there, with the scales of norms "
        "frozen as they are in the pass (Elhage et al. 2021): so the parts add up to the logit. A head's part is its "
        "slice of the context through the output projection, whose bias is apart. The sum is checked: beyond rounding "
        "the exit code is 3. Of half precision rounding is large: --dtype float32 has less. --tokens knockout: Geva "
        "et al. 2023; gradients: Sundararajan et al. 2017, with steps doubled until the shares miss what they are of "
        "by less than 1 %."
    ),
)
"""Which parts of the model wrote a logit."""
