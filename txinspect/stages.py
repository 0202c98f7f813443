"""The table of stages: their names, axes and meanings, as pure data.

A stage is one place in the forward pass that has the same name in every architecture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
        """A stage's name within its layer, such as attention.q; the whole name of a stage outside the layers."""
        return self.template.removeprefix("layers.{i}.")

    @property
    def of_head(self) -> bool:
        """Whether a stage comes after all layers."""
        return self.template in OF_HEAD

    @property
    def per_layer(self) -> bool:
        """Whether every layer has such a stage."""
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
        "token_embeddings",
        _HIDDEN,
        "the embedding table's rows for the tokens",
        hugging_face=("get_input_embeddings()", "inputs_embeds"),
        transformer_lens=("hook_embed",),
    ),
    Stage(
        "position_embeddings",
        _HIDDEN,
        "what is added for the positions",
        transformer_lens=("hook_pos_embed",),
    ),
    Stage("token_type_embeddings", _HIDDEN, "what is added for the segment that a token is in", optional=True),
    Stage("embeddings", _HIDDEN, "the sum of all embeddings, after its norm", optional=True),
    Stage(
        "layers.{i}.input",
        _HIDDEN,
        "the residual stream before the layer",
        hugging_face=("hidden_states[i]",),
        transformer_lens=("hook_resid_pre",),
    ),
    Stage(
        "layers.{i}.attention.input",
        _HIDDEN,
        "what enters the attention, after its norm",
        transformer_lens=("ln1",),
    ),
    Stage(
        "layers.{i}.attention.q",
        _HEADS,
        "queries as they meet the keys: after bias, q-norm and rotary",
        transformer_lens=("hook_rot_q",),
    ),
    Stage(
        "layers.{i}.attention.k",
        _KV_HEADS,
        "keys, before repeating for grouped queries",
        hugging_face=("past_key_values[i]",),
        transformer_lens=("hook_rot_k",),
    ),
    Stage(
        "layers.{i}.attention.v",
        _KV_HEADS,
        "values, before repeating for grouped queries",
        hugging_face=("past_key_values[i]",),
        transformer_lens=("hook_v",),
    ),
    Stage(
        "layers.{i}.attention.scores",
        _PATTERN,
        "scaled q·kᵀ before mask and softmax",
        transformer_lens=("hook_attn_scores",),
    ),
    Stage(
        "layers.{i}.attention.scores.content_to_position",
        _PATTERN,
        "what a query's content gives for a distance",
        optional=True,
    ),
    Stage(
        "layers.{i}.attention.scores.position_to_content",
        _PATTERN,
        "what a key's content gives for a distance",
        optional=True,
    ),
    Stage("layers.{i}.attention.scores.position", _PATTERN, "their sum, which is added to the scores", optional=True),
    Stage(
        "layers.{i}.attention.weights",
        _PATTERN,
        "attention weights: the softmax of the masked scores",
        hugging_face=("attentions[i]",),
        transformer_lens=("hook_pattern",),
    ),
    Stage("layers.{i}.attention.context", _HEADS, "weights·v", transformer_lens=("hook_z",)),
    Stage(
        "layers.{i}.attention.output",
        _HIDDEN,
        "the attention's output, after its output projection",
        transformer_lens=("hook_attn_out",),
    ),
    Stage("layers.{i}.cross_attention.input", _HIDDEN, "what enters the attention to the source", optional=True),
    Stage("layers.{i}.cross_attention.q", _HEADS, "queries of the decoder's tokens", optional=True),
    Stage("layers.{i}.cross_attention.k", _SOURCE_HEADS, "keys of the source's tokens", optional=True),
    Stage("layers.{i}.cross_attention.v", _SOURCE_HEADS, "values of the source's tokens", optional=True),
    Stage("layers.{i}.cross_attention.scores", _CROSS, "scaled q·kᵀ before mask and softmax", optional=True),
    Stage(
        "layers.{i}.cross_attention.weights",
        _CROSS,
        "how each of the decoder's tokens weighs the source's",
        optional=True,
        hugging_face=("cross_attentions[i]",),
    ),
    Stage("layers.{i}.cross_attention.context", _HEADS, "weights·v", optional=True),
    Stage("layers.{i}.cross_attention.output", _HIDDEN, "its output, after its output projection", optional=True),
    Stage("layers.{i}.mixer.input", _HIDDEN, "what enters a recurrent or convolutional mixer", optional=True),
    Stage("layers.{i}.mixer.output", _HIDDEN, "what the mixer adds to the residual stream", optional=True),
    Stage(
        "layers.{i}.mlp.input",
        _HIDDEN,
        "what enters the MLP, after its norm",
        transformer_lens=("ln2",),
    ),
    Stage(
        "layers.{i}.mlp.router",
        ("batch", "seq", "expert"),
        "a score for every expert",
        optional=True,
        hugging_face=("router_logits",),
    ),
    Stage("layers.{i}.mlp.router.weights", _CHOICE, "the weights of the chosen experts", optional=True),
    Stage("layers.{i}.mlp.router.experts", _CHOICE, "the chosen experts", optional=True),
    Stage(
        "layers.{i}.mlp.output",
        _HIDDEN,
        "what the MLP adds to the residual stream",
        transformer_lens=("hook_mlp_out",),
    ),
    Stage(
        "layers.{i}.output",
        _HIDDEN,
        "the residual stream after the layer",
        hugging_face=("hidden_states[i+1]",),
        transformer_lens=("hook_resid_post",),
    ),
    Stage(
        "final_norm",
        _HIDDEN,
        "the residual stream after the last norm",
        hugging_face=("hidden_states[-1]", "last_hidden_state"),
        transformer_lens=("ln_final",),
    ),
    Stage(
        "pooler.output",
        ("batch", "hidden"),
        "the vector of the whole text, made of its first token",
        optional=True,
        hugging_face=("pooler_output",),
    ),
    Stage("head.transform", _HIDDEN, "the last hidden states as the head's matrix reads them", optional=True),
    Stage(
        "logits",
        ("batch", "seq", "vocab"),
        "the model's output: a score for every token of the vocabulary",
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

NodeKind = Literal[
    "text",
    "embedding",
    "positions",
    "norm",
    "attention",
    "cross_attention",
    "mixer",
    "mlp",
    "experts",
    "head",
    "module",
    "operation",
    "weight",
    "scale",
    "sum",
    "stream",
    "logits",
    "output",
]
"""What a block of a model's diagram is."""
