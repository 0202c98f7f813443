"""Which module plays which part, in any architecture: the one room that knows modules' names.

Modules are found in the module tree by the names that families give them, never by trusting config numbers. What
cannot be found is a sentence that says why. The tables at the top are all that is known about families; adding one
needs at most a name here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from txinspect import positions
from txinspect.stages import STAGES, Stage

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

# --- What families call their modules -------------------------------------------------------------------------------

LAYER_LISTS = ("layers", "h", "blocks", "layer", "attentions")
OTHER_STACKS = re.compile(r"vision|image|audio|embed_tokens_extend|patcher|local_encoder|local_decoder")
"""Stacks that do not read the text's residual stream: other modalities, and blt's byte-level parts."""

ATTENTIONS = (
    "self_attn",
    "attention.self_attention",
    "attention.self",
    "attn.attention",
    "attn",
    "attention",
    "self_attention",
    "multi_head_attention",
    "norm_attn_norm.attn",
    "self_att.self_attention",
    "rel_attn",
    "temporal_block",
    "mixer",
    "shared_transf.self_attn",
    "shared_transformer.self_attn",
    "cross_attn",
)
ATTENTION_CLASS = re.compile(r"Attention|MLA|LSH")
LINEAR_ATTENTION_CLASS = re.compile(r"Delta|Lightning|Rwkv|Block$")
"""Recurrent mixers that are called attention but have no softmax."""

MIXERS = (
    "mixer",
    "mamba",
    "linear_attn",
    "conv",
    "mlstm_layer",
    "mamba_decoder.mamba",
    "self_attn",
    "attention",
    "temporal_block",
)
MLPS = (
    "mlps",
    "mlp",
    "feed_forward",
    "ffn.ffn",
    "ffn",
    "block_sparse_moe",
    "mlp_block",
    "ff",
    "shared_transf.feed_forward",
    "shared_transformer.feed_forward",
    "mixer",
)
MLP_CLASS = re.compile(r"(MLP|MoE)$")
"""What a layer that has one module of any kind, such as Nemotron-H's mixer, calls an MLP."""
MLP_PAIRS = (("fc1", "fc2"), ("intermediate", "output.dense"))
"""Layers without an MLP module: the first and the last of the modules that make it."""

ROUTERS = ("router", "gate")
POSITION_EMBEDDINGS = ("embed_positions", "position_embeddings", "wpe", "positions_embed", "position_bias")
RELATIVE_BIAS = "rel_logits_proj"
"""What makes a bias of each layer's scores out of the distance between query and key."""

ROTATED_SINUSOIDS = ("roformer",)
"""Models whose position embeddings rotate q and k instead of being added."""

COMPLEX_ROTARY = ("DeepseekV2RotaryEmbedding", "Llama4TextRotaryEmbedding")
"""Rotary modules that pass on one complex table instead of cos and sin."""
FINAL_NORMS = (
    "final_layer_norm",
    "norm",
    "final_layernorm",
    "ln_f",
    "norm_f",
    "layer_norm",
    "embedding_norm",
    "ln_out",
    "out_norm",
    "final_norm",
    "layernorm",
    "output_layernorm",
    "LayerNorm",
    "ln",
    "hyper_connection_mixer.hc_norm",
)
INPUT_PROJECTIONS = ("project_in", "embedding_hidden_mapping_in")
OUTPUT_PROJECTIONS = ("project_out",)

# --- True exceptions, a line each -------------------------------------------------------------------------------------

OUTPUT_PROJECTION_BESIDE = {
    "attention.self": "attention.output.dense",
    "attention.self_attention": "attention.output.dense",
}
"""Attention modules that end before their output projection: where that is, in the layer."""

OUTPUT_INSIDE = {
    "BloomAttention": "dense",
    "BloomMLP": "dense_4h_to_h",
    "MptMLP": "down_proj",
    "XLNetFeedForward": "layer_2",
    "ChunkReformerFeedForward": "output.dense",
}
"""Modules that add the residual stream themselves: the module inside whose output is what they add."""

ADDS_RESIDUAL = {"XLNetRelativeAttention": "the module adds the residual stream and norms: its output contains both"}
"""Modules that add the residual stream to something no module supplies."""

SUMMED_MLPS = (("block_sparse_moe", "shared_mlp"), ("mlp", "experts"), ("mlps", "mlp"))
"""Layers that add the outputs of two MLPs, so that no module supplies the sum."""

RESIDUAL_AXES = {
    "gemma3n": ("stream", "batch", "seq", "hidden"),
    "gemma3n_text": ("stream", "batch", "seq", "hidden"),
    "deepseek_v4": ("batch", "seq", "stream", "hidden"),
    "hy_v4": ("batch", "seq", "stream", "hidden"),
    "qwen4_exp": ("batch", "seq", "stream_hidden"),
    "qwen4_exp_text": ("batch", "seq", "stream_hidden"),
    "xlnet": ("seq", "batch", "hidden"),
    "prophetnet": ("batch", "ngram_seq", "hidden"),
    "cpmant": ("batch", "prompt_seq", "hidden"),
    "blt": ("batch", "patch", "hidden"),
    "reformer": ("batch", "padded_seq", "hidden"),
}
"""Residual streams that are not (batch, seq, hidden)."""

NO_SOFTMAX = {
    "LSHSelfAttention": "hashed attention sorts queries into buckets: it has no matrix of weights",
    "LocalSelfAttention": "chunked attention normalises by a log-sum: it has no softmax to watch",
    "BigBirdBlockSparseAttention": "block-sparse attention, used for long texts, has no matrix of weights",
    "MllamaTextCrossAttention": "cross-attention runs only where there is an image",
}
"""Attention modules inside of which nothing can be recorded."""

GATED_CONTEXTS = ("GraniteSWAAttention", "GraniteMoeSWAAttention")
"""Attention modules whose backend scales weights·v by a gate before it returns them."""

CODEBOOK_READERS = ("musicgen_decoder", "musicgen_melody_decoder")
"""Models that read a row of ids for each of several codebooks and sum their embeddings."""

LOOPED = ("hrm_text", "nanochat")
"""Models that run a stage's module several times in a pass: their layers, or one norm at both ends."""

ROUTER_OUTPUTS = {
    "JetMoeTopKGating": (4, None, None),
    "Llama4Router": (1, 0, None),
    "DbrxRouter": (0, None, None),
}
"""Routers that do not return (logits, weights of the chosen, the chosen): where these stand, None for nowhere."""

NO_POSITIONS = "the model has no positions: the order of the tokens enters through its recurrent layers"

_CONTAINERS = {
    "ModuleList": "it is a list of modules, which never runs itself: ask for one of them",
    "ModuleDict": "it is a dictionary of modules, which never runs itself: ask for one of them",
}

Tap = Literal["input", "output", "attention", "table", "logits"]
"""How a tensor is had: a module's input or output, inside its attention, a table of positions, the model's output."""


@dataclass(frozen=True)
class Supply:
    """Where a stage's tensor comes from in one model, or why it has none."""

    name: str
    tap: Tap
    module: str | None = None
    class_name: str | None = None
    axes: tuple[str, ...] | None = None
    pick: int | None = None
    """Which item of a module's output or positional input, where it has several."""
    reason: str | None = None
    note: str | None = None

    @property
    def available(self) -> bool:
        """Whether the model has the stage."""
        return self.reason is None

    @property
    def part(self) -> str:
        """The last part of its name: q, weights, input, …"""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True)
class Layer:
    """The modules of one layer, as dotted paths. A part may be several modules that run one after another."""

    first: str
    """What reads the residual stream before the layer: the layer itself, but for layers that are no module."""
    last: str
    """What passes the residual stream on."""
    attentions: tuple[str, ...] = ()
    attention_outputs: tuple[str, ...] = ()
    mixers: tuple[str, ...] = ()
    mlp_inputs: tuple[str, ...] = ()
    mlp_outputs: tuple[str, ...] = ()
    routers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Architecture:
    """The modules of a model, as dotted paths; None where there is none."""

    model_type: str
    class_names: Mapping[str, str]
    token_embeddings: str | None
    position_embeddings: str | None
    rotaries: tuple[str, ...]
    relative_biases: tuple[str, ...]
    position_tables: bool
    """Whether the positions are tables that no module's output holds."""
    layers: tuple[Layer, ...]
    final_norm: str | None
    input_projection: str | None
    output_projection: str | None
    loops: bool
    """Whether a stage's module runs several times in a pass."""
    max_positions: int | None
    """Rows of the table of positions: the longest text; None where there is no such limit."""

    def supplies(self) -> list[Supply]:
        """Every stage, in the order of the pass, with what supplies it or why nothing does."""
        per_layer = [stage for stage in STAGES if stage.per_layer]
        found: list[Supply] = []
        for stage in STAGES:
            if not stage.per_layer:
                found += self._outside(stage)
            elif stage is per_layer[0]:
                found += [s for i in range(len(self.layers)) for each in per_layer for s in self._inside(each, i)]
        return found

    def first_layer(self) -> str | None:
        """What runs once the positions are there."""
        return self.layers[0].first if self.layers else None

    def module_supplies(self) -> list[Supply]:
        """Every module as a stage: its output, under its dotted path."""
        return [
            Supply(path, "output", path, name, reason=_CONTAINERS.get(name))
            for path, name in self.class_names.items()
            if path
        ]

    def _outside(self, stage: Stage) -> Iterator[Supply]:
        name = stage.template
        if name == "token_embeddings":
            note = self._acts_next(self.input_projection, "the embeddings pass through it before the first layer")
            reason = "the embeddings of several codebooks are added up: no module supplies the sum"
            yield self._supply(stage, name, "output", self.token_embeddings, reason, note)
        elif name == "position_embeddings":
            yield from self._positions(stage)
        elif name == "final_norm":
            note = self._acts_next(self.output_projection, "the norm's output passes through it before the head")
            reason = f"nothing norms the stream after the last layer (looked for {', '.join(FINAL_NORMS[:6])}, …)"
            yield self._supply(stage, name, "output", self.final_norm, reason, note)
        else:
            projection = None if self.final_norm else self.output_projection
            note = projection and f"{projection} ({self.class_names[projection]}) acts before the head"
            yield Supply(name, "logits", "", self.class_names[""], stage.axes, note=note)

    def _positions(self, stage: Stage) -> Iterator[Supply]:
        """Embeddings that are added, biases of the scores, tables, or rotary cos and sin; else why there are none."""
        name = stage.template
        if self.position_tables:
            for end, axes in positions.AXES[self.model_type].items():
                full = f"{name}.{end}" if end else name
                yield Supply(full, "table", "", self.class_names[""], axes, note=positions.NOTES[self.model_type])
        elif self.position_embeddings is not None:
            found = self._supply(stage, name, "output", self.position_embeddings)
            if self.position_embeddings.endswith("bias"):
                found = replace(found, axes=("batch", "head", "query", "key"))
            if self.model_type in ROTATED_SINUSOIDS:
                note = "rotary: these sines and cosines rotate q and k, nothing is added to the embeddings"
                found = replace(found, axes=positions.ROTARY_AXES, note=note)
            yield found
        elif self.relative_biases:
            for path in self.relative_biases:
                note = "a bias of the scores, made of the query and its distance to the key, anew in each layer"
                found = self._supply(stage, name, "output", path, None, note)
                yield replace(found, axes=("batch", "head", "query", "key"))
        elif self.rotaries:
            yield from self._rotary(stage, name)
        else:
            recurrent = any(layer.mixers for layer in self.layers)
            looked = ", ".join(POSITION_EMBEDDINGS)
            yield self._supply(stage, name, "output", None, NO_POSITIONS if recurrent else f"looked for {looked}")

    def _rotary(self, stage: Stage, name: str) -> Iterator[Supply]:
        note = "rotary: cos and sin act on q and k inside attention, nothing is added to the embeddings"
        for path in self.rotaries:
            if self.class_names[path] in COMPLEX_ROTARY:
                yield replace(self._supply(stage, name, "output", path, None, note), axes=positions.ROTARY_AXES)
                continue
            for pick, table in enumerate(("cos", "sin")):
                found = self._supply(stage, f"{name}.{table}", "output", path, None, note)
                yield replace(found, axes=positions.ROTARY_AXES, pick=pick)

    def _inside(self, stage: Stage, index: int) -> Iterator[Supply]:
        """The supplies of a stage in a layer: one for each module that supplies it, or one with the reason."""
        layer, name, part = self.layers[index], stage.name(index), stage.part
        if part in ("input", "output"):
            yield self._stream(stage, name, layer.first if part == "input" else layer.last)
            return
        group, _, item = part.partition(".")
        modules, reason = {
            "attention": (layer.attention_outputs if item == "output" else layer.attentions, self._no_attention(index)),
            "mixer": (layer.mixers, f"layer {index} has no recurrent or convolutional mixer"),
            "mlp": self._mlp_modules(layer, index, item),
        }[group]
        if not modules:
            yield self._supply(stage, name, "output", None, reason)
        for module in modules:
            found = self._supply(stage, name, "output", module, None)
            if group == "attention" and item not in ("input", "output"):
                found = replace(found, tap="attention", reason=NO_SOFTMAX.get(self.class_names[module]))
            elif item == "input":
                found = replace(found, tap="input")
            elif item.startswith("router"):
                found = self._router(found, item)
            elif item == "output":
                found = replace(found, note=ADDS_RESIDUAL.get(self.class_names[module]))
            yield found

    def _mlp_modules(self, layer: Layer, index: int, item: str) -> tuple[tuple[str, ...], str]:
        if item.startswith("router"):
            return layer.routers, f"the MLP of layer {index} is dense: it has no experts to choose from"
        if item == "output" and layer.mlp_inputs and not layer.mlp_outputs:
            return (), f"layer {index} adds the outputs of several MLPs: ask for their modules"
        return layer.mlp_inputs if item == "input" else layer.mlp_outputs, f"layer {index} has no MLP"

    def _router(self, found: Supply, item: str) -> Supply:
        """Logits over the experts, the weights of the chosen ones, or the chosen ones themselves."""
        places = ROUTER_OUTPUTS.get(str(found.class_name), (0, 1, 2))
        pick = places[("router", "router.weights", "router.experts").index(item)]
        if pick is None:
            reason = f"{found.class_name} returns no such tensor"
            return replace(found, module=None, class_name=None, reason=reason)
        return replace(found, pick=pick)

    def _no_attention(self, index: int) -> str:
        having = [str(i) for i, layer in enumerate(self.layers) if layer.attentions]
        mixers = self.layers[index].mixers
        kind = f" ({self.class_names[mixers[0]]})" if mixers else ""
        if not having:
            return f"'{self.model_type}' has no attention: its layers mix tokens another way{kind}"
        have = "layer " + having[0] + " has" if len(having) == 1 else f"layers {', '.join(having)} have"
        return f"layer {index} has no attention{kind}; {have}"

    def _stream(self, stage: Stage, name: str, module: str) -> Supply:
        found = self._supply(stage, name, "input" if stage.part == "input" else "output", module)
        return replace(found, axes=RESIDUAL_AXES.get(self.model_type, stage.axes))

    def _supply(
        self, stage: Stage, name: str, tap: Tap, module: str | None, reason: str | None = None, note: str | None = None
    ) -> Supply:
        if module is None:
            return Supply(name, tap, axes=stage.axes, reason=reason)
        return Supply(name, tap, module, self.class_names[module], stage.axes, note=note)

    def _acts_next(self, module: str | None, meaning: str) -> str | None:
        return module and f"{module} ({self.class_names[module]}) acts next: {meaning}"


def locate(model: PreTrainedModel) -> Architecture:
    """Find the modules of a model, with or without weights."""
    tree = _Tree(model)
    embedding = model.get_input_embeddings()
    stacks = tree.stacks()
    layers = tuple(layer for stack in stacks for layer in tree.layers(stack))
    above = tree.above(stacks[-1]) if stacks else [""]
    position_embeddings = tree.positions(above)
    return Architecture(
        model_type=model.config.model_type,
        class_names=tree.class_names,
        token_embeddings=None if type(embedding).__name__ == "ModuleList" else tree.path_of(embedding),
        position_embeddings=position_embeddings,
        rotaries=tree.rotaries(),
        relative_biases=tuple(path for path in tree.modules if path.endswith("." + RELATIVE_BIAS)),
        position_tables=positions.has_tables(model.config),
        layers=layers,
        final_norm=next((norm for parent in above for norm in tree.children(parent, FINAL_NORMS)[:1]), None),
        input_projection=next(iter(tree.children(above[0], INPUT_PROJECTIONS)), None),
        output_projection=next(iter(tree.children(above[0], OUTPUT_PROJECTIONS)), None),
        loops=model.config.model_type in LOOPED,
        max_positions=_table_length(tree.modules[position_embeddings]) if position_embeddings else None,
    )


def rows_of_ids(model: PreTrainedModel) -> int:
    """How many rows of ids a model reads for one text."""
    return model.config.num_codebooks if model.config.model_type in CODEBOOK_READERS else 1


def settle(model: PreTrainedModel, length: int) -> None:
    """Put a model into the form that it takes for a text of that many tokens.

    BigBird swaps its attention modules for others in the first forward on a short text (modeling_big_bird.py); hooks on
    the old ones would never fire, so the swap comes first.
    """
    bird: Any = getattr(model, "bert", None)
    if model.config.model_type == "big_bird" and bird.attention_type == "block_sparse":
        blocks = 5 + 2 * model.config.num_random_blocks
        if length <= blocks * model.config.block_size:
            bird.set_attention_type("original_full")


class _Tree:
    """A model's modules by dotted path."""

    def __init__(self, model: nn.Module) -> None:
        self.modules: dict[str, nn.Module] = dict(model.named_modules())
        self.class_names = {path: type(module).__name__ for path, module in self.modules.items()}

    def path_of(self, module: nn.Module) -> str | None:
        """The path of a module; None for one that is not in the tree."""
        return next((path for path, each in self.modules.items() if each is module), None)

    def children(self, parent: str, names: tuple[str, ...]) -> list[str]:
        """The modules of these names, or relative paths, under a parent; in the order of the names."""
        paths = (f"{parent}.{name}" if parent else name for name in names)
        return [path for path in paths if path in self.modules]

    def above(self, stack: str) -> list[str]:
        """The modules that hold a stack of layers, innermost first."""
        paths = [stack]
        while paths[-1]:
            paths.append(paths[-1].rpartition(".")[0])
        return paths[1:]

    def stacks(self) -> list[str]:
        """The lists of layers that read the text's residual stream, in the order of definition."""
        return [
            path
            for path, name in self.class_names.items()
            if name == "ModuleList"
            and path.rpartition(".")[2] in LAYER_LISTS
            and not OTHER_STACKS.search(path)
            and not any(self.class_names[parent] == "ModuleList" for parent in self.above(path))
        ]

    def layers(self, stack: str) -> Iterator[Layer]:
        """The layers of a stack."""
        for index in range(len(list(self.modules[stack].children()))):
            path = f"{stack}.{index}"
            if stack.endswith("attentions"):
                yield self._xlm_layer(stack.rpartition(".")[0], index)
            else:
                yield self._layer(path)

    def _layer(self, path: str) -> Layer:
        attentions = self._attentions(path)
        mixers = [] if attentions and not self._has_both(path) else self._mixers(path, attentions)
        first, last = self._mlp(path)
        scopes = [path, *self._expanded(self.children(path, MLPS))]
        return Layer(
            first=path,
            last=path,
            attentions=tuple(attentions),
            attention_outputs=tuple(self._attention_output(path, attention) for attention in attentions),
            mixers=tuple(mixers),
            mlp_inputs=tuple(first),
            mlp_outputs=tuple(last),
            routers=tuple(dict.fromkeys(r for scope in scopes for r in self._routers(scope)))[:1],
        )

    def _xlm_layer(self, parent: str, index: int) -> Layer:
        """XLM's layers are no modules: their parts stand in lists of their own."""
        attention, mlp, last = (f"{parent}.{name}.{index}" for name in ("attentions", "ffns", "layer_norm2"))
        return Layer(attention, last, (attention,), (attention,), (), (mlp,), (mlp,))

    def _attentions(self, path: str) -> list[str]:
        for candidate in self.children(path, ATTENTIONS):
            found = [module for module in self._expanded([candidate]) if self._is_attention(module)]
            if found:
                return found
        return []

    def _is_attention(self, path: str) -> bool:
        name = self.class_names[path]
        return bool(ATTENTION_CLASS.search(name)) and not LINEAR_ATTENTION_CLASS.search(name)

    def _attention_output(self, path: str, attention: str) -> str:
        inside = self._output(attention)
        beside = OUTPUT_PROJECTION_BESIDE.get(attention.removeprefix(path + "."))
        return inside if beside is None or f"{path}.{beside}" not in self.modules else f"{path}.{beside}"

    def _output(self, path: str) -> str:
        """A module, or what inside it makes its output where it adds the residual stream itself."""
        inside = OUTPUT_INSIDE.get(self.class_names[path])
        return f"{path}.{inside}" if inside else path

    def _has_both(self, path: str) -> bool:
        """Whether a layer has a recurrent mixer beside its attention."""
        return bool(self.children(path, ("mamba", "mamba_decoder.mamba")))

    def _mixers(self, path: str, attentions: list[str]) -> list[str]:
        found = [module for module in self.children(path, MIXERS) if module not in attentions]
        return [module for module in found if not MLP_CLASS.search(self.class_names[module])][:1]

    def _mlp(self, path: str) -> tuple[list[str], list[str]]:
        """The modules that the MLP begins and ends with; no end where a sum of several is added."""
        for names in MLP_PAIRS:
            pair = self.children(path, names)
            if len(pair) == len(names):
                return pair[:1], pair[1:]
        for candidate in self.children(path, MLPS):
            if candidate.endswith(".mixer") and not MLP_CLASS.search(self.class_names[candidate]):
                continue
            found = self._expanded([candidate])
            summed = any(len(self.children(path, names)) == len(names) for names in SUMMED_MLPS)
            return found, [] if summed else [self._output(module) for module in found]
        return [], []

    def _routers(self, path: str) -> list[str]:
        return [path for path in self.children(path, ROUTERS) if not self.class_names[path].endswith("Dropout")]

    def _expanded(self, paths: list[str]) -> list[str]:
        """Lists of modules replaced by their items."""
        return [
            item
            for path in paths
            for item in (
                [f"{path}.{name}" for name, _ in self.modules[path].named_children()]
                if self.class_names[path] == "ModuleList"
                else [path]
            )
        ]

    def positions(self, above: list[str]) -> str | None:
        """The module whose output is added for the positions."""
        for parent in above:
            for scope in (parent, f"{parent}.embeddings" if parent else "embeddings"):
                found = self.children(scope, POSITION_EMBEDDINGS)
                if found:
                    return found[0]
        return None

    def rotaries(self) -> tuple[str, ...]:
        """The modules that make cos and sin tables."""
        found = [
            path
            for path, name in self.class_names.items()
            if name.endswith("RotaryEmbedding") and not OTHER_STACKS.search(path)
        ]
        outside = [path for path in found if not re.search(r"\.\d+\.", path)]
        return tuple(outside or found)


def _table_length(module: nn.Module) -> int | None:
    """Positions that a table has rows for. OPT's begins with two rows that no position uses: its offset."""
    rows = getattr(module, "num_embeddings", None)
    if rows is None:
        return None
    padding = getattr(module, "padding_idx", None)
    return int(rows - getattr(module, "offset", 0 if padding is None else padding + 1))
