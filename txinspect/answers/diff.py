"""Two ways of running, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from txinspect.answers import dumps, saving, tensors
from txinspect.answers.observing import Observation, observe
from txinspect.answers.reporting import head
from txinspect.answers.run import Stages
from txinspect.answers.running import Running
from txinspect.answers.saving import Destination, KeptTensor
from txinspect.answers.session import Session
from txinspect.answers.shelf import Shelf
from txinspect.commands.diff import (
    ChangedRecord,
    DiffQuery,
    DiffReport,
    LogitsDiffRecord,
    StageDiffRecord,
    parsed,
)
from txinspect.commands.run import RunQuery
from txinspect.errors import InspectError, StageError, UsageError, spelled
from txinspect.forward import capture
from txinspect.forward.edits import Feed
from txinspect.forward.wants import Plan, Want, named, plan_of
from txinspect.guards.quiet import quiet
from txinspect.loading.backend import another, on_backend
from txinspect.loading.subject import Subject
from txinspect.measure import difference, predictions
from txinspect.queries import read_by
from txinspect.records import CheckRecord, InputRecord
from txinspect.sources.resolving import resolve
from txinspect.stage_names import StageName
from txinspect.wording import predicted, some_of

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.forward.capture import CaughtTensor
    from txinspect.model_choice import ModelChoice

COMPARED = (
    *(
        "input",
        "attention.weights",
        "attention.output",
        "cross_attention.weights",
        "cross_attention.output",
        "mixer.output",
        "mlp.router.experts",
        "mlp.output",
        "output",
    ),
    *("token_embeddings", "final_norm", "logits"),
)
"""The stages that are compared where none are named: within a layer, and outside of them."""

OTHER = "other."
"""In front of the other side's names, in files and checks."""

WITHIN_NOISE = 3.0
"""Sides part where they are so many times the noise apart."""


def answer(query: DiffQuery, session: Session) -> DiffReport:
    """The report of `diff`."""
    comparison = _Comparison(query)
    if query.save:
        models = [resolve(side.query.model) for side in questions(query)]
        comparison.destination = saving.check_destination(query.save, models, overwrite=query.overwrite)
    this = observe(_This(comparison), session)
    other: Observation | None = None
    if query.against_file is not None:
        comparison.read(dumps.load(query.against_file, query.names))
    elif query.against_attn is None:
        other = observe(_Other(comparison), session)
    return comparison.report(this, other)


def questions(query: DiffQuery) -> list[_Side]:
    """What each side is asked that loads a model."""
    this = _Side(query, _side(query, query.model))
    if query.against_file is not None or query.against_attn is not None:
        return [this]
    return [this, _Side(query, _other_side(query))]


def _side(query: DiffQuery, model: ModelChoice) -> RunQuery:
    """What one side is asked."""
    stages = query.stages or COMPARED[-1:]
    return RunQuery(model=model, **read_by(query), stages=stages, check=query.check)


def _other_side(query: DiffQuery) -> RunQuery:
    """What the other side is asked. Raises UsageError for a model without an adapter to leave out."""
    if query.against_text is not None:
        return replace(_side(query, query.model), text=query.against_text)
    if not query.against_no_adapter:
        return _side(query, query.other())
    source = resolve(query.model)
    if source.adapter is None or source.adapter.base is None:
        raise UsageError(f"{spelled('against_no_adapter', True)} leaves out an adapter, and {source.name!r} is none")
    return _side(query, replace(query.model, name=source.adapter.base, revision=None))


def _chosen(subject: Subject, query: DiffQuery) -> list[Want]:
    """The stages of a model that are compared, each received and not reported."""
    if query.stages:
        wants: Sequence[Want] = named(subject, query.stages).wants
    else:
        supplies = subject.architecture.supplies()
        wants = [Want(supply) for supply in supplies if supply.available and supply.within in COMPARED]
    return [Want(want.supply, want.selection, by_glob=True, reported=False) for want in wants]


class _Side(Stages):
    """What one side is asked: the stages that are compared."""

    def __init__(self, whole: DiffQuery, query: RunQuery) -> None:
        super().__init__(query)
        self.whole = whole

    def plan(self, subject: Subject, text: InputRecord) -> Plan:
        """Those stages, each received and not reported."""
        return plan_of(subject.architecture, _chosen(subject, self.whole))


class _This(_Side):
    """The side that is kept."""

    def __init__(self, comparison: _Comparison) -> None:
        super().__init__(comparison.query, _side(comparison.query, comparison.query.model))
        self.comparison = comparison

    def plan(self, subject: Subject, text: InputRecord) -> Plan:
        """What is kept."""
        self.comparison.subject, self.comparison.text = subject, text
        return super().plan(subject, text)

    def look(self, caught: CaughtTensor) -> None:
        """Keep it."""
        self.comparison.keep(caught)

    def then(self, running: Running) -> None:
        """What else it is run for."""
        self.comparison.run_again(running)


class _Other(_Side):
    """The side that is compared with it as it comes."""

    def __init__(self, comparison: _Comparison) -> None:
        super().__init__(comparison.query, _other_side(comparison.query))
        self.comparison = comparison
        self.decoder = comparison.text.decoder if comparison.query.against_text is None else None

    def plan(self, subject: Subject, text: InputRecord) -> Plan:
        """What is compared. Raises InspectError for a text that is other tokens here."""
        self.comparison.check_other(subject, text)
        return super().plan(subject, text)

    def look(self, caught: CaughtTensor) -> None:
        """Compare it."""
        self.comparison.compare(caught)

    def then(self, running: Running) -> None:
        """What else it is run for."""
        self.comparison.isolate(running)


@dataclass
class _Comparison:
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
        """Raise InspectError for a text that is other tokens on the other side."""
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
        """Keep what this side gives."""
        name = self._name(caught)
        self.this[name] = caught.tensor.whole()
        self._describe(name, caught)

    def _describe(self, name: str, caught: CaughtTensor) -> None:
        """Keep a tensor for --save, with its axes."""
        if self.query.save:
            axes = tensors.axes_of(caught, self.subject, self.text)
            self.saved[name] = KeptTensor(caught.copied(), axes, caught.coordinates)

    def _name(self, caught: CaughtTensor) -> str:
        """What a tensor is called in reports and files."""
        name = tensors.name_of(caught)
        return self.first.get(name, name)

    def compare(self, caught: CaughtTensor) -> None:
        """Compare what the other side gives."""
        name = self._name(caught)
        self._describe(OTHER + name, caught)
        self._compare(name, caught.tensor.whole().cpu())

    def read(self, theirs: Mapping[str, Tensor]) -> None:
        """Compare what a file holds."""
        for name, tensor in theirs.items():
            self._compare(name, tensor)
        for pair in self.query.names:
            ours = pair.partition("=")[2]
            if ours not in self.this:
                raise InspectError(f"{pair}: no stage {ours!r} was compared; name it by {spelled('stages', (ours,))}")
            if ours in self.this and ours not in self.apart:
                there, here = list(theirs[ours].shape), list(self.this[ours].shape)
                raise InspectError(f"{pair}: {there} in {self.query.against_file} and {here} here are no pair")
        if not self.apart:
            raise InspectError(
                f"{self.query.against_file} holds no stage that was compared, in its shape: it has "
                f"{some_of(list(theirs))}; name the stages by {spelled('stages')}, or others' names by "
                f"{spelled('names', ('theirs=ours',))}"
            )

    def _compare(self, name: str, other: Tensor) -> None:
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
        """The logits of the tokens that both sides have, where a vocabulary grew, and a note of it."""
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
        """Compare what the logits predict, where they are a prediction after each token."""
        tokens = self.text.main.tokens
        count, common = len(tokens), min(this.shape[-1], other.shape[-1])
        largest = max(token.id for token in tokens)
        if this.ndim == 3 and tuple(this.shape[:2]) == (1, count) and largest < common:
            self._compare_logits(this[0], other[0])
        elif largest >= common:
            self.notes.append(
                f"The text has the token {largest}, and the logits are {common} wide on one side: they are compared as "
                f"numbers alone."
            )
        else:
            self.notes.append(
                f"The logits are {list(this.shape)} for {count} tokens, no prediction after each: they are compared as "
                f"numbers alone."
            )

    def _compare_logits(self, this: Tensor, other: Tensor) -> None:
        """What the differences come to in the predictions: (seq, vocab) each."""
        import torch

        ids = [token.id for token in self.text.main.tokens]
        ours, theirs = (each[:, : min(this.shape[-1], other.shape[-1])] for each in (this, other))
        divergences = torch.tensor([kl for _, kl in predictions.compared(theirs, ours)], dtype=torch.float64)
        pairs = zip(this, other, strict=True)
        tops = [(predictions.likeliest(left, 1)[0], predictions.likeliest(right, 1)[0]) for left, right in pairs]
        scores = [
            sum(scored.logprob for _, scored in predictions.after_each(each, [*ids[1:], None]) if scored is not None)
            for each in (this, other)
        ]
        predicts = self.subject.task.name != "masked-lm" and self.query.against_text is None
        predicted = len(ids) - 1 if predicts else 0  # another text has another perplexity
        self.logits = LogitsDiffRecord(
            kl_mean=float(divergences.mean()),
            kl_median=float(divergences.median()),
            kl_p99=float(divergences.quantile(0.99)),
            kl_max=float(divergences.max()),
            same_top1=sum(left == right for left, right in tops) / len(tops),
            ln_perplexity_ratio=(scores[0] - scores[1]) / predicted if predicted else None,
        )
        vocabulary = self.subject.opened.tokens(self.text.text)

        def spell(token_id: int) -> str | None:
            token = vocabulary.record(token_id)  # a vocabulary that grew has others
            return token.text or token.token or f"token {token_id}"

        self.changed = [
            ChangedRecord(
                position=position, token=self.text.main.tokens[position].text, from_=spell(left), to=spell(right)
            )
            for position, (left, right) in enumerate(tops)
            if left != right
        ]

    def run_again(self, running: Running) -> None:
        """What this side's model is run for once more: another backend, the noise."""
        self.first = tensors.first_runs(self.this)
        self.this.rename(self.first)
        self.saved = {self.first.get(name, name): each for name, each in self.saved.items()}
        wanted = plan_of(running.subject.architecture, _chosen(running.subject, self.query))
        if self.query.against_attn is not None:
            with on_backend(running.model, self.query.against_attn):
                running.run(self.text, wanted, self.compare)
                self.isolate(running)
        if self.query.tolerance is None:
            self.noise = self._noise(running, wanted)

    def _noise(self, running: Running, wanted: Plan) -> float:
        """How far this side is from itself where nothing but the order of sums changes."""
        seen = [0.0]

        def receive(caught: CaughtTensor) -> None:
            this, again = self.this.get(self._name(caught)), caught.tensor.whole().cpu()
            if this is not None and this.shape == again[:1].shape and this.is_floating_point():
                seen.append(difference.difference(this, again[:1]).rel_l2 or 0.0)

        twice = {name: tensor.repeat(2, 1) for name, tensor in running.inputs(self.text).items()}
        attempts: list[Callable[[], Any]] = [lambda: capture.run(running.model, twice, wanted, receive)]
        backend = another(running.model)
        if self.query.against_attn is None and backend is not None:
            attempts.append(lambda: self._on_another(running, backend, wanted, receive))
        for attempt in attempts:
            try:
                with quiet():
                    attempt()
            except InspectError:
                continue  # a model that takes no batch, or has no other backend, is measured without it
        return max(seen)

    def _on_another(
        self, running: Running, backend: str, wanted: Plan, receive: Callable[[CaughtTensor], None]
    ) -> None:
        with on_backend(running.model, backend):
            running.run(self.text, wanted, receive)

    def isolate(self, running: Running) -> None:
        """Run the other side with each layer fed what this side's layer read, where that was asked for."""
        if not self.query.isolated:
            return
        architecture = running.subject.architecture
        names = {name: StageName.of(name) for name in self.this}
        given = {
            layer.first: [
                self.this[name]
                for name, said in names.items()
                if (said.stack, said.layer, said.part) == (prefix, index, "input")
            ]
            for prefix, index, layer in architecture.numbered_layers()
        }

        def receive(caught: CaughtTensor) -> None:
            name, other = self._name(caught), caught.tensor.whole().cpu()
            this = self.this.get(name)
            if this is not None and names[name].layer is not None and this.shape == other.shape:
                self.isolated[name] = difference.difference(this, other).rel_l2

        wants = _chosen(running.subject, self.query)
        running.run(self.text, plan_of(architecture, wants, edits=(Feed(given),)), receive)

    def report(self, this: Observation, other: Observation | None) -> DiffReport:
        """Everything in a record."""
        from msgspec import structs

        if not self.apart:
            raise StageError("the two sides have no stage of the same name and shape: there is nothing to compare")
        stages = [
            structs.replace(self.apart[name], isolated_rel_l2=self.isolated.get(name))
            for name in self.this
            if name in self.apart
        ]
        tolerance = self.query.tolerance if self.query.tolerance is not None else WITHIN_NOISE * (self.noise or 0.0)
        first = next((each.name for each in stages if _parts(each, tolerance)), None)
        findings = [self._finding(stages, first, tolerance)]
        save, to = self.query.save, self.destination
        written = saving.save(to.path, self.saved, this.model.name, this.input.text, to) if to is not None else []
        return DiffReport(
            **head("diff", [*findings, *self.notes, *written, *this.notes, *(other.notes if other else [])]),
            model=this.model,
            against=other.model if other else None,
            way=self.query.way,
            given=self.query.given,
            input=this.input,
            findings=findings,
            stages=stages,
            first_divergence=first,
            tolerance=tolerance,
            noise=self.noise,
            logits=self.logits,
            changed=self.changed,
            only_this=[name for name in self.this if name not in self.apart],
            only_other=self.only_other,
            saved=str(save) if save else None,
            replaced=to is not None and to.replaces,
            checks=self._checks(stages, this, other) if self.query.check or self.query.fail_on else None,
        )

    def _finding(self, stages: Sequence[StageDiffRecord], first: str | None, tolerance: float) -> str:
        """Where the sides part, and what it changes."""
        if all(not each.max_abs and not each.nan for each in stages):
            if self.widths is None:
                return "The two sides are equal to the last bit."
            return f"The two sides are equal to the last bit where both are: {self.widths}; {self._changes()}."
        where = f"No stage is farther apart than the tolerance, {tolerance:.2g}"
        if first is not None:
            stage = next(each for each in stages if each.name == first)
            by = (
                "numbers that are not finite"
                if stage.nan or stage.rel_l2 is None
                else f"{stage.rel_l2:.2g} relative L2"
            )
            where = f"The sides part at {first} ({by})"
        if self.logits is None:
            return where + "."
        mean = self.logits.kl_mean
        divergence = f", KL {mean:.2g} nats on average" if mean is not None and isfinite(mean) else ""
        return f"{where}; {self._changes()}{divergence}."

    def _changes(self) -> str:
        """How many predictions change, in words."""
        count, what = len(self.text.main.tokens), predicted(self.subject.task.name)
        return (
            f"no {what} token changes" if not self.changed else f"{len(self.changed)} of {count} {what} tokens change"
        )

    def _checks(
        self, stages: Sequence[StageDiffRecord], this: Observation, other: Observation | None
    ) -> list[CheckRecord]:
        """What --check found on each side, and --fail-on between them."""
        from msgspec import structs

        others = (other.checks if other else None) or []
        return [
            *(this.checks or []),
            *(structs.replace(each, name=OTHER + each.name, detail=f"other side: {each.detail}") for each in others),
            *(_check(test, stages, self.logits, len(self.changed)) for test in self.query.fail_on),
        ]


def _parts(stage: StageDiffRecord, tolerance: float) -> bool:
    """Whether a stage is farther apart than the tolerance; one that is not finite on a side is."""
    return bool(stage.nan) or (stage.rel_l2 is None and bool(stage.max_abs)) or (stage.rel_l2 or 0.0) > tolerance


def _check(test: str, stages: Sequence[StageDiffRecord], logits: LogitsDiffRecord | None, changed: int) -> CheckRecord:
    """Whether a test of --fail-on holds nowhere."""
    field_, sign, bound = parsed(test)
    values: dict[str, float | None]
    if field_ == "changed":
        values = {} if logits is None else {"next tokens": float(changed)}
    elif field_.startswith("kl_"):
        values = {"logits": getattr(logits, field_, None)}
    else:
        values = {stage.name: float("inf") if stage.nan else getattr(stage, field_) for stage in stages}
    if all(value is None for value in values.values()):
        raise InspectError(f"{spelled('fail_on', test)} was not measured: compare logits, or the stages that have it")
    known = {name: value for name, value in values.items() if value is not None}
    # A number that is none is no small distance.
    over = {name: each for name, each in known.items() if not each <= bound or (sign == ">=" and each == bound)}
    if over:
        name = next(iter(over))
        detail = f"{field_} is {over[name]:.3g} in {name}, the first of {len(over)} where {test}"
    else:
        detail = f"{field_} is at most {max(known.values(), default=0.0):.3g}"
    return CheckRecord(name=field_, passed=not over, detail=detail)
