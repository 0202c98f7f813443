"""Which module plays which part, and so which stages a model has: plain values, without modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from txinspect.anatomy import positions
from txinspect.anatomy.families import (
    ADDS_RESIDUAL,
    COMPLEX_ROTARY,
    CONTAINERS,
    FINAL_NORMS,
    NO_POSITIONS,
    NO_SOFTMAX,
    POSITION_EMBEDDINGS,
    POSITION_SCORES,
    POSITIONS_IN_ATTENTION,
    RESIDUAL_AXES,
    ROTATED_SINUSOIDS,
    ROUTER_OUTPUTS,
    SINE_FIRST,
)
from txinspect.stages import POSITION_PARTS, STAGES, Stage

Tap = Literal["input", "output", "attention", "table", "logits"]
"""How a tensor is read: a module's input or output, inside its attention, a table of positions, the model's output."""


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
    run: int | None = None
    """Which run of the module in a pass it is; None for every one."""
    stack: str = ""
    """The prefix of the stack that it is in: its text is the encoder's or the decoder's."""
    layer: int | None = None
    """The layer that it is in; None for one outside of the layers."""
    within: str = ""
    """Its name within its layer, such as attention.q; of one outside of the layers, its name without the stack."""

    def __post_init__(self) -> None:
        """A supply's name within its layer is its whole name, where nothing else is said."""
        object.__setattr__(self, "within", self.within or self.name)

    @property
    def available(self) -> bool:
        """Whether the model's architecture has the stage that this supplies."""
        return self.reason is None

    @property
    def part(self) -> str:
        """The last part of the supplied stage's name: q, weights, input, …"""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True)
class Layer:
    """The modules of one layer, as dotted paths. A part may be several modules that run one after another."""

    first: str
    """What reads the residual stream before the layer: the layer itself, except for layers that are not modules."""
    last: str
    """What passes the residual stream on."""
    attentions: tuple[str, ...] = ()
    attention_outputs: tuple[str, ...] = ()
    cross_attentions: tuple[str, ...] = ()
    cross_attention_outputs: tuple[str, ...] = ()
    mixers: tuple[str, ...] = ()
    mlp_inputs: tuple[str, ...] = ()
    mlp_outputs: tuple[str, ...] = ()
    routers: tuple[str, ...] = ()
    run: int | None = None
    """Which run of these modules it is, where the same ones are several layers."""


@dataclass(frozen=True)
class Output:
    """What a model puts out."""

    axes: tuple[str, ...] | None
    """Of its logits."""
    reason: str | None = None
    """Why it has none; None if it has."""


@dataclass(frozen=True)
class Stack:
    """A stack of layers and what stands around it, as dotted paths; None if there is none."""

    prefix: str
    """What its stages' names begin with: "encoder." or "decoder." where a model has both, else nothing."""
    root: str
    """The module that holds it; the empty path for the model itself."""
    model_type: str
    class_names: Mapping[str, str]
    """Of all modules of the model."""
    token_embeddings: str | None
    token_type_embeddings: str | None
    embeddings: str | None
    """What passes on the sum of all embeddings, after its norm."""
    position_embeddings: str | None
    rotaries: tuple[str, ...]
    relative_biases: tuple[str, ...]
    position_table: positions.Table | None
    """What no module's output holds of them."""
    layers: tuple[Layer, ...]
    final_norm: str | None
    input_projection: str | None
    output_projection: str | None
    max_positions: int | None
    """Rows of the table of positions: the longest text; None if there is no such limit."""

    def supplies(self) -> Iterator[Supply]:
        """Every stage of the stack, in the order of the pass, with what supplies it or why nothing does."""
        per_layer = [stage for stage in STAGES if stage.per_layer]
        for stage in STAGES:
            if stage is per_layer[0]:
                for index in range(len(self.layers)):
                    for each in per_layer:
                        for found in self._inside(each, index):
                            yield self._placed(found, index, each.part)
            elif not stage.per_layer and not stage.of_head:
                yield from map(self._placed, self._outside(stage))

    def first_layer(self) -> str | None:
        """The first module of a stack's first layer, which runs once the positions are there."""
        return self.layers[0].first if self.layers else None

    def _placed(self, supply: Supply, layer: int | None = None, within: str = "") -> Supply:
        run = None if layer is None else self.layers[layer].run
        name = self.prefix + supply.name
        return replace(supply, name=name, stack=self.prefix, run=run, layer=layer, within=within or supply.name)

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
            reason = f"no norm follows the last layer (looked for {', '.join(FINAL_NORMS[:6])}, …)"
            yield self._supply(stage, name, "output", self.final_norm, reason, note)
        elif name == "token_type_embeddings":
            reason = f"'{self.model_type}' has no embeddings of segments: looked for token_type_embeddings"
            yield self._supply(stage, name, "output", self.token_type_embeddings, reason)
        else:
            reason = "no module passes on the sum of the embeddings: the first layer's input is it"
            yield self._supply(stage, name, "output", self.embeddings, reason)

    def _positions(self, stage: Stage) -> Iterator[Supply]:
        """The supplies of a stack's positions: embeddings that are added, biases, tables, or rotary cos and sin."""
        name = stage.template
        if self.position_table is not None:
            for end, axes in self.position_table.axes.items():
                full = f"{name}.{end}" if end else name
                yield Supply(full, "table", self.root, self.class_names[self.root], axes, note=self.position_table.note)
        if self.position_embeddings is not None:
            found = self._supply(stage, name, "output", self.position_embeddings)
            if self.position_embeddings.endswith("bias"):
                found = replace(found, axes=("batch", "head", "query", "key"))
            if self.model_type in ROTATED_SINUSOIDS:
                note = "rotary: these sines and cosines rotate q and k, nothing is added to the embeddings"
                found = replace(found, axes=positions.ROTARY_AXES, note=note)
            yield found
        elif self.position_table is not None:
            return
        elif self.relative_biases:
            for path in self.relative_biases:
                note = "a bias on the scores, made from the query and its distance to the key, anew in each layer"
                found = self._supply(stage, name, "output", path, None, note)
                yield replace(found, axes=("batch", "head", "query", "key"))
        elif self.rotaries:
            yield from self._rotary(stage, name)
        else:
            recurrent = any(layer.mixers for layer in self.layers)
            looked = f"looked for {', '.join(POSITION_EMBEDDINGS)}"
            why = POSITIONS_IN_ATTENTION.get(self.model_type, NO_POSITIONS if recurrent else looked)
            yield self._supply(stage, name, "output", None, why)

    def _rotary(self, stage: Stage, name: str) -> Iterator[Supply]:
        note = "rotary: cos and sin act on q and k inside attention, nothing is added to the embeddings"
        for path in self.rotaries:
            if self.class_names[path] in COMPLEX_ROTARY:
                yield replace(self._supply(stage, name, "output", path, None, note), axes=positions.ROTARY_AXES)
                continue
            tables = ("sin", "cos") if self.class_names[path] in SINE_FIRST else ("cos", "sin")
            for pick, table in sorted(enumerate(tables), key=lambda pair: pair[1]):
                found = self._supply(stage, f"{name}.{table}", "output", path, None, note)
                yield replace(found, axes=positions.ROTARY_AXES, pick=pick)

    def _inside(self, stage: Stage, index: int) -> Iterator[Supply]:
        """The supplies of a stage inside a layer: one for each module that supplies it, or one with the reason."""
        layer, name, part = self.layers[index], stage.name(index), stage.part
        if part in ("input", "output"):
            yield self._stream(stage, name, layer.first if part == "input" else layer.last)
            return
        group, _, item = part.partition(".")
        modules, reason = {
            "attention": (layer.attention_outputs if item == "output" else layer.attentions, self._no_attention(index)),
            "cross_attention": (
                layer.cross_attention_outputs if item == "output" else layer.cross_attentions,
                f"layer {index} does not attend to another text",
            ),
            "mixer": (layer.mixers, f"layer {index} has no recurrent or convolutional mixer"),
            "mlp": self._mlp_modules(layer, index, item),
        }[group]
        if not modules:
            yield self._supply(stage, name, "output", None, reason)
        for module in modules:
            found = self._supply(stage, name, "output", module, None)
            if item in POSITION_PARTS:
                found = self._position_scores(found)
            elif group.endswith("attention") and item not in ("input", "output"):
                found = replace(found, tap="attention", reason=NO_SOFTMAX.get(self.class_names[module]))
            elif item == "input":
                found = replace(found, tap="input")
            elif item.startswith("router"):
                found = self._router(found, item)
            elif item == "output":
                found = replace(found, note=ADDS_RESIDUAL.get(self.class_names[module]))
            yield found

    def _position_scores(self, found: Supply) -> Supply:
        """The supply of a part of the attention scores that is there for positions; or why there is none."""
        known = found.class_name in POSITION_SCORES
        return replace(found, tap="attention", reason=None if known else "its scores are of contents alone")

    def _mlp_modules(self, layer: Layer, index: int, item: str) -> tuple[tuple[str, ...], str]:
        if item.startswith("router"):
            return layer.routers, f"the MLP of layer {index} is dense: it has no experts to choose from"
        if item == "output" and layer.mlp_inputs and not layer.mlp_outputs:
            return (), f"layer {index} adds the outputs of several MLPs: ask for their modules"
        return layer.mlp_inputs if item == "input" else layer.mlp_outputs, f"layer {index} has no MLP"

    def _router(self, found: Supply, item: str) -> Supply:
        """The supply of an MLP router's stage: logits over experts, weights of the chosen ones, or their ids."""
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


@dataclass(frozen=True)
class Architecture:
    """The modules of a model: its stacks, and what makes its output of the last one's."""

    model_type: str
    class_names: Mapping[str, str]
    stacks: tuple[Stack, ...]
    """One, or the encoder and then the decoder."""
    pooler: str | None
    head_transform: str | None
    output: Output
    loops: bool
    """Whether a stage's module runs several times in a pass."""

    @property
    def main(self) -> Stack:
        """The stack of layers that the model's output is made of: the decoder, or the only one."""
        return self.stacks[-1]

    @property
    def max_positions(self) -> int | None:
        """The longest text of an architecture; None if there is no such limit. A decoder's may have another one."""
        return self.stacks[0].max_positions

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of an architecture's main stack."""
        return self.main.layers

    @property
    def all_layers(self) -> tuple[Layer, ...]:
        """The layers of all of an architecture's stacks."""
        return tuple(layer for stack in self.stacks for layer in stack.layers)

    def numbered_layers(self) -> Iterator[tuple[str, int, Layer]]:
        """The layers of all of an architecture's stacks: each with its stack's prefix, and its number in there."""
        return ((stack.prefix, index, layer) for stack in self.stacks for index, layer in enumerate(stack.layers))

    def stack(self, prefix: str) -> Stack:
        """The stack of an architecture whose stages' names begin with a prefix."""
        return next(stack for stack in self.stacks if stack.prefix == prefix)

    def supplies(self) -> list[Supply]:
        """Every stage of an architecture, in the order of the pass, with what supplies it or why nothing does."""
        return list(self._supplies)

    @cached_property
    def _supplies(self) -> tuple[Supply, ...]:
        inside = (supply for stack in self.stacks for supply in stack.supplies())
        return (*inside, *(self._of_head(stage) for stage in STAGES if stage.of_head))

    def module_supplies(self) -> list[Supply]:
        """Every module of an architecture as a stage: its output, under its dotted path, which is no stage's name."""
        taken = {supply.name for supply in self.supplies()}
        return [
            Supply(path, "output", path, name, reason=CONTAINERS.get(name), stack=self._stack_of(path))
            for path, name in self.class_names.items()
            if path and path not in taken
        ]

    def _stack_of(self, path: str) -> str:
        """The prefix of the architecture's stack that a module is in; nothing where it is in none of two."""
        return next((each.prefix for each in self.stacks if f"{path}.".startswith(f"{each.root}.")), "")

    def _of_head(self, stage: Stage) -> Supply:
        """The supply of a stage after the last hidden states: logits, the pooler's or the head's transform."""
        name = stage.template
        if name != "logits":
            module = self.pooler if name == "pooler.output" else self.head_transform
            reason = "no module pools the tokens" if name == "pooler.output" else "nothing transforms before the head"
            class_name = module and self.class_names[module]
            found = Supply(name, "output", module, class_name, stage.axes, stack=self.main.prefix)
            return found if module else replace(found, reason=reason)
        if self.output.reason:
            return Supply(name, "logits", reason=self.output.reason)
        projection = None if self.main.final_norm else self.main.output_projection
        note = projection and f"{projection} ({self.class_names[projection]}) acts before the head"
        return Supply(name, "logits", "", self.class_names[""], self.output.axes, note=note, stack=self.main.prefix)
