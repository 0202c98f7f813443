"""Statistics of the parameters themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from txinspect.commands.command import Command
from txinspect.errors import UsageError, spelled
from txinspect.model_choice import PLACEMENT, PRECISION
from txinspect.option import OUTPUT, Option
from txinspect.queries import ModelQuery
from txinspect.records import CheckRecord, ModelReport, Record, StatsRecord, doc
from txinspect.value_checks import check_one_of, check_strings
from txinspect.wording import shown

Flaw = Literal["nan", "inf", "zero", "dead"]

SortKey = Literal[
    "name",
    "numel",
    "mean",
    "std",
    "min",
    "max",
    "abs_max",
    "l2",
    "zeros",
    "nan",
    "inf",
    "kurtosis",
    "outliers",
    "dead_rows",
    "norm",
    "stable_rank",
    "cosine",
    "rel_l2",
    "max_abs",
    "sign_agreement",
]

SPECTRAL_KEYS = ("norm", "stable_rank")
DIFFERENCE_KEYS = ("cosine", "rel_l2", "max_abs", "sign_agreement")
SMALLEST_FIRST = ("name", "min", "stable_rank", "cosine", "sign_agreement")
"""Keys of which the smallest value comes first: there it is what stands out."""


@dataclass(frozen=True, kw_only=True)
class ParamsQuery(ModelQuery["ParamsReport"]):
    """Show statistics of the parameters, read from the weight files a piece at a time; compare two checkpoints."""

    idle = (*PRECISION, *PLACEMENT, "trust_remote_code", "task")

    params: Annotated[
        tuple[str, ...],
        Option("--param", "Tensors to measure: a name or a glob such as '**.bias'; may be repeated.", "GLOB"),
    ] = ()
    sort: Annotated[
        SortKey | None,
        Option("--sort", "Order by a statistic, what stands out first, such as kurtosis, outliers or rel_l2.", "KEY"),
    ] = None
    spectral: Annotated[
        bool, Option("--spectral", "The largest singular value and the stable rank of each matrix, too.")
    ] = False
    diff: Annotated[
        str | None,
        Option("--diff", "Compare with the tensors of the same names in another model.", "OTHER", completes="models"),
    ] = None
    base: Annotated[
        str | None,
        Option(
            "--base",
            "With --diff: the model that both were trained from; how often they moved in the same direction.",
            "BASE",
            completes="models",
        ),
    ] = None
    fail_on: Annotated[
        tuple[Flaw, ...],
        Option("--fail-on", "Exit 3 if a tensor holds nan or inf, is all zero or has dead rows.", "KIND", OUTPUT),
    ] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.sort, (str, type(None))):
            raise UsageError(f"{spelled('sort')} {shown(self.sort)} is not the name of a statistic, such as 'kurtosis'")
        check_one_of("sort", self.sort, (*get_args(SortKey), None))
        check_strings("fail_on", self.fail_on)
        for kind in self.fail_on:
            check_one_of("fail_on", kind, get_args(Flaw))
        named = [*(("params", each) for each in self.params), ("diff", self.diff), ("base", self.base)]
        for name, text in named:
            if text == "":
                raise UsageError(f"{spelled(name)} {text!r} is empty", "give a name, or omit it")
        if self.base is not None and self.diff is None:
            raise UsageError(
                f"{spelled('base')} is what two models were trained from", f"name the second with {spelled('diff')}"
            )
        needs: tuple[tuple[tuple[str, ...], str, bool], ...] = (
            (SPECTRAL_KEYS, "spectral", self.spectral),
            (DIFFERENCE_KEYS, "diff", self.diff is not None),
            (("sign_agreement",), "base", self.base is not None),
        )
        for keys, name, given in needs:
            if self.sort in keys and not given:
                raise UsageError(
                    f"{spelled('sort', self.sort)} needs {spelled(name)}", "add it, or sort by another key"
                )


class SpectralRecord(Record, frozen=True, kw_only=True):
    """A matrix as a map: how far it stretches, and in how many directions."""

    norm: Annotated[float | None, doc("Largest singular value; null if a value is not finite.")]
    stable_rank: Annotated[
        float | None, doc("The squared Frobenius norm over the squared largest singular value; null for zeros.")
    ]


class DifferenceRecord(Record, frozen=True, kw_only=True):
    """A tensor beside the one of the same name in the other model, over elements that are finite in both."""

    cosine: Annotated[float | None, doc("Cosine of the angle between the two; null if one is all zero.")]
    rel_l2: Annotated[
        float | None, doc("Norm of the difference over the norm of the tensor here; null if that is zero.")
    ]
    max_abs: Annotated[float | None, doc("Largest magnitude of the difference.")]
    equal: Annotated[bool, doc("Whether every value is the same; a NaN is the same as a NaN.")]
    sign_agreement: Annotated[
        float | None,
        doc(
            "With --base: of the elements that both changed, the share that both changed in the same direction; null "
            "if there are none, or the base has no such tensor."
        ),
    ]


class MeasuredTensorRecord(Record, frozen=True, kw_only=True):
    """A tensor in a weight file."""

    name: Annotated[str, doc("Its name in the file.")]
    file: Annotated[str, doc("The file that it is stored in, without folders.")]
    shape: Annotated[list[int], doc("The size of each axis.")]
    dtype: Annotated[str, doc("Its type as stored; of GGUF blocks, as GGUF calls it, such as Q4_0.")]
    stats: Annotated[StatsRecord, doc("Statistics over its finite values, of GGUF blocks those they stand for.")]
    kurtosis: Annotated[
        float | None,
        doc(
            "Population excess kurtosis: the fourth central moment over the squared variance, less 3; null if constant."
        ),
    ]
    outliers: Annotated[int, doc("Finite values that are more than 6 standard deviations from the mean.")]
    dead_rows: Annotated[
        int | None,
        doc("Rows, along the last axis, that are all zero; null for fewer than two axes and for whole numbers."),
    ]
    padding_row: Annotated[
        int | None, doc("A dead row that is meant to be: the padding token's, in an embedding or a head; else null.")
    ]
    identical_to: Annotated[
        str | None, doc("The first tensor of the report's files that has the same type, shape and bytes; else null.")
    ]
    spectral: Annotated[SpectralRecord | None, doc("With --spectral, of a matrix; else null.")]
    diff: Annotated[DifferenceRecord | None, doc("With --diff, if the other has such a tensor; else null.")]

    @property
    def dead(self) -> int:
        """Dead rows in a tensor's record of `params`, but for the one that is meant to be."""
        return (self.dead_rows or 0) - (self.padding_row is not None)


class MeasuredTotalsRecord(Record, frozen=True, kw_only=True):
    """What was measured, in all."""

    tensors: Annotated[int, doc("Tensors that were measured.")]
    files: Annotated[int, doc("Files that they are in.")]
    numel: Annotated[int, doc("Their elements.")]
    bytes: Annotated[int, doc("Their bytes as stored.")]
    zeros: Annotated[int, doc("Elements equal to zero.")]
    nan: Annotated[int, doc("Elements that are not a number.")]
    inf: Annotated[int, doc("Elements that are plus or minus infinity.")]
    outliers: Annotated[int, doc("Values beyond 6 standard deviations of their own tensor.")]
    dead_rows: Annotated[int, doc("Rows that are all zero.")]
    identical: Annotated[int, doc("Tensors that are identical to an earlier one.")]
    compared: Annotated[int | None, doc("With --diff, tensors that both have in the same shape.")]
    equal: Annotated[int | None, doc("Of those, the tensors that are equal.")]


class ParamsReport(ModelReport, frozen=True, kw_only=True):
    """Report of `params`."""

    command: Annotated[Literal["params"], doc("The command that made the report.")]
    findings: Annotated[list[str], doc("The first of the notes: what is wrong with the numbers; drawn on top.")]
    tensors: Annotated[list[MeasuredTensorRecord], doc("By name, numbers in it as numbers; or as --sort asks.")]
    totals: Annotated[MeasuredTotalsRecord, doc("Sums over the tensors.")]
    checks: Annotated[list[CheckRecord] | None, doc("What --fail-on found; null without it.")]
    params: Annotated[list[str], doc("The names and globs of --param; empty for every tensor.")]
    sort: Annotated[str | None, doc("The key of --sort.")]
    other: Annotated[str | None, doc("The model of --diff.")]
    base: Annotated[str | None, doc("The model of --base.")]


COMMAND = Command(
    "params",
    ParamsQuery,
    ParamsReport,
    examples=(
        "txinspect params",
        "txinspect params --param '**.weight' --sort kurtosis",
        "txinspect params facebook/opt-iml-1.3b --diff facebook/opt-1.3b --sort rel_l2",
    ),
)
