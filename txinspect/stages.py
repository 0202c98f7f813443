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
    hugging_face: tuple[str, ...] = ()
    """What transformers calls it; [i] is the layer's place in a list of the model's outputs."""
    transformer_lens: tuple[str, ...] = ()
    """What TransformerLens calls it, without the block that it is in."""

    @property
    def part(self) -> str:
        """The name within its layer, such as attention.q; the whole name of a stage outside the layers."""
        return self.template.removeprefix("layers.{i}.")

    @property
    def of_head(self) -> bool:
        """Whether it comes after all layers."""
        return self.template in OF_HEAD

    @property
    def per_layer(self) -> bool:
        """Whether every layer has one."""
        return self.template.startswith("layers.{i}.")

    def name(self, layer: int | None = None) -> str:
        """The name of this stage in a layer, such as layers.0.attention.q."""
        return self.template.replace("{i}", str(layer))

    @property
    def everywhere(self) -> str:
        """The glob of this stage in all layers, such as layers.*.input; the whole name of a stage outside them."""
        return self.template.replace("{i}", "*")


OF_HEAD = ("pooler.output", "head.transform", "logits")
"""Stages after all layers: a model with two stacks has each once, without a prefix."""

_HIDDEN = ("batch", "seq", "hidden")
_HEADS = ("batch", "head", "seq", "head_dim")
_KV_HEADS = ("batch", "kv_head", "seq", "head_dim")
_PATTERN = ("batch", "head", "query", "key")
_CROSS = ("batch", "head", "query", "source")
_SOURCE_HEADS = ("batch", "kv_head", "source", "head_dim")
_CHOICE = ("batch", "seq", "choice")

STAGES: tuple[Stage, ...] = (
    Stage(
        *("token_embeddings", _HIDDEN, "the embedding table's rows for the tokens"),
        hugging_face=("get_input_embeddings()", "inputs_embeds"),
        transformer_lens=("hook_embed",),
    ),
    Stage(
        *("position_embeddings", _HIDDEN, "what is added for the positions"),
        transformer_lens=("hook_pos_embed",),
    ),
    Stage("token_type_embeddings", _HIDDEN, "what is added for the segment that a token is in", optional=True),
    Stage("embeddings", _HIDDEN, "the sum of all embeddings, after its norm", optional=True),
    Stage(
        *("layers.{i}.input", _HIDDEN, "the residual stream before the layer"),
        hugging_face=("hidden_states[i]",),
        transformer_lens=("hook_resid_pre",),
    ),
    Stage(
        *("layers.{i}.attention.input", _HIDDEN, "what enters the attention, after its norm"),
        transformer_lens=("ln1",),
    ),
    Stage(
        *("layers.{i}.attention.q", _HEADS, "queries as they meet the keys: after bias, q-norm and rotary"),
        transformer_lens=("hook_rot_q",),
    ),
    Stage(
        *("layers.{i}.attention.k", _KV_HEADS, "keys, before repeating for grouped queries"),
        hugging_face=("past_key_values[i]",),
        transformer_lens=("hook_rot_k",),
    ),
    Stage(
        *("layers.{i}.attention.v", _KV_HEADS, "values, before repeating for grouped queries"),
        hugging_face=("past_key_values[i]",),
        transformer_lens=("hook_v",),
    ),
    Stage(
        *("layers.{i}.attention.scores", _PATTERN, "scaled q·kᵀ before mask and softmax"),
        transformer_lens=("hook_attn_scores",),
    ),
    Stage(
        *("layers.{i}.attention.scores.content_to_position", _PATTERN, "what a query's content gives for a distance"),
        optional=True,
    ),
    Stage(
        *("layers.{i}.attention.scores.position_to_content", _PATTERN, "what a key's content gives for a distance"),
        optional=True,
    ),
    Stage("layers.{i}.attention.scores.position", _PATTERN, "their sum, which is added to the scores", optional=True),
    Stage(
        *("layers.{i}.attention.weights", _PATTERN, "attention weights: the softmax of the masked scores"),
        hugging_face=("attentions[i]",),
        transformer_lens=("hook_pattern",),
    ),
    Stage(*("layers.{i}.attention.context", _HEADS, "weights·v"), transformer_lens=("hook_z",)),
    Stage(
        *("layers.{i}.attention.output", _HIDDEN, "the attention's output, after its output projection"),
        transformer_lens=("hook_attn_out",),
    ),
    Stage("layers.{i}.cross_attention.input", _HIDDEN, "what enters the attention to the source", optional=True),
    Stage("layers.{i}.cross_attention.q", _HEADS, "queries of the decoder's tokens", optional=True),
    Stage("layers.{i}.cross_attention.k", _SOURCE_HEADS, "keys of the source's tokens", optional=True),
    Stage("layers.{i}.cross_attention.v", _SOURCE_HEADS, "values of the source's tokens", optional=True),
    Stage("layers.{i}.cross_attention.scores", _CROSS, "scaled q·kᵀ before mask and softmax", optional=True),
    Stage(
        *("layers.{i}.cross_attention.weights", _CROSS, "how each of the decoder's tokens weighs the source's"),
        optional=True,
        hugging_face=("cross_attentions[i]",),
    ),
    Stage("layers.{i}.cross_attention.context", _HEADS, "weights·v", optional=True),
    Stage("layers.{i}.cross_attention.output", _HIDDEN, "its output, after its output projection", optional=True),
    Stage("layers.{i}.mixer.input", _HIDDEN, "what enters a recurrent or convolutional mixer", optional=True),
    Stage("layers.{i}.mixer.output", _HIDDEN, "what the mixer adds to the residual stream", optional=True),
    Stage(
        *("layers.{i}.mlp.input", _HIDDEN, "what enters the MLP, after its norm"),
        transformer_lens=("ln2",),
    ),
    Stage(
        *("layers.{i}.mlp.router", ("batch", "seq", "expert"), "a score for every expert"),
        optional=True,
        hugging_face=("router_logits",),
    ),
    Stage("layers.{i}.mlp.router.weights", _CHOICE, "the weights of the chosen experts", optional=True),
    Stage("layers.{i}.mlp.router.experts", _CHOICE, "the chosen experts", optional=True),
    Stage(
        *("layers.{i}.mlp.output", _HIDDEN, "what the MLP adds to the residual stream"),
        transformer_lens=("hook_mlp_out",),
    ),
    Stage(
        *("layers.{i}.output", _HIDDEN, "the residual stream after the layer"),
        hugging_face=("hidden_states[i+1]",),
        transformer_lens=("hook_resid_post",),
    ),
    Stage(
        *("final_norm", _HIDDEN, "the residual stream after the last norm"),
        hugging_face=("hidden_states[-1]", "last_hidden_state"),
        transformer_lens=("ln_final",),
    ),
    Stage(
        *("pooler.output", ("batch", "hidden"), "the vector of the whole text, made of its first token"),
        optional=True,
        hugging_face=("pooler_output",),
    ),
    Stage("head.transform", _HIDDEN, "the last hidden states as the head's matrix reads them", optional=True),
    Stage(
        *("logits", ("batch", "seq", "vocab"), "the model's output: a score for every token of the vocabulary"),
        hugging_face=("logits",),
        transformer_lens=("logits",),
    ),
)

BY_PART: dict[str, Stage] = {stage.part: stage for stage in STAGES}
"""Stages by their name within a layer (`input`, `attention.q`, …) or their whole name outside the layers."""

ATTENTION_PARTS = ("input", "q", "k", "v", "scores", "weights", "context", "output")
"""The parts of `layers.{i}.attention` and `layers.{i}.cross_attention`, in the order of the pass."""

POSITION_PARTS = ("scores.content_to_position", "scores.position_to_content", "scores.position")
"""The parts of `layers.{i}.attention` that DeBERTa adds to the scores (He et al. 2021, equation 4)."""

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


def layer_of(name: str) -> int | None:
    """The layer in a stage's name, such as 3 of layers.3.output; None where there is no plain number."""
    match = _PLACE.match(name)
    return int(match["layer"]) if match and match["layer"] else None


def stack_of(name: str) -> str:
    """The stack in a stage's name, such as decoder. of decoder.layers.3.output; nothing where there is only one."""
    match = _PLACE.match(name)
    return (match and match["stack"]) or ""


def part_of(name: str) -> str:
    """A stage's name within its layer, such as attention.q of layers.3.attention.q; else the name without its stack."""
    match = _PLACE.match(name)
    return name[match.end() :] if match else name


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
    """What a name of another tool is in a model with that many layers; None if it is no such name."""
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
    """The stages that an output of transformers has, or an item of it: hidden_states has one item more than layers."""
    lists = {one: [stage for stage in STAGES if f"{name}[{one}]" in stage.hugging_face] for one in ("i", "-1")}
    if not lists["i"]:
        return tuple(stage.everywhere for stage in STAGES if name in stage.hugging_face)
    if index is not None:
        place = int(index) + (layers + len(lists["-1"]) if int(index) < 0 else 0)
        if place >= 0:
            last = place == layers and lists["-1"]
            return tuple(stage.name(place) for stage in last or lists["i"])
    return tuple(stage.everywhere for stage in (*lists["i"], *lists["-1"]))


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
