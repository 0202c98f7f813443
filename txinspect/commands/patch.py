"""Where a model holds what tells two texts apart."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Literal, get_args

from txinspect.commands.command import Command, Themed
from txinspect.errors import UsageError, spelled
from txinspect.indices import Layers
from txinspect.option import INPUT, Option
from txinspect.queries import PassQuery
from txinspect.records import InputRecord, Record, TensorsReport, doc
from txinspect.value_checks import check_one_of

Sweep = Literal["heads", "attention", "mlp", "stream"]

Metric = Literal["logit-difference", "logprob", "prob", "kl"]

Direction = Literal["denoise", "noise", "both"]

OR = "|"
"""Stands between answers of which any will do."""

NOISE = 3.0
"""Standard deviations of the embeddings by which a subject is corrupted (Meng et al. 2022, section 2.1)."""

LEAST_GAP, SMALL_GAP = 1e-3, 0.1
"""Gaps between two texts' metrics below which nothing can be told, and below which little can."""

NOISES, STEPS = 10, 2
"""How many times the noise a gap has to be, and how many steps of the logits' type."""


@dataclass(frozen=True, kw_only=True)
class PatchQuery(PassQuery["PatchReport"]):
    """Say where a model holds what tells two texts apart: parts of one text's pass are put into the other's."""

    idle = ("save", "overwrite", "check", "new")

    called = "CLEAN"

    corrupt: Annotated[
        str | None,
        Option("CORRUPT", "The other text, of as many tokens, to which the model gives another answer.", "CORRUPT"),
    ] = None
    answer: Annotated[
        str | None,
        Option(
            "--answer",
            "What follows CLEAN, such as ' Paris': one token or several, and | between answers of which any will do; "
            "the likeliest token if not given. A label of a classifier.",
            "TEXT",
        ),
    ] = None
    wrong: Annotated[
        str | None,
        Option("--wrong", "What follows CORRUPT, to which the answer is compared; its likeliest if not given.", "TEXT"),
    ] = None
    metric: Annotated[
        Metric,
        Option(
            "--metric",
            "What is restored: logit-difference, of the answer and the wrong one; the answer's logprob or prob; or kl, "
            "how far the prediction is from CLEAN's.",
            "METRIC",
        ),
    ] = "logit-difference"
    direction: Annotated[
        Direction,
        Option(
            "--direction",
            "denoise puts what CLEAN has into CORRUPT, noise what CORRUPT has into CLEAN; or both.",
            "WAY",
        ),
    ] = "denoise"
    sweep: Annotated[
        Sweep, Option("--sweep", "What is patched: heads, attention, mlp, or the stream by its positions.", "PARTS")
    ] = "heads"
    layers: Annotated[Layers, Option("-l/--layer", "Layers to patch, such as 0,2-3; all if not given.", "N")] = None
    heads: Annotated[
        tuple[int, ...] | None, Option("--head", "Heads to patch, such as 0,2-3; all if not given.", "H")
    ] = None
    position: Annotated[
        Layers, Option("--position/--query", "Tokens to patch, such as 2 or -1 for the last; all if not given.", "N")
    ] = None
    word: Annotated[
        str | None,
        Option(
            "--at-word", "Patch where a word of CLEAN ends; in texts of other lengths, where it does in each.", "WORD"
        ),
    ] = None
    encoder: Annotated[bool, Option("--encoder", "Of an encoder–decoder: the encoder's parts, not the decoder's.")] = (
        False
    )
    cross: Annotated[
        bool, Option("--cross", "Of an encoder–decoder: its attention to the encoder's text, as heads or attention.")
    ] = False
    subject: Annotated[
        str | None,
        Option("--subject", "In the place of CORRUPT: words of CLEAN whose embeddings are given noise.", "TEXT", INPUT),
    ] = None
    noise: Annotated[
        float | None,
        Option(
            "--noise",
            "Beside --subject: standard deviations of the embeddings that the noise has; 3 if not given.",
            "X",
        ),
    ] = None
    seed: Annotated[int, Option("--seed", "Beside --subject: what the noise is drawn with.", "S")] = 0
    force: Annotated[
        bool, Option("--force", "Patch where both texts have one answer, or differ by next to nothing, too.")
    ] = False

    @property
    def layers_asked(self) -> Layers:
        """See PassQuery."""
        return () if self.encoder else self.layers

    @property
    def deviations(self) -> float:
        """Standard deviations of the embeddings that the noise on a subject has."""
        return NOISE if self.noise is None else self.noise

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, kind in (("sweep", Sweep), ("metric", Metric), ("direction", Direction)):
            check_one_of(name, getattr(self, name), get_args(kind))
        self._check_corruption()
        self._check_answers()
        self._check_parts()

    def _check_corruption(self) -> None:
        """Raise UsageError unless there is one text to be told from CLEAN, or a subject to be corrupted."""
        if self.corrupt is None and self.subject is None:
            raise UsageError(
                f"{spelled('corrupt')} is missing: a patch is from one text into another",
                f"give it after CLEAN, or name words to corrupt by {spelled('subject')}",
            )
        if self.corrupt is not None and self.subject is not None:
            raise UsageError(
                f"{spelled('corrupt')} and {spelled('subject')} cannot be combined: each says what is corrupt"
            )
        for name in ("noise", "seed"):
            if getattr(self, name) != getattr(PatchQuery, name) and self.subject is None:
                raise UsageError(
                    f"{spelled(name)} is of the noise on a subject", f"add {spelled('subject')}, or omit it"
                )
        if self.subject == "":
            raise UsageError(f"{spelled('subject')} '' is empty", "give words of the text")
        if self.noise is not None and not (self.noise > 0 and isfinite(self.noise)):
            raise UsageError(f"{spelled('noise')} {self.noise} is no noise", "give a number above 0, such as 3")

    def _check_answers(self) -> None:
        """Raise UsageError for answers that the metric is not about, or that are empty."""
        of_no_use = {"kl": ("answer", "wrong"), "logprob": ("wrong",), "prob": ("wrong",)}.get(self.metric, ())
        for name in of_no_use:
            if getattr(self, name) is not None:
                raise UsageError(
                    f"{spelled(name)} and {spelled('metric', self.metric)} cannot be combined: it is not about that",
                    "omit one",
                    by="; ",
                )
        for name in ("answer", "wrong"):
            given: str | None = getattr(self, name)
            if given is not None and "" in given.split(OR):
                raise UsageError(f"{spelled(name)} {given!r} is empty", "give at least one character")

    def _check_parts(self) -> None:
        """Raise UsageError for parts that cannot be chosen together."""
        if self.heads is not None and self.sweep != "heads":
            raise UsageError(f"{spelled('heads')} and {spelled('sweep', self.sweep)} cannot be combined", "omit one")
        if self.cross and self.sweep not in ("heads", "attention"):
            raise UsageError(
                f"{spelled('cross', True)} and {spelled('sweep', self.sweep)} cannot be combined", "omit one"
            )
        for one, other in (("encoder", "cross"), ("position", "word")):
            if getattr(self, one) not in (None, False) and getattr(self, other) not in (None, False):
                given = [spelled(each, True if each in ("encoder", "cross") else None) for each in (one, other)]
                raise UsageError(f"{given[0]} and {given[1]} cannot be combined: each says where to look", "omit one")
        for name, chosen in (("layers", self.layers), ("heads", self.heads), ("position", self.position)):
            if chosen == ():
                raise UsageError(f"{spelled(name)} chooses none", "name at least one, or omit it for all")
        if self.word == "":
            raise UsageError(f"{spelled('word')} '' is empty", "give a word of the text")


class AnswerRecord(Record, frozen=True, kw_only=True):
    """An answer that a patch is measured by."""

    text: Annotated[str, doc("The answer: its tokens decoded, or a label's name.")]
    ids: Annotated[list[int], doc("Its tokens, or the label's column of the logits.")]


class CellRecord(Record, frozen=True, kw_only=True):
    """A part that was patched, and what that restores or breaks."""

    direction: Annotated[
        Literal["denoise", "noise"],
        doc("denoise: CLEAN's value in CORRUPT's pass; noise: CORRUPT's value in CLEAN's pass."),
    ]
    layer: Annotated[int, doc("The layer.")]
    head: Annotated[int | None, doc("Head index; null for what is no head.")]
    position: Annotated[int | None, doc("Of the stream: the token, as the text that is patched has it; else null.")]
    metric: Annotated[float | None, doc("The metric of the patched pass.")]
    effect: Annotated[
        float | None,
        doc("Share of the gap: (metric - that of the text patched, in the same batch) / (source's - receiver's)."),
    ]


class PatchNoiseRecord(Record, frozen=True, kw_only=True):
    """What is no effect: the larger of a text's own values patched into it, and of it beside others against alone."""

    metric: Annotated[float, doc("Change of the metric.")]
    effect: Annotated[float | None, doc("The same as a share of the gap.")]


class PatchReport(TensorsReport, frozen=True, kw_only=True):
    """Report of `patch`."""

    command: Annotated[Literal["patch"], doc("The command that made the report.")]  # type: ignore[assignment]
    other_input: Annotated[InputRecord | None, doc("CORRUPT, as the model reads it; null with --subject.")]
    subject: Annotated[list[int] | None, doc("Positions of CLEAN's corrupted embeddings, with --subject; else null.")]
    deviation: Annotated[float | None, doc("Standard deviation of the noise on them; null without.")]
    samples: Annotated[int, doc("How often the noise was drawn, of which all numbers are means; 1 without.")]
    sweep: Annotated[Sweep, doc("What was patched, one after the other.")]
    stack: Annotated[
        Literal["encoder", "decoder"] | None, doc("Whose parts they are; null where the model has one stack.")
    ]
    cross: Annotated[bool, doc("Whether they are of the attention to the encoder's text.")]
    positions: Annotated[
        list[list[int]] | None,
        doc("Where parts were patched: a position of CLEAN and of CORRUPT each; null for whole texts."),
    ]
    metric: Annotated[Metric, doc("What is restored or broken.")]
    answers: Annotated[list[AnswerRecord], doc("The answers, any of which will do; empty for kl.")]
    wrong: Annotated[list[AnswerRecord], doc("Those that they are compared to; empty but for logit-difference.")]
    clean: Annotated[float | None, doc("The metric of CLEAN by itself.")]
    corrupt: Annotated[float | None, doc("The metric of CORRUPT by itself.")]
    cells: Annotated[list[CellRecord], doc("Each part that was patched.")]
    noise: Annotated[PatchNoiseRecord, doc("What is no effect.")]


COMMAND = Command(
    "patch",
    PatchQuery,
    PatchReport,
    examples=(
        "txinspect patch 'The capital of France is' 'The capital of Russia is'",
        "txinspect patch 'The capital of France is' 'The capital of Russia is' --sweep stream",
        "txinspect patch 'The capital of France is' --subject France --answer ' Paris' --metric prob",
    ),
    view=Themed,
    more=(
        "An effect is (patched - receiver) / (source - receiver) of the metric: 1 does what the other text does, 0 "
        "nothing. Answers of several tokens are read as they would be written, token after token; of answers with | "
        "between them probabilities are summed. A subject is corrupted as in ROME (Meng et al. 2022), in ten samples: "
        "noise of 3 standard deviations of the embedding table. What is below the noise is no effect."
    ),
)
