"""A vector tried on a text: what is generated with it added, how likely that is without, and a random one beside."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from txinspect.answers import vectors
from txinspect.answers.question import Question
from txinspect.answers.steering import generating, places
from txinspect.commands.steer import SteerQuery, TryRecord, VectorRecord
from txinspect.edits import Edit, file_and_name
from txinspect.errors import InspectError, StageError, spelled
from txinspect.forward.changes import change_of
from txinspect.forward.edits import Write
from txinspect.forward.wants import Plan, Want, plan_of, plan_of_names
from txinspect.loading.subject import Subject
from txinspect.measure import directions
from txinspect.records import InputRecord

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.anatomy.architecture import Supply
    from txinspect.answers.running import Running
    from txinspect.forward.capture import CaughtTensor


@dataclass(frozen=True)
class Vector:
    """A vector of a file, and where it is added."""

    name: str
    supply: Supply
    value: Tensor
    """(hidden,)"""

    def edit(self, file: Path, scale: float) -> Edit:
        """What adds the vector."""
        return Edit(self.supply.name, "+", f"{str(scale).removesuffix('.0')}*{file}:{self.name}")


class Trying(Question[SteerQuery]):
    """Generates what follows a text with a vector added, at each scale."""

    def __init__(self, query: SteerQuery) -> None:
        super().__init__(query)
        self.file, self.name = file_and_name(str(query.vector))
        self.tensors = vectors.load(self.file)
        self.norms: dict[str, float] = {}
        self.tries: list[TryRecord] = []

    def meet(self, subject: Subject, text: InputRecord) -> None:
        """Find where the vectors that `steer` tries are added."""
        self.subject, self.text = subject, text
        self.writer = generating.Writer(subject, self.query, text)
        self.vectors = _Placed(self.query, self.file, self.name, self.tensors).found(subject)

    def plan(self, subject: Subject, text: InputRecord) -> Plan:
        """What `steer` records of the model as it is: what stands where a vector is added, and the logits."""
        wants = [Want(each.supply, reported=False) for each in self.vectors]
        logits = [replace(want, reported=False) for want in plan_of_names(subject, ["logits"]).wants]
        return plan_of(subject.architecture, [*wants, *logits])

    def look(self, caught: CaughtTensor) -> None:
        """Measure what stands where `steer` adds a vector."""
        supply = caught.want.supply
        if supply.tap == "logits":
            return
        own = self.text.read_by(supply.stack)
        hidden = places.hidden_states(caught, len(own.tokens), own.specials)
        wrong = next(
            (each for each in self.vectors if each.supply == supply and len(each.value) != hidden.shape[1]), None
        )
        if wrong is not None:
            raise InspectError(
                f"{wrong.name!r} of {self.file} has {len(wrong.value)} numbers, and {supply.name!r} {hidden.shape[1]}",
                "give a vector that was made with this model",
            )
        self.norms[supply.name] = directions.mean_norm(hidden)

    def then(self, running: Running) -> None:
        """Generate at each scale of `steer`, with the vectors and with random ones."""
        drawn = [directions.random_like(each.value, self.query.seed + place) for place, each in enumerate(self.vectors)]
        own = [each.value for each in self.vectors]
        scales = sorted({*self.query.steps, 0.0})
        todo = [(scale, is_random) for scale in scales for is_random in ((False, True) if scale else (False,))]
        for scale, is_random in running.counted("steering", todo):
            self.tries.append(self._try(running, scale, drawn if is_random else own, is_random=is_random))

    def _try(self, running: Running, scale: float, values: Sequence[Tensor], *, is_random: bool) -> TryRecord:
        """What is generated with vectors added at a scale; nothing is added at 0."""
        edits = [each.edit(self.file, scale) for each in self.vectors] if scale else []
        writes = tuple(
            Write(each.supply, change_of(edit, each.supply, value, ()))
            for each, edit, value in zip(self.vectors, edits, values, strict=False)
        )
        ids = self.writer.ids(running, writes)
        ratios = [each.ratio for each in self.records() if each.ratio is not None]
        return TryRecord(
            scale=scale,
            random=is_random,
            ratio=abs(scale) * sum(ratios) / len(ratios) if ratios else None,
            edits=[] if is_random else [str(each) for each in edits],
            ids=ids,
            text=self.writer.spell(ids),
            perplexity=self.writer.perplexity(running, ids),
        )

    def records(self) -> list[VectorRecord]:
        """The vectors that `steer` tries."""
        return [
            VectorRecord(
                name=each.name,
                place=each.supply.name,
                width=len(each.value),
                norm=(norm := float(each.value.double().norm())),
                stream=(stream := self.norms[each.supply.name]),
                ratio=norm / stream if stream else None,
                agreement=None,
            )
            for each in self.vectors
        ]


@dataclass(frozen=True)
class _Placed:
    """The vectors of a file, of which some are tried, at the places that a query or their names say."""

    query: SteerQuery
    file: Path
    name: str | None
    tensors: Mapping[str, Tensor]

    def found(self, subject: Subject) -> list[Vector]:
        """The vectors and their stages. Raises InspectError for one that is not there, or whose place is not known."""
        if self.name is not None and self.name not in self.tensors:
            raise InspectError(
                f"{self.file} has no tensor {self.name!r}", f"it has {', '.join(sorted(self.tensors)[:6])}"
            )
        chosen = [self.name] if self.name is not None else list(self.tensors)
        stages = places.asked(self.query, subject)
        asked = [each.name for each in places.supplies(subject, stages)] if stages else []
        if asked and len(chosen) == 1:
            return [vector for stage in asked for vector in self._at(subject, chosen[0], stage)]
        own = {name: self._place(subject, name) for name in chosen}
        if asked:
            missing = next((stage for stage in asked if stage not in own.values()), None)
            if missing is not None:
                raise StageError(f"{self.file} has no vector of {missing!r}", f"it has {', '.join(list(own)[:6])}")
            own = {name: stage for name, stage in own.items() if stage in asked}
        rows = [name for name in chosen if self.file.suffix == ".pt" and name.isdigit()]
        count = len(subject.architecture.main.layers)
        if rows and self.name is None and len(rows) != count:
            raise InspectError(
                f"{self.file} has {len(rows)} rows, and {subject.source.name!r} {count} layers",
                f"name a row, as in {self.file}:0, and its place by {spelled('layers')}",
            )
        return [vector for name, stage in own.items() for vector in self._at(subject, name, stage)]

    def _at(self, subject: Subject, name: str, stage: str) -> list[Vector]:
        """A vector at a stage, which may be a glob of several. Raises InspectError for a tensor that is no vector."""
        tensor = self.tensors[name]
        if not tensor.ndim or tensor.numel() != tensor.shape[-1] or not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise InspectError(
                f"{name!r} of {self.file} is {list(tensor.shape)} of {kind}, and no vector", "give one of (hidden,)"
            )
        value = tensor.flatten().float()
        if not bool(value.isfinite().all()) or not float(value.norm()):
            raise InspectError(f"{name!r} of {self.file} is zero, or not finite: it leads nowhere", "give another")
        return [Vector(name, supply, value) for supply in places.supplies(subject, [stage])]

    def _place(self, subject: Subject, name: str) -> str:
        """The stage that a vector's own name says. Raises InspectError for a name that says none.

        llama.cpp's loader and repeng add direction.k to the output of block k (llama-adapter.cpp, common.cpp);
        its cvector-generator counts from 1 what it took from block 0 on (cvector-generator.cpp, export_gguf).
        """
        prefix = subject.architecture.main.prefix
        match = re.fullmatch(r"direction\.([0-9]{1,9})", name) if self.file.suffix == ".gguf" else None
        if match is not None:
            layer = int(match[1]) - (self.query.origin == "cvector-generator")
            if layer < 0:
                raise InspectError(
                    f"{self.file} has {name!r}, and cvector-generator counts from 1", f"omit {spelled('origin')}"
                )
            return places.at(prefix, layer)
        if self.file.suffix == ".pt" and re.fullmatch(r"[0-9]{1,9}", name):
            return places.at(prefix, int(name))
        known = {supply.name for supply in subject.architecture.supplies() + subject.architecture.module_supplies()}
        if name not in known:
            raise InspectError(
                f"{name!r} of {self.file} is the name of no stage: where it is added is not known",
                f"give {spelled('layers')} or {spelled('stages')}",
            )
        return name
