"""Which module plays which part, in any architecture: the one room that knows modules' names.

Modules are found in the module tree by the names that families give them, never by trusting config numbers. What
cannot be found is a sentence that lists what was looked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from txinspect.stages import ATTENTION_PARTS, BY_PART, STAGES

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

LAYER_LISTS = ("layers", "h", "blocks", "layer")
ATTENTIONS = ("self_attn", "attention", "attn", "self_attention")
MLPS = ("mlp", "feed_forward", "ffn")
MLP_PAIRS = (("fc1", "fc2"),)
"""Layers without an MLP module: the first and the last of the linear layers that make it."""
POSITION_EMBEDDINGS = ("embed_positions", "position_embeddings", "wpe")
FINAL_NORMS = ("final_layer_norm", "norm", "final_layernorm", "ln_f", "norm_f")
INPUT_PROJECTIONS = ("project_in",)
OUTPUT_PROJECTIONS = ("project_out",)

_CONTAINERS = {
    "ModuleList": "it is a list of modules, which never runs itself: ask for one of them",
    "ModuleDict": "it is a dictionary of modules, which never runs itself: ask for one of them",
}

Tap = Literal["input", "output", "attention", "logits"]
"""How a tensor is had: a module's input or output, inside its attention, or from the model's output."""


@dataclass(frozen=True)
class Supply:
    """Where a stage's tensor comes from in one model, or why it has none."""

    name: str
    tap: Tap
    module: str | None = None
    class_name: str | None = None
    axes: tuple[str, ...] | None = None
    reason: str | None = None
    note: str | None = None

    @property
    def available(self) -> bool:
        """Whether the model has the stage."""
        return self.reason is None

    @property
    def part(self) -> str:
        """The name within its layer or attention module: q, weights, input, …"""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True)
class Layer:
    """The modules of one layer, as dotted paths; None where there is none."""

    path: str
    attention: str | None
    mlp_first: str | None
    mlp_last: str | None


@dataclass(frozen=True)
class Architecture:
    """The modules of a model, as dotted paths; None where there is none."""

    model_type: str
    class_names: dict[str, str]
    token_embeddings: str | None
    position_embeddings: str | None
    layers: tuple[Layer, ...]
    final_norm: str | None
    input_projection: str | None
    output_projection: str | None
    max_positions: int | None
    """Rows of the table of positions: the longest text; None where there is no such limit."""

    def supplies(self) -> list[Supply]:
        """Every stage, in the order of the pass, with what supplies it or why nothing does."""
        before = [stage.name() for stage in STAGES[:2]]
        after = [stage.name() for stage in STAGES[-2:]]
        outside = {name: supply for name in before + after for supply in (self._outside(name),)}
        inside = [supply for index in range(len(self.layers)) for supply in self._inside(index)]
        return [outside[n] for n in before] + inside + [outside[n] for n in after]

    def module_supplies(self) -> list[Supply]:
        """Every module as a stage: its output, under its dotted path."""
        return [
            Supply(path, "output", path, name, reason=_CONTAINERS.get(name))
            for path, name in self.class_names.items()
            if path
        ]

    def _outside(self, name: str) -> Supply:
        if name == "token_embeddings":
            note = self._note(self.input_projection, "the embeddings pass through it before positions are added")
            reason = "no embedding module takes the token ids" if self.token_embeddings is None else None
            return self._supply(name, "output", self.token_embeddings, reason, note)
        if name == "position_embeddings":
            looked = ", ".join(POSITION_EMBEDDINGS)
            reason = f"'{self.model_type}' has no position embedding module (looked for {looked})"
            return self._supply(name, "output", self.position_embeddings, reason)
        if name == "final_norm":
            note = self._note(self.output_projection, "the norm's output passes through it before the head")
            reason = f"nothing norms the stream after the last layer (looked for {', '.join(FINAL_NORMS)})"
            return self._supply(name, "output", self.final_norm, reason, note)
        return Supply(name, "logits", "", self.class_names[""], BY_PART[name].axes)

    def _inside(self, index: int) -> Iterator[Supply]:
        layer = self.layers[index]
        prefix = f"layers.{index}."
        no_attention = f"layer {index} has no attention module (looked for {', '.join(ATTENTIONS)})"
        no_mlp = f"layer {index} has no MLP module (looked for {', '.join(MLPS)})"
        yield self._supply(prefix + "input", "input", layer.path)
        for part in ATTENTION_PARTS:
            tap: Tap = "input" if part == "input" else "output" if part == "output" else "attention"
            yield self._supply(f"{prefix}attention.{part}", tap, layer.attention, no_attention)
        yield self._supply(prefix + "mlp.input", "input", layer.mlp_first, no_mlp)
        yield self._supply(prefix + "mlp.output", "output", layer.mlp_last, no_mlp)
        yield self._supply(prefix + "output", "output", layer.path)

    def _supply(
        self, name: str, tap: Tap, module: str | None, reason: str | None = None, note: str | None = None
    ) -> Supply:
        axes = BY_PART[name.split(".", 2)[2] if name.startswith("layers.") else name].axes
        if module is None:
            return Supply(name, tap, axes=axes, reason=reason)
        return Supply(name, tap, module, self.class_names[module], axes, note=note)

    def _note(self, module: str | None, meaning: str) -> str | None:
        return module and f"{module} ({self.class_names[module]}) acts next: {meaning}"


def locate(model: PreTrainedModel) -> Architecture:
    """Find the modules of a model, with or without weights."""
    modules = dict(model.named_modules())
    class_names = {path: type(module).__name__ for path, module in modules.items()}
    embedding = model.get_input_embeddings()
    stack_path, layers = _layer_list(modules)
    position_embeddings = _child(modules, stack_path, POSITION_EMBEDDINGS)
    return Architecture(
        model_type=model.config.model_type,
        class_names=class_names,
        token_embeddings=next((path for path, module in modules.items() if module is embedding), None),
        position_embeddings=position_embeddings,
        layers=layers,
        final_norm=_child(modules, stack_path, FINAL_NORMS),
        input_projection=_child(modules, stack_path, INPUT_PROJECTIONS),
        output_projection=_child(modules, stack_path, OUTPUT_PROJECTIONS),
        max_positions=_table_length(modules[position_embeddings]) if position_embeddings else None,
    )


def _layer_list(modules: dict[str, nn.Module]) -> tuple[str, tuple[Layer, ...]]:
    """The path of the module that holds the stack of layers, and the layers."""
    for path, module in modules.items():
        parent, _, name = path.rpartition(".")
        if name in LAYER_LISTS and type(module).__name__ == "ModuleList":
            return parent, tuple(_layer(modules, f"{path}.{index}") for index in range(len(list(module.children()))))
    return "", ()


def _layer(modules: dict[str, nn.Module], path: str) -> Layer:
    mlp = _child(modules, path, MLPS)
    pair = next((pair for pair in MLP_PAIRS if f"{path}.{pair[0]}" in modules), None)
    return Layer(
        path=path,
        attention=_child(modules, path, ATTENTIONS),
        mlp_first=f"{path}.{pair[0]}" if pair and mlp is None else mlp,
        mlp_last=f"{path}.{pair[1]}" if pair and mlp is None else mlp,
    )


def _table_length(module: nn.Module) -> int | None:
    """Positions that a table has rows for. OPT's begins with two rows that no position uses: its offset."""
    rows = getattr(module, "num_embeddings", None)
    return None if rows is None else rows - getattr(module, "offset", 0)


def _child(modules: dict[str, nn.Module], parent: str, names: tuple[str, ...]) -> str | None:
    """The first of the names that the parent has a module under."""
    paths = (f"{parent}.{name}" if parent else name for name in names)
    return next((path for path in paths if path in modules), None)
