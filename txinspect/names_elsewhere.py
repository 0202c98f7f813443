"""What other tools, transformers and TransformerLens, call a stage."""

from __future__ import annotations

import re
from dataclasses import dataclass

from txinspect.stages import STAGES, Stage


@dataclass(frozen=True)
class Elsewhere:
    """What a name of another tool is here."""

    tool: str
    """Whose name it is, such as TransformerLens'."""
    stages: tuple[str, ...]
    """Stages, or globs where the name is that of all layers at once."""


_HOOK = re.compile(r"(?:blocks\.(?P<layer>\d+|\*)\.)?(?:attn\.)?(?P<name>\w+?)(?:\.hook_normalized)?")
"""TransformerLens: hook_pattern, blocks.0.attn.hook_pattern, ln_final.hook_normalized."""

_OUTPUT = re.compile(r"(?:outputs?\.)?(?P<name>\w+(?:\(\))?)(?:\[(?P<index>-?\d+)\])?")
"""transformers: attentions, outputs.hidden_states[-1], get_input_embeddings()."""


def elsewhere(name: str, layers: int) -> Elsewhere | None:
    """What a name of another tool, such as TransformerLens, is in a model with that many layers; None if it is none."""
    if hook := _HOOK.fullmatch(name):
        found = [stage for stage in STAGES if hook["name"] in stage.transformer_lens]
        if found and (found[0].per_layer or hook["layer"] is None):
            return Elsewhere("TransformerLens'", tuple(_in_layer(stage, hook["layer"]) for stage in found))
    output = _OUTPUT.fullmatch(name)
    stages = _outputs(output["name"], output["index"], layers) if output else ()
    return Elsewhere("Hugging Face's", stages) if stages else None


def _in_layer(stage: Stage, layer: str | None) -> str:
    return stage.everywhere if layer in (None, "*") else stage.name(int(layer))


def _outputs(name: str, index: str | None, layers: int) -> tuple[str, ...]:
    """The stages that another name, an output of transformers or an item of it, has; hidden_states has one more."""
    lists = {one: [stage for stage in STAGES if f"{name}[{one}]" in stage.hugging_face] for one in ("i", "-1")}
    if not lists["i"]:
        return tuple(stage.everywhere for stage in STAGES if name in stage.hugging_face)
    if index is not None:
        place = int(index) + (layers + len(lists["-1"]) if int(index) < 0 else 0)
        if place >= 0:
            last = place == layers and lists["-1"]
            return tuple(stage.name(place) for stage in last or lists["i"])
    return tuple(stage.everywhere for stage in (*lists["i"], *lists["-1"]))
