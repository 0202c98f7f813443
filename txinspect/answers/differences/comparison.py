"""What one side gives, kept, and what the other gives, compared with it as it comes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from txinspect.answers import tensors
from txinspect.answers.differences import predicting
from txinspect.answers.differences.shelf import Shelf
from txinspect.answers.saving import Destination, KeptTensor
from txinspect.commands.diff import ChangedRecord, DiffQuery, LogitsDiffRecord, StageDiffRecord
from txinspect.errors import InspectError
from txinspect.loading.subject import Subject
from txinspect.measure import difference
from txinspect.records import InputRecord
from txinspect.stage_names import StageName

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
    this: Shelf = field(default_factory=Shelf)
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
        """Raise InspectError for a text that is other tokens on the comparison's other side."""
        count = len(text.tokens)
        if count != len(self.text.tokens) and self.query.against_text is not None:
            raise InspectError(
                f"the texts are {len(self.text.tokens)} and {count} tokens long: give two of as many, so that their "
                f"positions can be compared"
            )
        if text.input_ids != self.text.input_ids and self.query.against_text is None:
            raise InspectError(
                f"the text is {len(self.text.tokens)} tokens for {self.subject.source.name!r} and other ones, "
                f"{len(text.tokens)}, for {subject.source.name!r}: there are no positions to compare"
            )

    def keep(self, caught: CaughtTensor) -> None:
        """Keep a tensor that this side of the comparison gives."""
        name = self.name_of(caught)
        self.this[name] = caught.tensor.whole()
        self._describe(name, caught)

    def _describe(self, name: str, caught: CaughtTensor) -> None:
        """Keep a tensor of either side of the comparison for --save, with its axes."""
        if self.query.save:
            axes = tensors.axes_of(caught, self.subject, self.text)
            self.saved[name] = KeptTensor(caught.copied(), axes, caught.coordinates)

    def name_of(self, caught: CaughtTensor) -> str:
        """What a tensor of a comparison is called in reports and files."""
        name = tensors.name_of(caught)
        return self.first.get(name, name)

    def compare(self, caught: CaughtTensor) -> None:
        """Compare a tensor that the other side gives with the one kept of this side."""
        name = self.name_of(caught)
        self._describe(OTHER + name, caught)
        self.compare_named(name, caught.tensor.whole().cpu())

    def compare_named(self, name: str, other: Tensor) -> None:
        """Compare a tensor that the other side gives under a name with the one kept of this side."""
        this = self.this.get(name)
        whole = this, other
        if this is not None and name == "logits" and this.shape[:-1] == other.shape[:-1]:
            this, other = self._in_common(this, other)
        if this is None or this.shape != other.shape:
            self.only_other.append(name)
            return
        part = StageName.of(name).part
        is_weights = part in ("attention.weights", "cross_attention.weights") and this.ndim == 4
        apart = difference.difference(this, other)
        self.apart[name] = StageDiffRecord(
            name=name,
            shape=list(this.shape),
            **vars(apart),
            snr_db=apart.snr_db,
            total_variation=difference.total_variation(this, other) if is_weights else None,
            changed_share=difference.changed_share(this, other) if part == "mlp.router.experts" else None,
            isolated_rel_l2=None,
        )
        if name == "logits" and whole[0] is not None:
            self._compare_predictions(whole[0], whole[1])

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
        """Compare what both sides' logits predict, where they are a prediction after each token."""
        why = predicting.no_prediction(this, other, self.text)
        if why is not None:
            self.notes.append(why)
            return
        tops = predicting.likeliest(this[0], other[0])
        # Another text has another perplexity.
        has_perplexity = self.subject.task.name != "masked-lm" and self.query.against_text is None
        self.logits = predicting.compared(this[0], other[0], tops, self.text, has_perplexity=has_perplexity)
        self.changed = predicting.changed(tops, self.subject, self.text)

    def number_runs(self) -> None:
        """Number the first run of a compared stage among several, as others are, once this side has given all."""
        self.first = tensors.first_runs(self.this)
        self.this.rename(self.first)
        self.saved = {self.first.get(name, name): each for name, each in self.saved.items()}
