"""What is lost without a part of the model: each is replaced in a row of a batch, beside the text as it is."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from txinspect.answers import sweeping
from txinspect.answers.editing import Changes, Editing
from txinspect.answers.observing import observe
from txinspect.answers.question import Question
from txinspect.answers.running import Running
from txinspect.answers.session import Session
from txinspect.commands.ablate import AblateQuery, AblateReport, AblationRecord, NoiseRecord, TogetherRecord
from txinspect.edits import Edit
from txinspect.errors import InspectError, StageError, spelled
from txinspect.forward.wants import Plan, Want, check_layers, plan_of, plan_of_names
from txinspect.loading.subject import Subject
from txinspect.measure.effects import Effect, effect, logprob
from txinspect.records import InputRecord
from txinspect.texts import masking, targets

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.forward.capture import CaughtTensor
    from txinspect.texts.opened import Opened


def answer(query: AblateQuery, session: Session) -> AblateReport:
    """The report of `ablate`."""
    asked = _Ablation(query)
    observed = observe(asked, session)
    return observed.report(
        AblateReport,
        "ablate",
        sweep=query.sweep,
        baseline=str(query.baseline),
        of=asked.of,
        positions=asked.positions,
        logprob=asked.logprob,
        parts=[
            AblationRecord(
                layer=part.layer, head=part.head, edits=list(map(str, part.edits)), **vars(asked.effects[place])
            )
            for place, part in enumerate(asked.parts)
        ],
        together=asked.together,
        noise=NoiseRecord(delta=asked.noise[0], kl=asked.noise[1]),
    )


def questions(query: AblateQuery) -> list[_Ablation]:
    """What `ablate` asks."""
    return [_Ablation(query)]


@dataclass(frozen=True)
class _Part:
    """A part to leave out, and how."""

    layer: int
    head: int | None
    edits: tuple[Edit, ...]

    @property
    def name(self) -> str:
        return f"{self.layer}" if self.head is None else f"{self.layer}.{self.head}"


class _Ablation(Question[AblateQuery]):
    """Runs the text with each part left out."""

    def __init__(self, query: AblateQuery) -> None:
        super().__init__(query)
        self.heads: dict[int, int] = {}
        self.parts: list[_Part] = []
        self.effects: list[Effect] = []
        self.together: list[TogetherRecord] = []
        self.noise = (0.0, 0.0)

    def read(self, opened: Opened) -> InputRecord:
        """The tokens that `ablate` runs on."""
        self.opened = opened
        return super().read(opened)

    def meet(self, subject: Subject, text: InputRecord) -> None:
        """Find the layers that `ablate` looks at, and the tokens whose probabilities it compares."""
        stack = subject.architecture.main
        self.subject, self.text, self.prefix = subject, text, stack.prefix
        self.layers = check_layers(subject.source.name, self.query.layers, len(stack.layers))
        self.logits = plan_of_names(subject, ["logits"])
        self.swept = sweeping.Sweep(self.logits)
        self._find_targets(subject, text)

    def plan(self, subject: Subject, text: InputRecord) -> Plan:
        """What `ablate` records of the whole model: the logits, and of each layer how many heads it has."""
        wants = list(self.logits.wants)
        if self.query.sweep == "heads":
            names = {f"{self.prefix}layers.{layer}.attention.context" for layer in self.layers}
            wants += [
                Want(supply, by_glob=True)
                for supply in subject.architecture.supplies()
                if supply.name in names and supply.available
            ]
        return plan_of(subject.architecture, [replace(want, reported=False) for want in wants])

    def look(self, caught: CaughtTensor) -> None:
        """Keep the logits of the whole model, and count heads."""
        if caught.want.supply.tap == "logits":
            self.whole = self._read(caught.copied())
        else:
            self.heads[caught.want.supply.layer or 0] = caught.tensor.shape[1]

    def then(self, running: Running) -> None:
        """Run the text with each part left out, some at a time, and with all."""
        ids = self._ids(self.whole)
        self.logprob = logprob(self.whole, ids)
        self.parts = list(self._parts())
        if not self.parts:
            raise StageError(f"{self.subject.source.name!r} has no {self.query.sweep} in these layers to leave out")
        others = self._others() if self.query.control else []
        self.changes = self._changes(running, [*self.parts, *others])
        many = sweeping.at_once(self.whole.numel())
        batches = [self.parts[begin : begin + many] for begin in range(0, len(self.parts), many)]
        for batch in running.counted("leaving out parts", batches):
            self.effects += self._effects(running, [[part] for part in batch], ids)
        if self.query.together:
            sets = [self.parts, *([others] if others else [])]
            found = self._effects(running, sets, ids)
            self.together = [
                TogetherRecord(parts=[part.name for part in parts], random=place > 0, **vars(one))
                for place, (parts, one) in enumerate(zip(sets, found, strict=True))
            ]

    def _effects(self, running: Running, sets: Sequence[Sequence[_Part]], ids: Sequence[int]) -> list[Effect]:
        """The effect of each set of parts, in a batch with the text as it is and with its own values written back."""
        changed = [[each for part in parts for edit in part.edits for each in self.changes[edit]] for parts in sets]
        # What is changed is written in all rows: in the first two, as it was.
        found = self.swept.rows(running, self.text, [[], [], *changed])
        plain, null, *edited = map(self._read, found)
        for other, one in ((plain, self.whole), (null, plain)):
            floor = effect(other, one, ids)
            self.noise = max(self.noise[0], abs(floor.delta)), max(self.noise[1], floor.kl)
        return [effect(row, plain, ids) for row in edited]

    def _changes(self, running: Running, parts: Sequence[_Part]) -> dict[Edit, Changes]:
        """What leaves parts out, each worked out once for all the batches that it is in."""
        edits = list(dict.fromkeys(edit for part in parts for edit in part.edits))
        return Editing(edits, self.query, self.subject, self.text, generates=False).by_edit(running, self.opened)

    def _parts(self) -> Iterator[_Part]:
        """The parts to leave out, one after the other."""
        there = {supply.name for supply in self.subject.architecture.supplies() if supply.available}
        for layer in self.layers:
            stage = f"{self.prefix}layers.{layer}."
            if self.query.sweep == "heads":
                for head in sweeping.heads(self.query.heads, self.heads.get(layer, 0), layer):
                    yield _Part(layer, head, (self.query.edit(f"{stage}attention.context[head={head}]"),))
                continue
            kinds = {"attention": ("attention",), "mlp": ("mlp",)}.get(
                self.query.sweep, ("attention", "cross_attention", "mixer", "mlp")
            )
            names = [name for kind in kinds if (name := f"{stage}{kind}.output") in there]
            if names:
                yield _Part(layer, None, tuple(map(self.query.edit, names)))

    def _others(self) -> list[_Part]:
        """As many other heads, drawn at random; of few others all."""
        taken = {(part.layer, part.head) for part in self.parts}
        left = [
            (layer, head) for layer, count in self.heads.items() for head in range(count) if (layer, head) not in taken
        ]
        if not left:
            raise InspectError(
                f"{spelled('control', True)} draws other heads of these layers, and all of them are left out",
                f"choose some by {spelled('heads')}",
            )
        drawn = random.Random(self.query.seed).sample(left, min(len(left), len(taken)))
        place = f"{self.prefix}layers.{{}}.attention.context[head={{}}]"
        return [_Part(layer, head, (self.query.edit(place.format(layer, head)),)) for layer, head in sorted(drawn)]

    def _find_targets(self, subject: Subject, text: InputRecord) -> None:
        """Find the positions and tokens whose probabilities are compared."""
        # What fills masks puts out a row for each token of the text itself, whatever its decoder reads.
        own, tokens = text if subject.task.name == "masked-lm" else text.main, subject.opened.tokens(text.text)
        ids = [token.id for token in own.tokens]
        self.target: int | None = None
        if self.query.target is not None:
            self.target = targets.target(tokens, text.spoken, self.query.target, field="target")
        if subject.task.name == "masked-lm":
            self.positions = masking.masks(subject.source, tokens, text)
            self.of = (
                "the likeliest token at each mask" if self.target is None else f"{self.query.target!r} at each mask"
            )
        elif subject.task.name in ("causal-lm", "seq2seq-lm"):
            last = len(ids) - 1
            self.positions = [last] if self.target is not None else list(range(last))
            self.of = "the text's own next tokens" if self.target is None else f"{self.query.target!r} after the text"
            if not self.positions:
                raise InspectError("the text is one token, after which none follows", f"give {spelled('target')}")
        elif subject.task.name == "sequence-classification" and self.target is None:
            self.positions, self.of = [], "the likeliest label"
        else:
            raise InspectError(f"{subject.source.name!r} predicts no tokens of a text that could be compared")
        self.following = [ids[place + 1] for place in self.positions] if self.target is None and ids[1:] else []

    def _ids(self, whole: Tensor) -> list[int]:
        """The token, or label, that is looked at in each row of the logits."""
        if self.target is not None:
            return [self.target] * len(whole)
        if self.of == "the text's own next tokens":
            return self.following
        likeliest: list[int] = whole.argmax(-1).tolist()
        return likeliest

    def _read(self, logits: Tensor) -> Tensor:
        """The rows of a pass's logits that are looked at: (position, vocab)."""
        return logits[0, self.positions] if self.positions else logits.reshape(1, -1)
