"""What one forward pass records: stage names, globs and module paths → wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from txinspect.anatomy.architecture import Supply
from txinspect.anatomy.names import Names, names_of, out_of_range
from txinspect.errors import StageError
from txinspect.globs import is_glob
from txinspect.indices import Layers, from_start

if TYPE_CHECKING:
    from txinspect.anatomy.architecture import Architecture
    from txinspect.forward.edits import Edit, Watch, Write
    from txinspect.loading.subject import Subject


@dataclass(frozen=True)
class Selection:
    """The heads and query rows that were asked for; None for all."""

    heads: tuple[int, ...] | None = None
    queries: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Want:
    """A tensor that was asked for."""

    supply: Supply
    selection: Selection = field(default_factory=Selection)
    by_glob: bool = False
    """A glob picked it, so it may well not run: that is reported, and is not an error."""
    reported: bool = True
    """Whether its tensor is in the report; else only what looks at the pass sees it."""


@dataclass(frozen=True)
class Plan:
    """What one forward pass records, and how far it runs."""

    wants: Sequence[Want]
    until: str | None = ""
    """A module before whose start the pass never stops, since a wanted one may run again; None for the pass's end,
    empty for no such module."""
    edits: tuple[Edit, ...] = ()
    """What the pass does differently from the model, on purpose."""
    writes: tuple[Write, ...] = ()
    """Stages whose tensors are changed, in the order in which that is done."""
    watches: tuple[Watch, ...] = ()
    """What sees the pass besides."""
    notes: tuple[str, ...] = ()
    runs: Mapping[str, int] = field(default_factory=dict)
    """How often a module that was asked for by its path runs in the whole pass; once if it is not here."""


def plan_of(architecture: Architecture, wants: Sequence[Want], **others: Any) -> Plan:
    """A plan for what a pass wants, as far as this architecture needs to run; `others` are more fields of it."""
    return Plan(wants, _until(architecture, wants), **others)


def plan_of_names(subject: Subject, patterns: Sequence[str]) -> Plan:
    """A plan to record the stages and modules that names and globs pick. Raises StageError for one there is not."""
    names, by_name = names_of(subject.architecture), dict[str, list[Supply]]()
    check_names(names, subject.source.name, patterns)
    for supply in subject.architecture.supplies() + subject.architecture.module_supplies():
        by_name.setdefault(supply.name, []).append(supply)
    chosen: dict[Supply, Want] = {}
    for pattern in sorted(patterns, key=is_glob):
        supplies = [supply for name in names.picked(pattern) for supply in by_name[name] if supply.available]
        # Of several modules that can supply a stage, such as rotary tables of two kinds, not all need to run.
        may_be_idle = is_glob(pattern) or len({supply.module for supply in supplies}) > 1
        for supply in supplies:
            chosen.setdefault(supply, Want(supply, by_glob=may_be_idle))
    about = dict.fromkeys(supply.note for supply in chosen if supply.note and supply.within.startswith("position_"))
    notes = [f"Positions: {note}." for note in about]
    notes += [f"{said}." for pattern in patterns if (said := names.below(pattern, {each.name for each in chosen}))]
    return plan_of(subject.architecture, list(chosen.values()), notes=tuple(notes))


def in_stacks(subject: Subject, stage: str) -> Plan:
    """A plan to record a stage outside the layers, in every stack that has it. Raises StageError where none has."""
    names = names_of(subject.architecture)
    asked = [stack.prefix + stage for stack in subject.architecture.stacks]
    having = [each for each in asked if names.refusal(subject.source.name, each) is None]
    return plan_of_names(subject, having or asked)


def check_names(names: Names, model: str, patterns: Sequence[str]) -> None:
    """Raise StageError for a wanted name or glob that picks nothing the model called `model` has."""
    for pattern in sorted(patterns, key=is_glob):
        if refused := names.refusal(model, pattern):
            raise StageError(refused)


def _until(architecture: Architecture, wants: Sequence[Want]) -> str | None:
    """The module before whose start a pass may not stop for its wants: tables may be made per kind of layer."""
    if architecture.loops:
        return None
    positions = [want.supply for want in wants if want.supply.within.startswith("position_embeddings.")]
    if not positions:
        return ""
    stack = architecture.stack(positions[-1].stack)
    in_layers = stack.rotaries and ".layers." in stack.rotaries[0] + "."
    return stack.first_layer() if not in_layers else ""


def check_layers(model: str, asked: Layers, count: int) -> tuple[int, ...]:
    """The layers wanted of a model that has `count`, from its start. Raises StageError for one it does not have."""
    return from_start(asked, count, lambda layer: StageError(out_of_range(model, layer, count)))
