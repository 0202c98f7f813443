"""The two sides of a patch: a text that runs alone, with noise on its embeddings or without, and what it had where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from txinspect.answers.patches.compared import Compared
from txinspect.answers.running import Running
from txinspect.commands.patch import PatchQuery
from txinspect.errors import InspectError, StageError, spelled
from txinspect.forward import taps
from txinspect.forward.edits import Write
from txinspect.forward.wants import Plan, Want, plan_of, plan_of_names
from txinspect.loading.subject import Subject
from txinspect.measure.answers import Ids
from txinspect.records import InputRecord
from txinspect.stage_names import ENCODER
from txinspect.texts import reading
from txinspect.texts.opened import Opened

if TYPE_CHECKING:
    from torch import Tensor

    from txinspect.anatomy.architecture import Supply
    from txinspect.forward.capture import CaughtTensor

SAMPLES = 10
"""How often the noise on a subject is drawn (Meng et al. 2022, appendix B.1)."""

Way = Literal["denoise", "noise"]

ROWS = 4096
"""Rows of the embedding table that are looked at at once."""


@dataclass(frozen=True)
class Side:
    """A text on one side of a patch, alone, with each continuation that the answers need."""

    running: Running
    texts: dict[Ids, InputRecord]
    """By what the text is continued with."""
    logits: dict[Ids, Tensor] = field(default_factory=dict)
    """(place, vocab) each."""
    values: dict[Ids, dict[Supply, Tensor]] = field(default_factory=dict)
    """What each patched stage is, (1, …)."""

    @property
    def text(self) -> InputRecord:
        """The text of this side, without any answer."""
        return self.texts[()]


@dataclass(frozen=True)
class Sample:
    """The two sides of a patch; with noise on a subject once for each time that it is drawn."""

    clean: Side
    corrupt: Side

    def sides(self, way: Way) -> tuple[Side, Side]:
        """The side that is patched, and the one that the value is from."""
        return (self.corrupt, self.clean) if way == "denoise" else (self.clean, self.corrupt)


def corrupt(query: PatchQuery, opened: Opened) -> InputRecord:
    """The tokens of CORRUPT, which stands in the place of whatever CLEAN is; an error about it says so."""
    try:
        return reading.encode(replace(query, text=query.corrupt or "", ids=None, user=None), opened)
    except InspectError as error:
        raise type(error)(f"{spelled('corrupt')}: {error}") from error


def embeddings(subject: Subject) -> Supply:
    """The stage of the embeddings that noise is put on. Raises StageError where they cannot be changed."""
    name = f"{ENCODER if subject.has_decoder else ''}token_embeddings"
    supply = plan_of_names(subject, [name]).wants[0].supply
    if reason := taps.refusal(subject.as_configured, supply):
        raise StageError(f"{name!r} cannot be changed: {reason}")
    return supply


def side(running: Running, text: InputRecord, compared: Compared, logits: Plan, supplies: Sequence[Supply]) -> Side:
    """A side of a patch: its text is run alone, and what is to be patched is recorded.

    Raises StageError for a stage that has several values in one pass, as where layers are run again.
    """
    found = Side(running, {suffix: compared.extended(text, suffix) for suffix in compared.suffixes()})
    for suffix, each in found.texts.items():
        values: dict[Supply, Tensor] = {}

        def receive(caught: CaughtTensor, suffix: Ids = suffix, values: dict[Supply, Tensor] = values) -> None:
            if caught.want.supply.tap == "logits":
                found.logits[suffix] = compared.rows(caught.copied(), text, suffix)
                return
            supply = caught.want.supply
            if supply in values:
                name = running.subject.source.name
                raise StageError(f"{supply.name!r} has several values in one pass of {name!r}: none can be patched")
            values[supply] = caught.copied()

        wants = [*(Want(supply, by_glob=True) for supply in supplies), *logits.wants]
        running.run(each, plan_of(running.subject.architecture, wants), receive)
        found.values[suffix] = values
    return found


def noises(
    running: Running, supply: Supply, at: Sequence[int], deviations: float, seed: int
) -> tuple[float, list[Write]]:
    """What gives noise to the embeddings at some positions, once for each sample, and the noise's deviation.

    It is that many standard deviations of all numbers in the embedding table, as its module passes them on.
    """
    import torch

    module = running.model.get_submodule(supply.module or "")
    count = getattr(module, "num_embeddings", None)
    if count is None:
        raise StageError(f"{type(module).__name__} is no table of embeddings: how far they deviate is not known")
    device, sums = next(module.parameters()).device, torch.zeros(3, dtype=torch.float64)
    with torch.no_grad():
        for begin in range(0, count, ROWS):
            rows = module(torch.arange(begin, min(begin + ROWS, count), device=device)).double().cpu()
            sums += torch.tensor([rows.numel(), rows.sum(), rows.square().sum()], dtype=torch.float64)
    mean = sums[1] / sums[0]
    deviation = deviations * float((sums[2] / sums[0] - mean**2).clamp(min=0).sqrt())
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(SAMPLES, len(at), rows.shape[-1], generator=generator, dtype=torch.float32) * deviation
    return deviation, [Write(supply, _adding(sample, at)) for sample in drawn]


def _adding(noise: Tensor, at: Sequence[int]) -> Callable[[Tensor], Tensor]:
    def change(own: Tensor) -> Tensor:
        new = own.clone()
        new[:, list(at)] += noise.to(own.device, own.dtype)
        return new

    return change


def with_write(running: Running, write: Write) -> Running:
    """A running model, every pass of which has a write."""
    return replace(running, writes=(*running.writes, write))
