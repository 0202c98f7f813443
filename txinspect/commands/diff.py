"""Two ways of running, stage by stage."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

from txinspect.commands.command import Command, Detailed
from txinspect.commands.run import STAGE
from txinspect.edits import Edit
from txinspect.errors import UsageError, spelled
from txinspect.model_choice import DType, ModelChoice
from txinspect.option import Option
from txinspect.queries import PassQuery, read_edits
from txinspect.records import CheckRecord, InputRecord, ModelRecord, ModelReport, Record, doc
from txinspect.value_checks import check_one_of

AGAINST = "Against"
"""The heading in the help: what it is compared with."""

_WAYS = (
    "against",
    "against_8bit",
    "against_4bit",
    "against_dtype",
    "against_attn",
    "against_device",
    "against_revision",
    "against_text",
    "against_edit",
    "against_no_adapter",
    "against_file",
)
"""The fields that name the other side; None, False or empty where they name none."""

FAILING = ("rel_l2", "max_abs", "mean_abs", "isolated_rel_l2", "kl_mean", "kl_max", "changed")
"""What --fail-on compares."""


@dataclass(frozen=True, kw_only=True)
class DiffQuery(PassQuery["DiffReport"]):
    """Compare two ways of running a text, stage by stage, and say where they part and what it changes."""

    stages: Annotated[
        tuple[str, ...], replace(STAGE, help="Compare only these stages, modules or globs; may be repeated.")
    ] = ()
    against: Annotated[str | None, Option("--against", "Another model.", "MODEL", AGAINST, completes="models")] = None
    against_8bit: Annotated[bool, Option("--against-8bit", "The model in 8 bits.", None, AGAINST)] = False
    against_4bit: Annotated[bool, Option("--against-4bit", "The model in 4 bits.", None, AGAINST)] = False
    against_dtype: Annotated[
        DType | None, Option("--against-dtype", "The model computing in another type.", "TYPE", AGAINST)
    ] = None
    against_attn: Annotated[
        str | None,
        Option("--against-attn", "The model on another attention backend.", "NAME", AGAINST, ("eager", "sdpa")),
    ] = None
    against_device: Annotated[
        str | None, Option("--against-device", "The model on another device.", "DEVICE", AGAINST)
    ] = None
    against_revision: Annotated[
        str | None, Option("--against-revision", "Another revision of the model on the Hub.", "REV", AGAINST)
    ] = None
    against_text: Annotated[
        str | None,
        Option("--against-text", "The model on another text; tokens that only one has are left out.", "TEXT", AGAINST),
    ] = None
    against_edit: Annotated[
        tuple[Edit | str, ...],
        Option(
            "--against-edit",
            "The model with its pass changed, PLACE OP VALUE as --edit has it; may be repeated.",
            "EDIT",
            AGAINST,
        ),
    ] = ()
    against_no_adapter: Annotated[
        bool, Option("--against-no-adapter", "The base model, without the adapter that -m names.", None, AGAINST)
    ] = False
    against_file: Annotated[
        Path | None,
        Option("--against-file", "Tensors that --save wrote, .safetensors or .npz.", "FILE", AGAINST),
    ] = None
    names: Annotated[
        tuple[str, ...],
        Option(
            "--map",
            "With --against-file: a name there and the stage here, as theirs=ours; may be repeated.",
            "NAMES",
            AGAINST,
        ),
    ] = ()
    isolated: Annotated[
        bool, Option("--isolated", "Also feed each layer of the other side what this side's layer read.")
    ] = False
    tolerance: Annotated[
        float | None,
        Option("--tolerance", "Relative L2 from which sides part; 3 times the measured noise if not given.", "X"),
    ] = None
    fail_on: Annotated[
        tuple[str, ...],
        Option("--fail-on", f"Exit 3 where it holds anywhere, such as 'rel_l2>1e-2'; {', '.join(FAILING)}.", "TEST"),
    ] = ()

    @property
    def way(self) -> str:
        """The field of the query that names the other side of `diff`."""
        return self._ways()[0]

    def _ways(self) -> list[str]:
        return [name for name in _WAYS if getattr(self, name) not in (None, False, ())]

    @property
    def given(self) -> str | None:
        """What the query of `diff` gives for its other side; None for a switch."""
        value = getattr(self, self.way)
        if isinstance(value, tuple):
            return "; ".join(map(str, value))
        return None if isinstance(value, bool) else str(value)

    def other(self) -> ModelChoice:
        """The other side's model; that of `against_no_adapter` is known to the adapter alone."""
        values = {
            "against": {"name": self.against, "revision": None},
            "against_8bit": {"quantization": "8bit"},
            "against_4bit": {"quantization": "4bit"},
            "against_dtype": {"dtype": self.against_dtype},
            "against_device": {"device": self.against_device},
            "against_revision": {"revision": self.against_revision},
        }.get(self.way, {})
        return replace(self.model, **values)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "against_edit", read_edits("against_edit", self.against_edit))
        given = self._ways()
        if not given:
            raise UsageError(
                "there is nothing to compare with",
                f"give {spelled('against', 'MODEL')}, "
                f"{spelled('against_8bit', True)}, {spelled('against_dtype', 'bfloat16')} or another",
            )
        if len(given) > 1:
            raise UsageError(
                f"{spelled(given[0])} and {spelled(given[1])} cannot be combined: compare with one of them"
            )
        if self.names and self.against_file is None:
            raise UsageError(
                f"{spelled('names')} names tensors of a file", f"add {spelled('against_file', 'FILE')}, or omit it"
            )
        if self.isolated and self.against_file is not None:
            raise UsageError(f"{spelled('isolated')} runs the other side, and a file cannot run", "omit it")
        if self.isolated and self.against_text is not None:
            raise UsageError(
                f"{spelled('isolated', True)} and {spelled('against_text')} cannot be combined: what differs is the "
                f"text, and a layer that reads the same gives the same",
                f"omit {spelled('isolated', True)}",
                by="; ",
            )
        if self.tolerance is not None and not 0 <= self.tolerance < float("inf"):
            raise UsageError(f"{spelled('tolerance')} {self.tolerance} is no distance", "give 0 or more")
        for pair in self.names:
            if not re.fullmatch(r"[^=]+=[^=]+", pair):
                raise UsageError(f"{spelled('names')} {pair!r} is no pair of names", "give theirs=ours")
        for side in (0, 2):
            named = [pair.partition("=")[side] for pair in self.names]
            if twice := next((each for each in named if named.count(each) > 1), None):
                raise UsageError(f"{spelled('names')} names {twice!r} twice", "give each name one partner")
        if self.against_dtype is not None:
            check_one_of("against_dtype", self.against_dtype, get_args(DType))
        for test in self.fail_on:
            if parsed(test)[0] == "isolated_rel_l2" and not self.isolated:
                raise UsageError(
                    f"{spelled('fail_on', test)} is about isolated layers", f"add {spelled('isolated', True)}"
                )
        self.other()


def parsed(test: str) -> tuple[str, str, float]:
    """A test of `diff --fail-on` such as rel_l2>1e-2: what is compared, how, with what. Raises UsageError else."""
    match = re.fullmatch(r"\s*(\w+)\s*(>=|>)\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*", test, re.IGNORECASE)
    if match is None or match[1] not in FAILING or match[3].count(".") > 1:
        raise UsageError(
            f"{spelled('fail_on')} {test!r} is no test", f"give one of {', '.join(FAILING)}, > and a number"
        )
    return match[1], match[2], float(match[3])


class StageDiffRecord(Record, frozen=True, kw_only=True):
    """How far one stage of the two sides is apart, in float64 over the numbers that are finite on both."""

    name: Annotated[str, doc("Stage name or dotted module path.")]
    shape: Annotated[list[int], doc("The size of each axis, as far as it is compared.")]
    rel_l2: Annotated[float | None, doc("‖other - this‖ / ‖this‖.")]
    cosine: Annotated[float | None, doc("Cosine of the angle between the two.")]
    snr_db: Annotated[float | None, doc("Signal-to-noise ratio in dB: -20 log10(rel_l2); null where they are equal.")]
    max_abs: Annotated[float | None, doc("Largest difference.")]
    mean_abs: Annotated[float | None, doc("Mean difference.")]
    at: Annotated[list[int] | None, doc("Where the largest difference is on this side: an index per axis.")]
    other_at: Annotated[
        list[int] | None, doc("Where it is on the other side, if tokens are aligned with others there; else null.")
    ]
    nan: Annotated[int, doc("Numbers that are NaN or infinite on a side, and not the same on both.")]
    total_variation: Annotated[
        list[float | None] | None, doc("Of attention weights: by head, half the mean sum of differences; else null.")
    ]
    changed_share: Annotated[float | None, doc("Of chosen experts: share of tokens whose set changed; else null.")]
    isolated_rel_l2: Annotated[
        float | None,
        doc("With --isolated, in a layer: rel_l2 where it reads this side's input; else null."),
    ]


class LogitsDiffRecord(Record, frozen=True, kw_only=True):
    """What the differences come to in the predictions; KL(this ‖ other) in nats."""

    kl_mean: Annotated[float | None, doc("Mean over the tokens.")]
    kl_median: Annotated[float | None, doc("Median.")]
    kl_p99: Annotated[float | None, doc("99th percentile.")]
    kl_max: Annotated[float | None, doc("Largest.")]
    same_top1: Annotated[float, doc("Share of tokens after which both predict the same.")]
    ln_perplexity_ratio: Annotated[float | None, doc("ln(perplexity of the other / of this); null for one token.")]


class ChangedRecord(Record, frozen=True, kw_only=True, rename={"from_": "from"}):
    """A token after which the two sides predict different ones."""

    position: Annotated[int, doc("Index of the token.")]
    other_position: Annotated[int | None, doc("Its index on the other side, where that is another one; else null.")]
    token: Annotated[str | None, doc("The token decoded.")]
    from_: Annotated[str | None, doc("What this side predicts.")]
    to: Annotated[str | None, doc("What the other side predicts.")]


class DiffReport(ModelReport, frozen=True, kw_only=True):
    """Report of `diff`."""

    command: Annotated[Literal["diff"], doc("The command that made the report.")]
    against: Annotated[ModelRecord | None, doc("The other side's model; null for a file.")]
    way: Annotated[str, doc("What is different: against, against_8bit, against_dtype, …")]
    given: Annotated[str | None, doc("What was given for it, such as a model or a type; null for a switch.")]
    input: InputRecord
    other_input: Annotated[InputRecord | None, doc("What the other side reads, with --against-text; else null.")]
    aligned: Annotated[
        list[list[int]] | None,
        doc(
            "With --against-text: the index of each token of the text that is compared, and its index in the other "
            "text; else null."
        ),
    ]
    decoder_aligned: Annotated[
        list[list[int]] | None, doc("The same of what the decoder reads; null where there is no such text.")
    ]
    findings: Annotated[list[str], doc("The first of the notes: where the sides part, and what it changes.")]
    stages: Annotated[list[StageDiffRecord], doc("What both sides have, in the order of the pass.")]
    first_divergence: Annotated[str | None, doc("The first stage that is farther apart than the tolerance.")]
    tolerance: Annotated[float, doc("Relative L2 from which sides part.")]
    noise: Annotated[
        float | None,
        doc(
            "Relative L2 of this side against itself, the largest of all stages, on another "
            "attention backend and in a batch of two; null where a tolerance was given."
        ),
    ]
    logits: Annotated[LogitsDiffRecord | None, doc("The predictions; null where logits were not compared.")]
    changed: Annotated[list[ChangedRecord], doc("Tokens after which the predictions differ.")]
    only_this: Annotated[
        list[str],
        doc(
            "Stages that the other side does not have, or in another shape, or whose tokens cannot be aligned; of "
            "logits what both have is compared."
        ),
    ]
    only_other: Annotated[list[str], doc("Stages that only the other side has.")]
    saved: Annotated[str | None, doc("The file that --save wrote, the other side's tensors with other. in front.")]
    replaced: Annotated[bool, doc("Whether --save wrote over a file that was there.")]
    checks: Annotated[
        list[CheckRecord] | None,
        doc("What --check and --fail-on found, the other side's with other. in front; null without them."),
    ]


COMMAND = Command(
    "diff",
    DiffQuery,
    DiffReport,
    examples=(
        "txinspect diff --against-8bit",
        "txinspect diff --dtype float32 --against-dtype bfloat16 --isolated",
        "txinspect diff -m facebook/opt-125m --against facebook/opt-350m --fail-on 'kl_mean>0.1'",
        "txinspect diff --against-attn eager --stage 'layers.*.output'",
        "txinspect diff 'The quick brown fox' --against-text 'The slow brown fox'",
    ),
    view=Detailed,
)
