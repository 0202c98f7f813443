"""A tour from text to prediction, in steps, with the numbers of one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import structs

from txinspect.commands.command import Command
from txinspect.commands.heads import Kind
from txinspect.errors import UsageError, spelled
from txinspect.option import Option
from txinspect.queries import DecoderQuery
from txinspect.records import InputRecord, ModelReport, Record, doc

STEPS = 11
"""Ten steps from text to prediction, and one that switches a part off."""

Positions = Literal["learned", "sinusoid", "rotary", "alibi", "relative", "none"]


@dataclass(frozen=True, kw_only=True)
class LessonQuery(DecoderQuery["LessonReport"]):
    """Take a tour from text to prediction in steps, on any model and text: each with its numbers and its command."""

    step: Annotated[int | None, Option("--step", "One step alone, 1 to 11; all if not given.", "N")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step is not None and not 1 <= self.step <= STEPS:
            raise UsageError(f"{spelled('step')} {self.step} is out of range: the lesson has steps 1 to {STEPS}")


class StepRecord(Record, frozen=True, kw_only=True):
    """A step of the lesson."""

    step: Annotated[int, doc("Its number, from 1.")]
    line: Annotated[str, doc("The command line that shows it.")]
    missing: Annotated[str | None, doc("Why there is nothing to show of this model; null where there is.")]


class EmbeddingRecord(Record, frozen=True, kw_only=True):
    """The row of the embedding table that a token's id picks."""

    position: Annotated[int, doc("Index of the token: the last that is not special.")]
    id: Annotated[int, doc("The row.")]
    first: Annotated[list[float], doc("Its first numbers.")]
    norm: Annotated[float, doc("Its Euclidean norm.")]
    width: Annotated[int, doc("How many numbers it has.")]
    rows: Annotated[int | None, doc("Rows of the table; null where the config does not say.")]


class PositionRecord(Record, frozen=True, kw_only=True):
    """How the model knows where a token stands."""

    kind: Annotated[Positions, doc("What it has: vectors that are added, rotations, numbers added to scores, nothing.")]
    position: Annotated[int, doc("Index of the token.")]
    first: Annotated[list[float], doc("The first numbers: of its vector; of the cosines; each head's slope or bias.")]
    why: Annotated[str | None, doc("Why no embedding of positions is there; null where one is.")]


class ScoredKeyRecord(Record, frozen=True, kw_only=True):
    """What a head makes of a query and one key."""

    key: Annotated[int, doc("Index of the token that is looked at.")]
    product: Annotated[float, doc("The sum of the products of q and k, in float64.")]
    score: Annotated[float, doc("The score, as the pass had it.")]
    added: Annotated[float | None, doc("What the model adds for the distance, where it is known; null for nothing.")]
    seen: Annotated[bool, doc("Whether the mask lets the query see it.")]
    softmax: Annotated[float, doc("The softmax of the scores that are seen, and what is added, in float64.")]
    weight: Annotated[float, doc("The weight, as the pass had it.")]


class WorkingHeadRecord(Record, frozen=True, kw_only=True):
    """One head at work: a query, its keys, scores, weights."""

    layer: Annotated[int, doc("The layer.")]
    head: Annotated[int, doc("The head: of all, the one that looks at the token before the most.")]
    query: Annotated[int, doc("Index of the token that looks: the last that is not special.")]
    key: Annotated[int, doc("Index of the token that it looks at the most.")]
    size: Annotated[int, doc("Numbers in q and k.")]
    q: Annotated[list[float], doc("The first numbers of the query.")]
    k: Annotated[list[float], doc("Of that key.")]
    v: Annotated[list[float], doc("Of its value.")]
    scale: Annotated[float, doc("What the sum of the products is multiplied by for the score.")]
    plain: Annotated[bool, doc("Whether that is all of the score.")]
    apart: Annotated[float, doc("The largest difference between the softmax here and the weights of the pass.")]
    keys: Annotated[list[ScoredKeyRecord], doc("Every key.")]
    middle: Annotated[int, doc("Index of a token in the middle of the text.")]
    hidden: Annotated[list[int], doc("Keys that the mask hides from that token.")]


class HeadKindRecord(Record, frozen=True, kw_only=True):
    """What a head looks at the most."""

    layer: Annotated[int, doc("The layer.")]
    head: Annotated[int, doc("The head.")]
    kind: Annotated[Kind, doc("The kind whose number is largest.")]
    share: Annotated[float, doc("That number.")]


class StreamRecord(Record, frozen=True, kw_only=True):
    """What a layer adds to the residual stream, at one token, as Euclidean norms."""

    layer: Annotated[int, doc("The layer.")]
    position: Annotated[int, doc("Index of the token.")]
    before: Annotated[float, doc("What enters the layer.")]
    attention: Annotated[float | None, doc("What its attention adds.")]
    cross: Annotated[float | None, doc("What its attention to the other text adds; null where it has none.")]
    sum: Annotated[float | None, doc("The sum of these vectors.")]
    mlp: Annotated[float | None, doc("What its MLP adds.")]
    after: Annotated[float, doc("What leaves the layer.")]
    error: Annotated[
        float | None, doc("Relative L2 of the sum of all parts against what leaves; null for one unknown.")
    ]
    width: Annotated[int, doc("Numbers in each of these vectors.")]
    inner: Annotated[int | None, doc("Numbers inside the MLP; null where its weights do not tell.")]


class GuessRecord(Record, frozen=True, kw_only=True):
    """A token or a label, and how likely it is."""

    id: Annotated[int, doc("Row of the logits.")]
    text: Annotated[str | None, doc("The token decoded, or the label.")]
    prob: Annotated[float | None, doc("Its probability.")]


class LayerGuessRecord(Record, frozen=True, kw_only=True):
    """What a layer would predict."""

    layer: Annotated[int, doc("The layer; -1 for what enters layer 0.")]
    guess: GuessRecord


class PredictedRecord(Record, frozen=True, kw_only=True):
    """What the model predicts."""

    kind: Annotated[Literal["next", "mask", "label"], doc("Which token comes next, stands at a mask, or which label.")]
    position: Annotated[int | None, doc("Index of the token that it is after, or of the mask; null for labels.")]
    masked: Annotated[int | None, doc("Index of the token that was masked for this step; null for none.")]
    top: Annotated[list[GuessRecord], doc("The likeliest.")]


class AgainRecord(Record, frozen=True, kw_only=True):
    """A token that the model is to predict, with a part on and off."""

    position: Annotated[int, doc("Index of the token.")]
    id: Annotated[int, doc("Row of the embedding table.")]
    text: Annotated[str | None, doc("The token decoded.")]
    on: Annotated[float, doc("Its probability in the model's own pass.")]
    off: Annotated[float, doc("Its probability with the part switched off.")]


class OffRecord(Record, frozen=True, kw_only=True):
    """What is lost where a part is switched off."""

    part: Annotated[Literal["head", "cross"], doc("One head, or all attention to the other text.")]
    edit: Annotated[str, doc("The edit that switches it off.")]
    layer: Annotated[int | None, doc("The head's layer.")]
    head: Annotated[int | None, doc("The head.")]
    tokens: Annotated[list[AgainRecord], doc("Random tokens in their second copy, or the decoder's own.")]
    on: Annotated[float, doc("Mean logarithm of their probabilities in the model's own pass, in nats.")]
    off: Annotated[float, doc("The same with the part switched off.")]


class LessonReport(ModelReport, frozen=True, kw_only=True):
    """Report of `lesson`: the facts of each step; null where it was not asked for, or cannot be."""

    command: Annotated[Literal["lesson"], doc("The command that made the report.")]
    input: Annotated[InputRecord, doc("What the model reads: step 1.")]
    step: Annotated[int | None, doc("The step that was asked for; null for all.")]
    steps: Annotated[list[StepRecord], doc("The steps: their command lines, and why one is missing.")]
    embedding: Annotated[EmbeddingRecord | None, doc("Step 2.")]
    positions: Annotated[
        PositionRecord | None, doc("Step 3; and for step 5 where its weights are no softmax of its scores alone.")
    ]
    head: Annotated[WorkingHeadRecord | None, doc("Steps 4 and 5.")]
    heads: Annotated[list[HeadKindRecord], doc("Step 6: the heads of that layer.")]
    stream: Annotated[StreamRecord | None, doc("Steps 7 and 8.")]
    layers: Annotated[list[LayerGuessRecord], doc("Step 9: what each layer would predict.")]
    predicted: Annotated[PredictedRecord | None, doc("Step 10.")]
    off: Annotated[OffRecord | None, doc("Step 11.")]

    @property
    def one_by_one(self) -> list[LessonReport]:
        """The report for each step alone, where more than one was asked for."""
        if self.step is not None:
            return []
        return [structs.replace(self, step=each.step) for each in self.steps]


COMMAND = Command(
    "lesson",
    LessonQuery,
    LessonReport,
    examples=(
        "txinspect lesson",
        "txinspect lesson 'the quick brown fox' -m transformer-mini",
        "txinspect lesson --step 4",
        "txinspect lesson --html lesson.html",
    ),
)
