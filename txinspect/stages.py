"""Stage names, their axes, and the globs that pick them: pure data and string work.

A stage is one place in the forward pass that has the same name in every architecture.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache


@dataclass(frozen=True)
class Stage:
    """A stage as the contract names it."""

    template: str
    """The name, with {i} for the layer."""
    axes: tuple[str, ...]
    meaning: str
    optional: bool = False
    """Whether only some kinds of model have it, so that a list leaves it out where none of the layers does."""

    @property
    def part(self) -> str:
        """The name within its layer, such as attention.q; the whole name of a stage outside the layers."""
        return self.template.removeprefix("layers.{i}.")

    @property
    def per_layer(self) -> bool:
        """Whether every layer has one."""
        return self.template.startswith("layers.{i}.")

    def name(self, layer: int | None = None) -> str:
        """The name of this stage in a layer, such as layers.0.attention.q."""
        return self.template.replace("{i}", str(layer))


_HIDDEN = ("batch", "seq", "hidden")
_HEADS = ("batch", "head", "seq", "head_dim")
_KV_HEADS = ("batch", "kv_head", "seq", "head_dim")
_PATTERN = ("batch", "head", "query", "key")
_CHOICE = ("batch", "seq", "choice")

STAGES: tuple[Stage, ...] = (
    Stage("token_embeddings", _HIDDEN, "the embedding table's rows for the tokens"),
    Stage("position_embeddings", _HIDDEN, "what is added for the positions"),
    Stage("layers.{i}.input", _HIDDEN, "the residual stream before the layer"),
    Stage("layers.{i}.attention.input", _HIDDEN, "what enters the attention, after its norm"),
    Stage("layers.{i}.attention.q", _HEADS, "queries as they meet the keys: after bias, q-norm and rotary"),
    Stage("layers.{i}.attention.k", _KV_HEADS, "keys, before repeating for grouped queries"),
    Stage("layers.{i}.attention.v", _KV_HEADS, "values, before repeating for grouped queries"),
    Stage("layers.{i}.attention.scores", _PATTERN, "scaled q·kᵀ before mask and softmax"),
    Stage("layers.{i}.attention.weights", _PATTERN, "attention weights: the softmax of the masked scores"),
    Stage("layers.{i}.attention.context", _HEADS, "weights·v"),
    Stage("layers.{i}.attention.output", _HIDDEN, "the attention's output, after its output projection"),
    Stage("layers.{i}.mixer.input", _HIDDEN, "what enters a recurrent or convolutional mixer", optional=True),
    Stage("layers.{i}.mixer.output", _HIDDEN, "what the mixer adds to the residual stream", optional=True),
    Stage("layers.{i}.mlp.input", _HIDDEN, "what enters the MLP, after its norm"),
    Stage("layers.{i}.mlp.router", ("batch", "seq", "expert"), "a score for every expert", optional=True),
    Stage("layers.{i}.mlp.router.weights", _CHOICE, "the weights of the chosen experts", optional=True),
    Stage("layers.{i}.mlp.router.experts", _CHOICE, "the chosen experts", optional=True),
    Stage("layers.{i}.mlp.output", _HIDDEN, "what the MLP adds to the residual stream"),
    Stage("layers.{i}.output", _HIDDEN, "the residual stream after the layer"),
    Stage("final_norm", _HIDDEN, "the residual stream after the last norm"),
    Stage("logits", ("batch", "seq", "vocab"), "the model's output: a score for every next token"),
)

BY_PART: dict[str, Stage] = {stage.part if stage.per_layer else stage.template: stage for stage in STAGES}
"""Stages by their name within a layer (`input`, `attention.q`, …) or their whole name outside the layers."""

ATTENTION_PARTS = ("input", "q", "k", "v", "scores", "weights", "context", "output")
"""The parts of `layers.{i}.attention`, in the order of the pass."""


def stage_names(layers: int) -> list[str]:
    """Every stage name that any model with that many layers has, in the order of the pass."""
    blocks = [stage for stage in STAGES if stage.per_layer and not stage.optional]
    first = STAGES.index(blocks[0])
    before, after = STAGES[:first], [stage for stage in STAGES[first:] if not stage.per_layer]
    names = [stage.name() for stage in before]
    names += [stage.name(i) for i in range(layers) for stage in blocks]
    return names + [stage.name() for stage in after]


def layer_of(name: str) -> int | None:
    """The layer in a stage's name, such as 3 of layers.3.output; None where there is no plain number."""
    match = re.match(r"layers\.([0-9]+)(?:\.|\Z)", name)
    return int(match[1]) if match else None


def is_glob(pattern: str) -> bool:
    """Whether a pattern has a wildcard; a plain name has none."""
    return any(mark in pattern for mark in "*?[")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = []
    for token in re.findall(r"\*\*\.?|\*|\?|\[[^]]*\]|[^*?\[]+|\[", pattern):
        if token == "**.":
            parts.append(r"(?:.+\.)?")
        elif token == "**":
            parts.append(r".*")
        elif token == "*":
            parts.append(r"[^.]*")
        elif token == "?":
            parts.append(r"[^.]")
        elif token.startswith("[") and len(token) > 2:
            members = token[1:-1].replace("\\", r"\\")
            negated = members.startswith("!")
            parts.append(f"(?!\\.)[^{members[1:]}]" if negated else f"[{members}]")
        else:
            parts.append(re.escape(token))
    return re.compile("".join(parts) + r"\Z")


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that a glob picks, in their order: * and ? stay within a name, ** crosses dots.

    A bracket that is not a valid set, such as [9-1], matches nothing.
    """
    try:
        compiled = _compiled(pattern)
    except re.error:
        return []
    return [name for name in names if compiled.match(name)]


def nearest(name: str, names: Sequence[str], limit: int = 3) -> list[str]:
    """The names that look most like a mistyped one."""
    return get_close_matches(name, names, n=limit, cutoff=0.5)
