"""What one side gives, kept, and what the other gives, compared with it as it comes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from txinspect.answers import tensors
from txinspect.answers.differences import predicting
from txinspect.answers.differences.alignment import Alignment, Axes, Cut
from txinspect.answers.differences.shelf import Shelf
from txinspect.answers.saving import Destination, KeptTensor
from txinspect.commands.diff import ChangedRecord, DiffQuery, LogitsDiffRecord, StageDiffRecord
from txinspect.errors import InspectError, spelled
from txinspect.loading.subject import Subject
from txinspect.measure import difference
from txinspect.records import InputRecord
from txinspect.stage_names import StageName
from txinspect.texts.aligning import Pairs

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.forward.capture import CaughtTensor

OTHER = "other."
"""In front of the other side's names, in files and checks."""


@dataclass
class Comparison:
    """Keeps what this side gives, and compares what the other gives with it as it comes."""

    query: DiffQuery
    subject: Subject = field(init=False)
    text: InputRecord = field(init=False)
    other: InputRecord = field(init=False)
    """What the other side reads."""
    alignment: Alignment | None = None
    """Where the other side reads another text."""
    this: Shelf = field(default_factory=Shelf)
    beside: set[str] = field(default_factory=set)
    """Stages that are kept to run layers alone, and not compared."""
    axes: dict[str, Axes] = field(default_factory=dict)
    """Of this side's tensors, where texts are aligned."""
    saved: dict[str, KeptTensor] = field(default_factory=dict)
    """What --save writes."""
    destination: Destination | None = None
    """Where."""
    first: dict[str, str] = field(default_factory=dict)
    """This side's tensors of a first run among several, by their names without #1."""
    apart: dict[str, StageDiffRecord] = field(default_factory=dict)
    isolated: dict[str, float | None] = field(default_factory=dict)
    noise: float | None = None
    logits: LogitsDiffRecord | None = None
    changed: list[ChangedRecord] = field(default_factory=list)
    only_other: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    widths: str | None = None
    """How wide each side's logits are, where that differs; in words."""

    def check_other(self, subject: Subject, text: InputRecord) -> None:
        """Raise InspectError for tokens on the comparison's other side that have nothing to do with this side's."""
        self.other = text
        if self.query.against_text is not None:
            self.alignment = Alignment.of(self.text, text)
            if not self.alignment.is_whole and not self.alignment.has_words:
                raise InspectError(
                    f"the text and that of {spelled('against_text')}, {len(self.text.tokens)} and {len(text.tokens)} "
                    f"tokens, have none in common but special ones: give two that share some words"
                )
        elif text.input_ids != self.text.input_ids:
            raise InspectError(
                f"the text is {len(self.text.tokens)} tokens for {self.subject.source.name!r} and other ones, "
                f"{len(text.tokens)}, for {subject.source.name!r}: there are no positions to compare"
            )

    def keep(self, caught: CaughtTensor) -> None:
        """Keep a tensor that this side of the comparison gives."""
        name = self.name_of(caught)
        self.this[name] = caught.tensor.whole()
        if self.query.against_text is not None:
            self.axes[name] = tensors.axes_of(caught, self.subject, self.text)
        self._describe(name, caught, self.text)

    def _describe(self, name: str, caught: CaughtTensor, text: InputRecord) -> None:
        """Keep a tensor of either side of the comparison for --save, with its axes."""
        if self.query.save and caught.want.supply.name not in self.beside:
            axes = tensors.axes_of(caught, self.subject, text)
            self.saved[name] = KeptTensor(caught.copied(), axes, caught.coordinates)

    def name_of(self, caught: CaughtTensor) -> str:
        """What a tensor of a comparison is called in reports and files."""
        name = tensors.name_of(caught)
        return self.first.get(name, name)

    def compare(self, caught: CaughtTensor) -> None:
        """Compare a tensor that the other side gives with the one kept of this side."""
        name = self.name_of(caught)
        if caught.want.supply.name in self.beside:
            return
        text = self.text if self.alignment is None else self.other
        self._describe(OTHER + name, caught, text)
        this, other = self.this.get(name), caught.tensor.whole().cpu()
        if self.alignment is None or this is None:
            self.compare_named(name, other)
            return
        axes = self.axes.get(name), tensors.axes_of(caught, self.subject, text)
        self._compare_cut(name, self.alignment.cut(this, other, axes, caught.want.supply.stack))

    def compare_named(self, name: str, other: Tensor) -> None:
        """Compare a tensor that the other side gives under a name with the one kept of this side."""
        this = self.this.get(name)
        self._compare_cut(name, None if this is None else Cut(this, other))

    def _compare_cut(self, name: str, both: Cut | None) -> None:
        """Compare the tensors of a name on both sides; where there are not two, the other side alone has one."""
        if both is None:
            self.only_other.append(name)
            return
        this, other = both.this, both.other
        if name == "logits" and this.shape[:-1] == other.shape[:-1]:
            this, other = self._in_common(this, other)
        if this.shape != other.shape:
            self.only_other.append(name)
            return
        part = StageName.of(name).part
        is_weights = part in ("attention.weights", "cross_attention.weights") and this.ndim == 4
        apart = difference.difference(this, other)
        at, other_at = (both.at(apart.at, side) for side in (0, 1))
        self.apart[name] = StageDiffRecord(
            name=name,
            shape=list(this.shape),
            **(vars(apart) | {"at": at}),
            other_at=other_at if other_at != at else None,
            snr_db=apart.snr_db,
            total_variation=difference.total_variation(this, other) if is_weights else None,
            changed_share=difference.changed_share(this, other) if part == "mlp.router.experts" else None,
            isolated_rel_l2=None,
        )
        if name == "logits":
            self._compare_predictions(both.this, both.other)

    def _in_common(self, this: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of the tokens that both sides of a comparison have, where a vocabulary grew, and a note of it."""
        widths = this.shape[-1], other.shape[-1]
        common = min(widths)
        if widths[0] != widths[1]:
            self.widths = f"the logits are {widths[0]} and {widths[1]} wide"
            self.notes.append(
                f"{self.widths.capitalize()}: the {common} that both have are compared, and KL is of these, as if "
                f"there were no others; which tokens are the likeliest is of all."
            )
        return this[..., :common], other[..., :common]

    def _compare_predictions(self, this: Tensor, other: Tensor) -> None:
        """Compare what both sides' logits predict, where they are a prediction after each token that is compared."""
        places = self.compared_positions
        why = predicting.no_prediction(this, other, self.text, len(places))
        if why is not None:
            self.notes.append(why)
            return
        tops = predicting.likeliest(this[0], other[0])
        # Another text has another perplexity.
        has_perplexity = self.subject.task.name != "masked-lm" and self.query.against_text is None
        ids = [token.id for token in self.text.main.tokens] if has_perplexity else None
        self.logits = predicting.compared(this[0], other[0], tops, ids)
        self.changed = predicting.changed(tops, places, self.subject, self.text)

    @property
    def compared_positions(self) -> Pairs:
        """The positions of the text that the model's output is about, on either side of the comparison."""
        if self.alignment is not None:
            return self.alignment.main
        return [(position, position) for position in range(len(self.text.main.tokens))]

    def number_runs(self) -> None:
        """Number the first run of a compared stage among several, as others are, once this side has given all."""
        self.first = tensors.first_runs(self.this)
        self.this.rename(self.first)
        self.saved = {self.first.get(name, name): each for name, each in self.saved.items()}
        self.axes = {self.first.get(name, name): each for name, each in self.axes.items()}
