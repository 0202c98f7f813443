"""The likeliest next tokens, and how well the model knew the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from txinspect.commands.command import Command, Themed
from txinspect.errors import UsageError, spelled
from txinspect.indices import Layers
from txinspect.option import Option
from txinspect.queries import EditedQuery
from txinspect.records import Record, TensorsReport, VocabularyRecord, doc


@dataclass(frozen=True, kw_only=True)
class LogitsQuery(EditedQuery["LogitsReport"]):
    """Show what comes next, or at masks: the likeliest tokens, how well the model knew the text, other texts."""

    top_k: Annotated[int, Option("-k/--top-k", "Likeliest tokens to list.", "K")] = 10
    position: Annotated[
        Layers,
        Option(
            "--position/--query",
            "Tokens after which to list them, such as 0,4-5, -1 for the last, or all; of a model that fills masks, at "
            "which, and its masks if not given.",
            "N",
        ),
    ] = -1
    pll: Annotated[
        bool,
        Option("--pll", "Of a model that fills masks: mask each token in turn, and score the text by their sum."),
    ] = False
    targets: Annotated[
        tuple[str, ...],
        Option("--target", "A token, such as ' dog', to give rank and probability of; may be repeated.", "TOKEN"),
    ] = ()
    continuations: Annotated[
        tuple[str, ...],
        Option("--continuation", "A text to give the probability of, after the text; may be repeated.", "TEXT"),
    ] = ()
    stride: Annotated[
        int | None,
        Option("--stride", "Score a text beyond the model's positions in windows that are S tokens apart.", "S"),
    ] = None

    @property
    def window_step(self) -> int | None:
        """See EditedQuery."""
        return self.stride

    def too_long(self, most: int) -> str:
        """See EditedQuery."""
        cut = super().too_long(most)
        return cut if self.pll else f"{cut}, or score it in windows by {spelled('stride')}"

    def too_long_unread(self, most: int) -> str:
        """See EditedQuery."""
        return super().too_long(most)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top_k < 1:
            raise UsageError(f"{spelled('top_k')} {self.top_k} lists no token", "give 1 or more")
        if self.position == ():
            raise UsageError(f"{spelled('position')} chooses none", "name at least one, or omit it for the last")
        if self.max_tokens is not None and self.continuations:
            raise UsageError(
                f"{spelled('max_tokens')} and {spelled('continuations')} cannot be combined: what follows a text would "
                f"follow a part of it",
                "omit one",
                by="; ",
            )
        if self.pll and (self.continuations or self.stride):
            other = spelled("continuations" if self.continuations else "stride")
            raise UsageError(f"{spelled('pll', True)} and {other} cannot be combined: each token is masked by itself")
        listed = [each for each in ("targets", "top_k") if getattr(self, each) != getattr(LogitsQuery, each)]
        if self.pll and listed and self.position in (-1, (-1,)):
            raise UsageError(
                f"{spelled('pll', True)} and {spelled(listed[0])} cannot be combined: it lists nothing at a position",
                f"add {spelled('position')} for one",
                by="; ",
            )
        if self.stride is not None and self.stride < 1:
            raise UsageError(f"{spelled('stride')} {self.stride} is no distance of windows", "give 1 or more")
        for name, texts in (("targets", self.targets), ("continuations", self.continuations)):
            if "" in texts:
                raise UsageError(f"{spelled(name)} '' is empty", "give at least one character")


class ScoredRecord(VocabularyRecord, frozen=True, kw_only=True):
    """A token of the vocabulary, and what the model gives for it."""

    logit: Annotated[float | None, doc("The model's output for it.")]
    prob: Annotated[float | None, doc("The softmax of the logits, in float64.")]
    rank: Annotated[int | None, doc("1 + the number of tokens with a larger logit; null for NaN.")]
    ties: Annotated[int, doc("Other tokens with the same logit; they are listed by id.")]


class PredictionRecord(Record, frozen=True, kw_only=True):
    """What the model gives after a token."""

    position: Annotated[int, doc("Index of the token.")]
    token: Annotated[str | None, doc("The token decoded.")]
    next: Annotated[ScoredRecord | None, doc("The text's own next token; null after the last, or if there is none.")]
    surprisal: Annotated[float | None, doc("-ln of the next token's probability, in nats.")]
    entropy: Annotated[float | None, doc("Entropy over the vocabulary, in nats.")]
    top: Annotated[list[ScoredRecord], doc("The likeliest tokens, where the position was asked for.")]
    targets: Annotated[list[ScoredRecord], doc("The tokens of --target, where the position was asked for.")]


class TextScoreRecord(Record, frozen=True, kw_only=True):
    """How well the model knew the text."""

    tokens: Annotated[int, doc("Tokens that were predicted: all but the first.")]
    logprob: Annotated[float | None, doc("Sum of the logarithms of their probabilities, in nats.")]
    perplexity: Annotated[float | None, doc("exp(-logprob / tokens).")]
    bits_per_byte: Annotated[float | None, doc("Bits per byte of the text that they stand for, in UTF-8.")]


class MaskedTokenRecord(Record, frozen=True, kw_only=True):
    """A token of the text, as the model gives it where it is masked."""

    position: Annotated[int, doc("Index of the token.")]
    token: Annotated[str | None, doc("The token decoded.")]
    logprob: Annotated[float | None, doc("Logarithm of its probability, in nats.")]
    rank: Annotated[int | None, doc("1 + the number of tokens with a larger logit; null for NaN.")]


class PseudoScoreRecord(Record, frozen=True, kw_only=True):
    """How well a model that fills masks knew the text (Salazar et al. 2020)."""

    tokens: Annotated[list[MaskedTokenRecord], doc("All but special ones, each masked in a pass of its own.")]
    pll: Annotated[float | None, doc("The pseudo-log-likelihood: the sum of their logprobs, in nats.")]
    pseudo_perplexity: Annotated[float | None, doc("exp(-pll / tokens).")]


class LabelRecord(Record, frozen=True, kw_only=True):
    """What a head that classifies gives for a label."""

    position: Annotated[int | None, doc("Index of the token that it is about; null for the whole text.")]
    id: Annotated[int, doc("Column of the logits.")]
    label: Annotated[str, doc("Its name in the config's id2label; start and end where a head looks for an answer.")]
    logit: Annotated[float | None, doc("The model's output for it.")]
    prob: Annotated[
        float | None,
        doc(
            "In float64: the softmax over the labels, of start and end over the tokens; the sigmoid where several "
            "labels may hold; null where the head gives a number."
        ),
    ]


class ContinuationRecord(Record, frozen=True, kw_only=True):
    """Another text after the text."""

    text: Annotated[str, doc("The continuation, as it was given.")]
    tokens: Annotated[int, doc("Its tokens.")]
    pieces: Annotated[list[str | None], doc("They decoded.")]
    logprob: Annotated[float | None, doc("Sum of the logarithms of their probabilities, each after those before it.")]
    greedy: Annotated[bool, doc("Whether always taking the likeliest token gives it.")]
    per_byte: Annotated[float | None, doc("logprob per byte of the continuation, in UTF-8.")]


class LogitsReport(TensorsReport, frozen=True, kw_only=True):
    """Report of `logits`."""

    command: Annotated[Literal["logits"], doc("The command that made the report.")]  # type: ignore[assignment]
    predictions: Annotated[list[PredictionRecord], doc("What the model gives after each token of the text.")]
    text_score: Annotated[TextScoreRecord | None, doc("The whole text; null where no token is predicted.")]
    continuations: Annotated[list[ContinuationRecord], doc("Those asked for, the likeliest first.")]
    pseudo_score: Annotated[PseudoScoreRecord | None, doc("The whole text, with --pll; else null.")]
    labels: Annotated[list[LabelRecord], doc("What a head that classifies gives; empty for one of a vocabulary.")]
    bidirectional: Annotated[bool, doc("Whether a token sees those after it, so that none is predicted as the next.")]


COMMAND = Command(
    "logits",
    LogitsQuery,
    LogitsReport,
    examples=(
        "txinspect logits 'The quick brown fox jumps over the lazy' --target ' dog' --target ' cat'",
        "txinspect logits --position all --top-k 3",
        "txinspect logits 'The capital of France is [MASK].' -m google-bert/bert-base-uncased",
        "txinspect logits 'The dog' --continuation ' ran home' --continuation ' sat'",
        "txinspect logits --edit 'layers.0.attention.output = 0'",
        "txinspect logits 'A long story' --stride 128 --json | jq .text_score",
    ),
    view=Themed,
)
