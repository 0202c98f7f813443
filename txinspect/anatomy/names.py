"""What can be asked of a model by name: its stages and modules, as plain values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from txinspect.globs import is_glob, matching
from txinspect.names_elsewhere import elsewhere
from txinspect.nearest import nearest
from txinspect.stage_names import DECODER, ENCODER, StageName
from txinspect.stages import BY_PART, OF_HEAD
from txinspect.wording import counted, one_of

if TYPE_CHECKING:
    from txinspect.anatomy.architecture import Architecture


@dataclass(frozen=True)
class Names:
    """The names of a model's stages and modules."""

    reasons: Mapping[str, str | None]
    """By name, in the order of the pass: why the model does not have the stage; None if it does."""
    layers: int
    stacks: tuple[str, ...] = ()
    """The paths of the modules that the layers are items of, such as model.layers."""

    def picked(self, pattern: str) -> list[str]:
        """Which of a model's stages and modules a name or glob picks, whether the model has them or not."""
        if is_glob(pattern):
            return matching(pattern, self.reasons)
        said = StageName.of(pattern)
        if pattern in self.reasons and said.part != "position_embeddings":
            return [pattern]
        if said.run is not None:
            return []  # a pass tells runs apart, not a model
        if said.stack == DECODER and said.part in OF_HEAD:
            return self.picked(said.part)  # the output of an encoder–decoder is its decoder's
        group = said.part in BY_PART
        return [name for name in self.reasons if f"{name}.".startswith(pattern + ".")] if group else []

    def below(self, pattern: str, chosen: Set[str]) -> str | None:
        """What a glob that stops at a dot leaves out, in a clause: stages of a group that is no stage itself.

        None where it leaves out none that were not `chosen` by another pattern.
        """
        if not is_glob(pattern) or pattern.endswith("**"):
            return None
        deeper = matching(f"{pattern}.**", [name for name, reason in self.reasons.items() if reason is None])
        over = [name for name in deeper if name not in chosen and name.rpartition(".")[0] not in self.reasons]
        if not over:
            return None
        lie = "lies" if len(over) == 1 else "lie"
        deep = f"{pattern}*" if pattern.endswith("*") else f"{pattern}.**"
        return (
            f"{pattern!r} stops at a dot: {counted(len(over), 'stage')} {lie} below, such as {over[0]}: give {deep!r}"
        )

    def refusal(self, model: str, pattern: str) -> str | None:
        """Why the model called `model` has no stage or module of that name, in a sentence; None if it has."""
        picked = self.picked(pattern)
        if any(self.reasons[name] is None for name in picked):
            return None
        if picked:
            return f"{model!r} has no stage {pattern!r}: {self.reasons[picked[0]]}"
        return (
            self._of_a_stack(model, pattern)
            or self._out_of_range(model, pattern)
            or self._elsewhere(model, pattern)
            or self._of_a_group(model, pattern)
            or self._unknown(model, pattern)
        )

    def _without_layer(self, model: str, layer: int) -> str | None:
        """That the model called `model` has no layer of a number asked by name, in a sentence; None if it has."""
        return None if layer < self.layers else out_of_range(model, layer, self.layers)

    def _of_a_stack(self, model: str, pattern: str) -> str | None:
        """That the name is of a stage of the encoder's or the decoder's, where a model has both; None if it is not."""
        found = [repr(stack + pattern) for stack in (ENCODER, DECODER) if self.picked(stack + pattern)]
        return f"{model!r} has an encoder and a decoder: give {one_of(found)}" if found else None

    def _out_of_range(self, model: str, name: str) -> str | None:
        """That a name such as layers.99.output is of a layer which the model does not have; None if it has it."""
        said = StageName.of(name)
        own = self._layers_of(said.stack) if said.stack else None
        if said.layer is not None and own is not None and said.layer >= own:
            return out_of_range(f"{said.stack.rstrip('.')} of {model}", said.layer, own)
        for stack in ("layers", *self.stacks):
            inside = re.match(rf"{re.escape(stack)}\.([0-9]+)(?:\.|$)", name)
            if inside and (refused := self._without_layer(model, int(inside[1]))):
                return refused
        return None

    def _layers_of(self, stack: str) -> int | None:
        """How many layers the encoder or the decoder has by a model's names; None where it has no such stages."""
        said = map(StageName.of, self.reasons)
        return sum(1 for each in said if each.stack == stack and each.part == "input") or None

    def _elsewhere(self, model: str, name: str) -> str | None:
        """Which of a model's stages another tool's name means, or why it has none; None if it is no such name."""
        found = elsewhere(name, self.layers)
        if found is None:
            return None
        refused = [self.refusal(model, stage) for stage in found.stages]
        here = [repr(stage) for stage, why_not in zip(found.stages, refused, strict=True) if why_not is None]
        if not here:
            return f"{name!r} is {found.tool} name, and {refused[0]}"
        return f"{name!r} is {found.tool} name: here it is {' and '.join(here)}"

    def _of_a_group(self, model: str, pattern: str) -> str | None:
        """That a glob picks groups of stages alone, such as all layers; None if it does not."""
        below = self.below(pattern, set())
        return None if below is None else f"{model!r} has no stage of that name: {below}"

    def _unknown(self, model: str, pattern: str) -> str:
        near = nearest(pattern, [name for name, reason in self.reasons.items() if reason is None])
        meant = f"did you mean {' or '.join(near)}?"
        hint = meant if near else "'txinspect stages' and 'txinspect tree' list the names"
        return f"{model!r} has no stage or module {pattern!r}: {hint}"


def out_of_range(model: str, layer: int, count: int) -> str:
    """The sentence that a model with `count` layers has none of that number."""
    having = {0: "no layers", 1: "layer 0 alone"}.get(count, f"layers 0 to {count - 1}")
    return f"layer {layer} is out of range: {model!r} has {having}"


def names_of(architecture: Architecture) -> Names:
    """The names of an architecture's stages and modules. A stage may have several supplies: one is enough."""
    reasons: dict[str, str | None] = {}
    for supply in architecture.supplies() + architecture.module_supplies():
        if reasons.get(supply.name, "") is not None:
            reasons[supply.name] = None if supply.available else reasons.get(supply.name) or supply.reason
    firsts = [layer.first.rpartition(".") for layer in architecture.layers]
    return Names(reasons, len(firsts), tuple(dict.fromkeys(stack for stack, _, index in firsts if index.isdecimal())))
