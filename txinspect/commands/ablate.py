"""What is lost without a part of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from txinspect.commands.command import Command, Themed
from txinspect.edits import Edit
from txinspect.errors import UsageError, spelled
from txinspect.indices import Layers
from txinspect.option import Option
from txinspect.queries import PassQuery
from txinspect.records import Record, TensorsReport, doc
from txinspect.value_checks import check_one_of

Sweep = Literal["heads", "attention", "mlp", "layers"]

BASELINES = "zero, mean, mean:FILE or resample:TEXT"


@dataclass(frozen=True, kw_only=True)
class AblateQuery(PassQuery["AblateReport"]):
    """Say what is lost without each head, attention, MLP or layer: each is replaced, and the predictions compared."""

    idle = ("save", "overwrite", "check")

    sweep: Annotated[Sweep, Option("--sweep", "What is left out, one after the other.", "PARTS")] = "heads"
    baseline: Annotated[
        str | None,
        Option(
            "--with",
            "What takes its place, which must be said: zero; mean, over the text's tokens; mean:FILE, over those of a "
            "text a line; resample:TEXT, what it is with another text of as many tokens.",
            "BASELINE",
        ),
    ] = None
    layers: Annotated[
        Layers, Option("-l/--layer", "Layers to look at, such as 0,2-3 or -1; all if not given.", "N")
    ] = None
    heads: Annotated[
        tuple[int, ...] | None, Option("--head", "Heads to look at, such as 0,2-3; all if not given.", "H")
    ] = None
    target: Annotated[
        str | None,
        Option(
            "--target", "A token after the text, such as ' dog', in the place of the text's own next tokens.", "TOKEN"
        ),
    ] = None
    together: Annotated[bool, Option("--together", "Leave all of them out at once, too.")] = False
    control: Annotated[
        bool, Option("--control", "Beside --together: as many other heads of these layers at random, left out at once.")
    ] = False
    seed: Annotated[int, Option("--seed", "What the random heads are drawn with.", "S")] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("sweep", self.sweep, get_args(Sweep))
        if self.baseline is None:
            raise UsageError(
                f"{spelled('baseline')} is missing: an ablation is measured against what takes the part's place",
                f"give {BASELINES}",
            )
        kind, _, rest = self.baseline.partition(":")
        if kind not in ("zero", "mean", "resample") or ((kind == "zero") and rest) or (kind == "resample" and not rest):
            raise UsageError(f"{spelled('baseline', self.baseline)} is unknown", f"give {BASELINES}")
        if self.heads is not None and self.sweep != "heads":
            raise UsageError(f"{spelled('heads')} and {spelled('sweep', self.sweep)} cannot be combined", "omit one")
        if self.control and self.sweep != "heads":
            raise UsageError(
                f"{spelled('control', True)} draws heads, and {spelled('sweep', self.sweep)} leaves out others",
                "omit one",
            )
        if self.control and not self.together:
            raise UsageError(
                f"{spelled('control', True)} is beside heads that are left out", f"add {spelled('together', True)}"
            )
        if self.seed != AblateQuery.seed and not self.control:
            raise UsageError(f"{spelled('seed')} draws the control", f"add {spelled('control', True)}, or omit it")
        for name, chosen in (("layers", self.layers), ("heads", self.heads)):
            if chosen == ():
                raise UsageError(f"{spelled(name)} chooses none", "name at least one, or omit it for all")

    def edit(self, place: str) -> Edit:
        """The edit that leaves out what is at a place."""
        kind, _, rest = str(self.baseline).partition(":")
        value = {"zero": "0", "mean": f"mean:{rest}" if rest else "mean", "resample": f"text:{rest}"}[kind]
        return Edit(place, "=", value)


class EffectRecord(Record, frozen=True, kw_only=True):
    """What changes in the predictions: means over the positions that are looked at."""

    delta: Annotated[
        float | None, doc("Change of the log-probability of the tokens looked at, in nats; below 0 is a loss.")
    ]
    kl: Annotated[float | None, doc("KL(whole model ‖ without), in nats.")]
    changed: Annotated[int, doc("Positions whose likeliest token is another one.")]


class AblationRecord(EffectRecord, frozen=True, kw_only=True):
    """A part that was left out, and what that changes."""

    layer: Annotated[int, doc("The layer.")]
    head: Annotated[int | None, doc("Head index; null for what is no head.")]
    edits: Annotated[list[str], doc("What was done, as --edit spells it.")]


class TogetherRecord(EffectRecord, frozen=True, kw_only=True):
    """Several parts left out at once."""

    parts: Annotated[list[str], doc("Which, as layer.head or layer.")]
    random: Annotated[bool, doc("Whether they were drawn at random, for comparison.")]


class NoiseRecord(Record, frozen=True, kw_only=True):
    """What is no effect: the larger of a pass whose own values were written back, and of one text beside others."""

    delta: Annotated[float, doc("Change of the log-probability, in nats.")]
    kl: Annotated[float, doc("KL, in nats.")]


class AblateReport(TensorsReport, frozen=True, kw_only=True):
    """Report of `ablate`."""

    command: Annotated[Literal["ablate"], doc("The command that made the report.")]  # type: ignore[assignment]
    sweep: Annotated[Sweep, doc("What was left out, one after the other.")]
    baseline: Annotated[str, doc("What took its place.")]
    of: Annotated[
        str, doc("What delta is about: the text's next tokens, a target, the likeliest at masks or of labels.")
    ]
    positions: Annotated[list[int], doc("Positions that were looked at; empty for labels of the whole text.")]
    logprob: Annotated[float | None, doc("Mean log-probability of the tokens looked at in the whole model, in nats.")]
    parts: Annotated[list[AblationRecord], doc("Each part that was left out.")]
    together: Annotated[list[TogetherRecord], doc("All at once with --together, and as many at random with --control.")]
    noise: Annotated[NoiseRecord, doc("What is no effect.")]


COMMAND = Command(
    "ablate",
    AblateQuery,
    AblateReport,
    examples=(
        "txinspect ablate --with mean",
        "txinspect ablate 'The capital of France is' --with mean --target ' Paris'",
        "txinspect ablate --sweep mlp --with zero --json | jq -c '.parts[] | [.layer, .delta]'",
    ),
    view=Themed,
    more=(
        "A part that is left out is set to the baseline at every token; a mean leaves special ones as they are. A head "
        "is a slice of its context, which the output projection reads. Effects are measured against the whole model in "
        "the same batch; what is below the noise is no effect."
    ),
)
