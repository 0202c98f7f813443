"""Why the model says what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from txinspect.commands.attribute import PartRecord, Position
from txinspect.commands.command import Command
from txinspect.commands.heads import Kind
from txinspect.commands.lens import LikelyRecord
from txinspect.errors import UsageError, spelled
from txinspect.option import Option
from txinspect.queries import DecoderQuery
from txinspect.records import Record, TensorsReport, VocabularyRecord, doc

Verdict = Literal["confirmed", "made up for", "no more than others", "not confirmed", "below the noise", "too few"]

PARTS = 8
"""Parts that the story is about."""


@dataclass(frozen=True, kw_only=True)
class WhyQuery(DecoderQuery["WhyReport"]):
    """Say why the model says what it says: what came close, when it was decided, which parts wrote it, if it is so."""

    target: Annotated[
        str | None, Option("--target", "A token, such as ' dog', in the place of the likeliest.", "TOKEN")
    ] = None
    wrong: Annotated[
        str | None, Option("--wrong", "A token to tell it from, in the place of the runner-up.", "TOKEN")
    ] = None
    position: Position = None
    top_k: Annotated[int, Option("-k/--top-k", "Parts that the story is about.", "K")] = PARTS
    seed: Annotated[int, Option("--seed", "What the other parts are drawn with.", "S")] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top_k < 1:
            raise UsageError(f"{spelled('top_k')} {self.top_k} names no part", "give 1 or more")
        for name in ("target", "wrong"):
            if getattr(self, name) == "":
                raise UsageError(f"{spelled(name)} '' is empty", "give at least one character")


class ReadRecord(Record, frozen=True, kw_only=True):
    """A token that a head reads from."""

    index: Annotated[int, doc("Index of the token, in the text that the head looks at.")]
    token: Annotated[str | None, doc("The token decoded.")]
    share: Annotated[float | None, doc("Weight on it times the length of its value, as a share of all.")]


class StoryRecord(PartRecord, frozen=True, kw_only=True):
    """A part of the story: what it wrote of the difference, and what is lost without it."""

    fall: Annotated[
        float | None,
        doc("How much the difference falls, toward zero and beyond, without it alone, set to its mean over the text."),
    ]
    labels: Annotated[list[Kind], doc("Of a head: the kinds that it is one of, by this text; else empty.")]
    reads: Annotated[list[ReadRecord], doc("Of a head: the tokens that it reads from the most; else empty.")]


class WithoutRecord(Record, frozen=True, kw_only=True):
    """What the difference is without some parts, each set to its mean over the text's tokens, all at once."""

    parts: Annotated[list[str], doc("Which: the stage, of a head with [head=H].")]
    logit: Annotated[float | None, doc("The target's logit less the wrong one's.")]


class WhyReport(TensorsReport, frozen=True, kw_only=True):
    """Report of `why`."""

    command: Annotated[Literal["why"], doc("The command that made the report.")]  # type: ignore[assignment]
    position: Annotated[int, doc("The token after which, or at which, it is.")]
    likely: Annotated[list[LikelyRecord], doc("The likeliest tokens there.")]
    target: Annotated[VocabularyRecord, doc("The token that is asked about.")]
    wrong: Annotated[VocabularyRecord, doc("The token that it is told from.")]
    first_at: Annotated[
        int | None,
        doc("The first layer in which the lens has the likeliest token first; null where there is none."),
    ]
    decided_at: Annotated[int | None, doc("The layer from which on it stays first; null where there is none.")]
    logit: Annotated[float | None, doc("The target's logit less the wrong one's.")]
    parts: Annotated[list[StoryRecord], doc("The heads, MLPs and mixers that wrote the most of it, either way.")]
    carriers: Annotated[
        list[StoryRecord], doc("Others without which it falls the most: what these parts read is theirs.")
    ]
    written: Annotated[float | None, doc("What these wrote of it together.")]
    others: Annotated[int, doc("How many other parts there are: embeddings, biases, other heads, MLPs.")]
    without: Annotated[WithoutRecord, doc("Without these parts and carriers.")]
    control: Annotated[
        WithoutRecord | None,
        doc("Without as many others of the same kinds, at random; null where none are left."),
    ]
    cap: Annotated[float | None, doc("What caps the logits, before which the difference is; null where nothing does.")]
    noise: Annotated[float | None, doc("What is no change of the difference: of one text beside others in a batch.")]
    verdict: Annotated[Verdict, doc("Whether leaving them out confirms what they wrote.")]


COMMAND = Command(
    "why",
    WhyQuery,
    WhyReport,
    examples=(
        "txinspect why 'The capital of France is'",
        "txinspect why 'The capital of France is' --wrong ' Moscow' --dtype float32",
        "txinspect why 'The capital of France is' --json | jq -r .verdict",
    ),
    more=(
        "What a part wrote is its share of the difference of two logits, with the scales of norms frozen (see "
        "attribute). A head reads from tokens by weight times the length of the value. Each part alone is set to its "
        "mean over the text's tokens: a carrier writes little itself, and without it the difference falls by a quarter "
        "or more. Then all of these are left out at once, and as many others of the same kinds beside. It is confirmed "
        "if they wrote half of the difference or more, it falls by at least half of what they wrote, and by twice what "
        "it falls without the others; made up for if it falls by less than half of what they wrote: other parts then "
        "do what these did."
    ),
)
