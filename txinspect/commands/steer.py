"""Vectors that steer a model: made of texts that it is to be led to and away from, and tried on what it generates."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite
from pathlib import Path
from typing import Annotated, Literal, get_args

from txinspect.commands.command import Command, Themed
from txinspect.edits import file_and_name
from txinspect.errors import UsageError, spelled
from txinspect.indices import Layers
from txinspect.option import INPUT, OUTPUT, Option
from txinspect.queries import LESSON, PassQuery
from txinspect.records import Record, TensorsReport, doc
from txinspect.value_checks import check_one_of, check_strings
from txinspect.wording import shown

Action = Literal["make", "try"]

Over = Literal["last", "all"]

Method = Literal["mean", "pca"]

Origin = Literal["llama.cpp", "cvector-generator"]

SCALES = (-8.0, -4.0, 0.0, 4.0, 8.0)

MOST_SCALES = 100
"""Each takes two texts to be generated."""

_OF_MAKING = ("toward", "away", "pairs", "over", "method", "save")
_OF_TRYING = ("vector", "origin", "scales", "new", "seed")
_READ_BY_TRYING = ("pair", "masks", "ids", "chat")
"""What says what is read in the place of a plain text."""


@dataclass(frozen=True, kw_only=True)
class SteerQuery(PassQuery["SteerReport"]):
    """Make a vector that leads a model toward some texts and away from others, or try one on what it generates."""

    idle = ("check",)
    instead_of_text = ("ids", "user", "toward", "pairs")
    continues = True

    action: Annotated[
        Action | None,
        Option("ACTION", "make: a vector of texts; try: one on what follows TEXT.", "ACTION", first=True),
    ] = None
    toward: Annotated[
        tuple[str, ...] | None,
        Option("--toward", "make: a text that the vector leads to; may be repeated.", "TEXT"),
    ] = None
    away: Annotated[
        tuple[str, ...] | None,
        Option("--away", "make: a text that it leads away from, one for each --toward.", "TEXT"),
    ] = None
    pairs: Annotated[
        Path | None,
        Option(
            "--pairs",
            'make: in their place a file with toward, a tab and away on each line; or JSON lines with "toward" and '
            '"away".',
            "FILE",
        ),
    ] = None
    layers: Annotated[
        Layers, Option("-l/--layer", "The layer at whose output the vector is, such as 2, or several, 1-3.", "N")
    ] = None
    stages: Annotated[
        tuple[str, ...], Option("-s/--stage", "In its place a stage: what it passes on.", "STAGE", completes="stages")
    ] = ()
    over: Annotated[
        Over, Option("--over", "make: the last token of each text, or the mean of all but special ones.", "TOKENS")
    ] = "last"
    method: Annotated[
        Method,
        Option(
            "--method", "make: the mean of the pairs' differences, or pca, their first principal component.", "METHOD"
        ),
    ] = "mean"
    vector: Annotated[
        str | None,
        Option(
            "--vector",
            "try: FILE or FILE:NAME: what make wrote, .safetensors or .npz of stages, a control vector in GGUF, or .pt "
            "of (hidden,) or (layers, hidden).",
            "FILE",
        ),
    ] = None
    origin: Annotated[
        Origin,
        Option(
            "--from",
            "try: who wrote a GGUF; llama.cpp's cvector-generator names what it took from block k direction.k+1.",
            "PROGRAM",
        ),
    ] = "llama.cpp"
    scales: Annotated[
        tuple[float | str, ...], Option("--scales", "try: how often the vector is added, such as -4,0,4.", "X,…")
    ] = SCALES
    new: Annotated[
        int, Option("-n/--new", "try: tokens that are generated at most, the likeliest each time.", "N", INPUT)
    ] = PassQuery.new
    seed: Annotated[int, Option("--seed", "try: what the random direction beside is drawn with.", "S")] = 0
    save: Annotated[
        Path | None, Option("-o/--save", "make: write the vector to FILE.safetensors or FILE.npz.", "FILE", OUTPUT)
    ] = None

    @property
    def layers_asked(self) -> Layers:
        """See PassQuery."""
        return self.layers

    @property
    def made_of(self) -> tuple[tuple[str, str], ...]:
        """The pairs that are given by themselves: a text toward, and one away."""
        return tuple(zip(self.toward or (), self.away or (), strict=True))

    @property
    def steps(self) -> tuple[float, ...]:
        """The scales, each once, from below."""
        return tuple(sorted({float(each) for each in self.scales}))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.action is None:
            raise UsageError(f"{spelled('action')} is missing: a vector is made, or tried", "give make or try")
        for name, kind in (("action", Action), ("over", Over), ("method", Method), ("origin", Origin)):
            check_one_of(name, getattr(self, name), get_args(kind))
        check_strings("stages", self.stages)
        self._read_scales()
        others = _OF_TRYING if self.action == "make" else _OF_MAKING
        changed = [each.name for each in fields(self) if getattr(self, each.name) != each.default]
        wrong = next((name for name in others if name in changed), None)
        if wrong is not None:
            which = "try" if self.action == "make" else "make"
            raise UsageError(f"{spelled(wrong)} is of steer {which}, and this is steer {self.action}", "omit it")
        if self.layers == ():
            raise UsageError(f"{spelled('layers')} chooses none", "name at least one")
        if self.layers is not None and self.stages:
            raise UsageError(
                f"{spelled('layers')} and {spelled('stages')} cannot be combined: each says where the vector is"
            )
        (self._check_made if self.action == "make" else self._check_tried)()

    def _read_scales(self) -> None:
        """Read scales as a shell types them. Raises UsageError for what is no number."""
        given = self.scales if isinstance(self.scales, tuple) else (self.scales,)
        parts = [part for each in given for part in (each.split(",") if isinstance(each, str) else [each])]
        wrong = next((part for part in parts if not _is_number(part)), None)
        if wrong is not None or not parts:
            said = "names none" if wrong is None else f"{shown(wrong)} is no number"
            raise UsageError(f"{spelled('scales')} {said}", "give some such as -4,0,4")
        if len(parts) > MOST_SCALES:
            raise UsageError(f"{spelled('scales')} names {len(parts)}", f"give at most {MOST_SCALES}")
        object.__setattr__(self, "scales", tuple(map(float, parts)))

    def _check_made(self) -> None:
        """Raise UsageError unless there are texts, each toward with one away, and a place to make a vector at."""
        for name in _READ_BY_TRYING:
            if getattr(self, name):
                raise UsageError(f"{spelled(name)} is of one text, and steer make reads pairs of them", "omit it")
        if self.text != LESSON:
            raise UsageError(
                "steer make reads the texts that it is made of",
                f"give them by {spelled('toward')} and {spelled('away')}",
            )
        for name in ("toward", "away"):
            if self.pairs is not None and getattr(self, name) is not None:
                raise UsageError(
                    f"{spelled('pairs')} and {spelled(name)} cannot be combined: each says what the vector is made of"
                )
            if self.pairs is None and not getattr(self, name):
                raise UsageError(
                    f"{spelled(name)} is missing: a vector leads toward some texts, away from others",
                    f"give both, or {spelled('pairs')}",
                )
            if "" in (getattr(self, name) or ()):
                raise UsageError(f"{spelled(name)} '' is empty", "give a text")
        count, other = len(self.toward or ()), len(self.away or ())
        if count != other:
            raise UsageError(
                f"{spelled('toward')} is given {count} times and {spelled('away')} {other} times",
                "give as many of both",
            )
        if self.method == "pca" and count == 1:
            raise UsageError(
                f"{spelled('method', 'pca')} is of several differences, and this is one", "give more pairs"
            )
        if self.layers is None and not self.stages:
            raise UsageError(
                f"{spelled('layers')} is missing: a vector is of the output of a layer", "give one, such as 2"
            )

    def _check_tried(self) -> None:
        """Raise UsageError unless there is a vector to try."""
        if self.vector is None:
            raise UsageError(f"{spelled('vector')} is missing: it is what is tried", "give what steer make wrote")
        file_and_name(self.vector)
        if self.decoder is not None:
            raise UsageError(
                f"{spelled('decoder')} and steer try cannot be combined: what the decoder reads is generated", "omit it"
            )


def _is_number(given: object) -> bool:
    try:
        return not isinstance(given, bool) and isfinite(float(given))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


class VectorRecord(Record, frozen=True, kw_only=True):
    """A vector, and where it is added."""

    name: Annotated[str, doc("Its tensor in the file.")]
    place: Annotated[str, doc("The stage that it is of, or is added to.")]
    width: Annotated[int, doc("How many numbers it has.")]
    norm: Annotated[float | None, doc("‖v‖, its Euclidean norm.")]
    stream: Annotated[
        float | None, doc("‖h‖, the mean norm of what stands there at the text's tokens, special ones left out.")
    ]
    ratio: Annotated[float | None, doc("‖v‖/‖h‖.")]
    agreement: Annotated[
        float | None,
        doc("Mean cosine of the pairs' differences with it, of those that differ; null where it is tried."),
    ]


class TryRecord(Record, frozen=True, kw_only=True):
    """What is generated with a vector added, and how likely that is in the model as it is."""

    scale: Annotated[float, doc("How often the vector is added.")]
    random: Annotated[bool, doc("Whether it is a random direction of the same norm, for comparison.")]
    ratio: Annotated[float | None, doc("|scale|·‖v‖/‖h‖; the mean of several vectors.")]
    edits: Annotated[list[str], doc("What was done, as --edit spells it; empty for a random direction, and for 0.")]
    ids: Annotated[list[int], doc("The tokens that are generated.")]
    text: Annotated[str, doc("What they stand for.")]
    perplexity: Annotated[
        float | None, doc("Perplexity of them after the text in the unedited model; null where none is generated.")
    ]


class SteerReport(TensorsReport, frozen=True, kw_only=True):
    """Report of `steer`."""

    command: Annotated[Literal["steer"], doc("The command that made the report.")]  # type: ignore[assignment]
    action: Annotated[Action, doc("Whether a vector was made, or tried.")]
    pairs: Annotated[int | None, doc("Pairs of texts that a vector was made of.")]
    method: Annotated[Method | None, doc("How it was made of them.")]
    over: Annotated[Over | None, doc("Which tokens of each text it was made of.")]
    vector: Annotated[str | None, doc("The file of the vector that was tried.")]
    vectors: Annotated[list[VectorRecord], doc("Each vector that was made, or is added.")]
    tries: Annotated[list[TryRecord], doc("What is generated at each scale, from below; 0 is always among them.")]


COMMAND = Command(
    "steer",
    SteerQuery,
    SteerReport,
    examples=(
        "txinspect steer make --toward 'a happy day' --away 'a sad day' --layer 1 -o happy.safetensors",
        "txinspect steer try 'My friend was' --vector happy.safetensors --scales -2,-1,1,2",
        "txinspect logits 'My friend was' --edit 'layers.1.output + 2*happy.safetensors:layers.1.output'",
    ),
    view=Themed,
    more=(
        "A vector is added to its stage at every token, of the text and of what is generated, as by --edit 'STAGE + "
        "X*FILE:NAME'. ‖h‖ is the mean norm of what stands there. The perplexity is that of the unedited model; a "
        "random direction of the same norm stands beside each scale."
    ),
)
