"""Names of stages: those that a model has, and what a name says: its stack, layer, part and run."""

from __future__ import annotations

import re
from dataclasses import dataclass

from txinspect.stages import OF_HEAD, STAGES

ENCODER, DECODER = "encoder.", "decoder."
"""What the names of stages begin with in a model that has two stacks of layers."""


def stage_names(layers: int) -> list[str]:
    """Every stage name that any model with that many layers has, in the order of the pass."""
    everywhere = [stage for stage in STAGES if not stage.optional]
    blocks = [stage for stage in everywhere if stage.per_layer]
    first = everywhere.index(blocks[0])
    before, after = everywhere[:first], [stage for stage in everywhere[first:] if not stage.per_layer]
    names = [stage.name() for stage in before]
    names += [stage.name(i) for i in range(layers) for stage in blocks]
    return names + [stage.name() for stage in after]


def names_of_two(encoder_layers: int, decoder_layers: int) -> list[str]:
    """Every stage name that any encoder–decoder with so many layers has, in the order of the pass."""
    encoder = [f"{ENCODER}{name}" for name in stage_names(encoder_layers) if name not in OF_HEAD]
    decoder = [f"{DECODER}{name}" for name in stage_names(decoder_layers) if name not in OF_HEAD]
    crossed = [stage for stage in STAGES if ".cross_attention." in stage.template]
    decoder += [f"{DECODER}{stage.name(layer)}" for layer in range(decoder_layers) for stage in crossed]
    return [*encoder, *decoder, "logits"]


_PLACE = re.compile(r"(?P<stack>encoder\.|decoder\.)?(?:layers\.(?P<layer>[0-9]+)(?:\.|\Z))?")

_RUN = re.compile(r"#(?P<run>[0-9]{1,9})\Z")


@dataclass(frozen=True)
class StageName:
    """What the name of a stage says."""

    stack: str
    """Such as decoder. of decoder.layers.3.output; nothing where there is only one stack."""
    layer: int | None
    """Such as 3 of layers.3.output; None where there is no plain number."""
    part: str
    """The name within its layer, such as attention.q of layers.3.attention.q; else the name without its stack."""
    run: int | None
    """The number after #, such as 2 of layers.3.output#2; None where a module ran once in the pass."""

    @classmethod
    def of(cls, name: str) -> StageName:
        """Read what the name of a stage says, whatever it is."""
        place, run = _PLACE.match(name), _RUN.search(name)
        assert place is not None  # it matches nothing, too
        return cls(
            stack=place["stack"] or "",
            layer=int(place["layer"]) if place["layer"] else None,
            part=name[place.end() : run.start() if run else None],
            run=int(run["run"]) if run else None,
        )
