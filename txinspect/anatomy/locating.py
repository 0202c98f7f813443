"""Find the modules that play the parts, in any architecture.

Modules are found in the module tree by the names that families give them, never by trusting config numbers. For
what cannot be found, a sentence says why.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from txinspect.anatomy import positions
from txinspect.anatomy.architecture import Architecture, Layer, Output, Stack
from txinspect.anatomy.families import (
    ATTENTION_CLASS,
    ATTENTIONS,
    CALLED_DIRECTLY,
    CODEBOOK_READERS,
    CROSS_ATTENTIONS,
    EMBEDDINGS,
    FINAL_NORMS,
    FINAL_NORMS_OF,
    HEAD_TRANSFORMS,
    INPUT_PROJECTIONS,
    LAYER_LISTS,
    LINEAR_ATTENTION_CLASS,
    LOOPED,
    MIXERS,
    MLP_CLASS,
    MLP_PAIRS,
    MLPS,
    OTHER_STACKS,
    OUTPUT_INSIDE,
    OUTPUT_PROJECTION_BESIDE,
    OUTPUT_PROJECTIONS,
    POOLERS,
    POSITION_EMBEDDINGS,
    RELATIVE_BIASES,
    ROUTERS,
    SUMMED_MLPS,
    SWAPS_MODULES,
    TOKEN_TYPE_EMBEDDINGS,
    WORDS,
)
from txinspect.stage_names import DECODER, ENCODER

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel


NEXT_TOKEN = Output(("batch", "seq", "vocab"))
"""What a language model puts out."""


def locate(model: PreTrainedModel, output: Output = NEXT_TOKEN) -> Architecture:
    """Find which module plays which part in a model, with or without weights, that puts out this."""
    tree = _Tree(model)
    above = [path for path in tree.modules if path.count(".") < 2 and not tree.is_inside_layers(path)]
    return Architecture(
        model_type=model.config.model_type,
        class_names=tree.class_names,
        stacks=tuple(_stack(model, tree, prefix, root) for prefix, root in tree.roots(model).items()),
        pooler=next((each for path in above for each in tree.children(path, POOLERS)), None),
        head_transform=next((each for each in tree.children("", HEAD_TRANSFORMS)), None),
        output=output,
        loops=model.config.model_type in LOOPED,
    )


def _stack(model: PreTrainedModel, tree: _Tree, prefix: str, root: str) -> Stack:
    """Find the stack of layers in and below a module, with the modules around it."""
    holder: Any = tree.modules[root]
    embedding = holder.get_input_embeddings() if hasattr(holder, "get_input_embeddings") else holder.embed_tokens
    lists = tree.stacks(root)
    layers = tuple(layer for each in lists for layer in tree.layers(each, model.config, crossed=prefix == DECODER))
    above = (
        [path for path in tree.above(lists[-1]) if f"{path}.".startswith(f"{root}.") or not root] if lists else [root]
    )
    position_embeddings = tree.positions(above)
    norms = FINAL_NORMS_OF.get(model.config.model_type, FINAL_NORMS)
    return Stack(
        prefix=prefix,
        root=root,
        model_type=model.config.model_type,
        class_names=tree.class_names,
        token_embeddings=tree.words(embedding, above),
        token_type_embeddings=tree.beside(above, TOKEN_TYPE_EMBEDDINGS),
        embeddings=tree.embeddings(above, norms),
        position_embeddings=position_embeddings,
        rotaries=tree.rotaries(root),
        relative_biases=tuple(path for path in tree.inside(root) if path.rpartition(".")[2] in RELATIVE_BIASES),
        position_table=positions.table(model, holder),
        layers=layers,
        final_norm=next((norm for parent in above for norm in tree.children(parent, norms)[:1]), None),
        input_projection=next(iter(tree.children(above[0], INPUT_PROJECTIONS)), None),
        output_projection=next(iter(tree.children(above[0], OUTPUT_PROJECTIONS)), None),
        max_positions=_table_length(tree.modules[position_embeddings]) if position_embeddings else None,
    )


def rows_of_ids(model: PreTrainedModel) -> int:
    """How many rows of ids a model's modules read for one text."""
    return model.config.num_codebooks if model.config.model_type in CODEBOOK_READERS else 1


def settle(model: PreTrainedModel, length: int) -> None:
    """Put a model's modules into the form that they take for a text of that many tokens, before they are located.

    BigBird swaps its attention modules for others in the first forward on a short text (modeling_big_bird.py); hooks on
    the old ones would never fire, so the swap comes first.
    """
    if model.config.model_type not in SWAPS_MODULES:
        return
    bird: Any = next((module for module in model.modules() if hasattr(module, "set_attention_type")), None)
    if getattr(bird, "attention_type", None) == "block_sparse":
        blocks = 5 + 2 * model.config.num_random_blocks
        if length <= blocks * model.config.block_size:
            bird.set_attention_type("original_full")


class _Tree:
    """A model's modules by dotted path."""

    def __init__(self, model: nn.Module) -> None:
        self.modules: dict[str, nn.Module] = dict(model.named_modules())
        self.class_names = {path: type(module).__name__ for path, module in self.modules.items()}

    def path_of(self, module: nn.Module) -> str | None:
        """The dotted path of a module in the tree; None for one that is not in it, or is a list of others."""
        if type(module).__name__ == "ModuleList":
            return None
        return next((path for path, each in self.modules.items() if each is module), None)

    def children(self, parent: str, names: tuple[str, ...]) -> list[str]:
        """The modules of these names, or relative paths, under a parent module; in the order of the names."""
        paths = (f"{parent}.{name}" if parent else name for name in names)
        return [path for path in paths if path in self.modules]

    def above(self, stack: str) -> list[str]:
        """The modules in the tree that hold a stack of layers, innermost first."""
        paths = [stack]
        while paths[-1]:
            paths.append(paths[-1].rpartition(".")[0])
        return paths[1:]

    def roots(self, model: PreTrainedModel) -> dict[str, str]:
        """Find the module that holds each stack, by the prefix of its stages' names: encoder and decoder, or all."""
        if not getattr(model.config, "is_encoder_decoder", False):
            return {"": ""}
        encoder, decoder = self.path_of(model.get_encoder()), self.path_of(model.get_decoder())
        if not encoder or not decoder or encoder == decoder:
            return {"": ""}
        return {ENCODER: encoder, DECODER: decoder}

    def inside(self, root: str) -> list[str]:
        """The paths of the modules below one in the tree."""
        return [path for path in self.modules if not root or path.startswith(f"{root}.")]

    def is_inside_layers(self, path: str) -> bool:
        """Whether a module of the tree is in a list of modules."""
        return any(self.class_names[parent] == "ModuleList" for parent in self.above(path) if path)

    def stacks(self, root: str) -> list[str]:
        """Find the lists of layers that read the text's residual stream, in the order of definition."""
        return [
            path
            for path in self.inside(root)
            if self.class_names[path] == "ModuleList"
            and path.rpartition(".")[2] in LAYER_LISTS
            and not OTHER_STACKS.search(path.removeprefix(root))
            and not any(self.class_names[parent] == "ModuleList" for parent in self.above(path))
        ]

    def layers(self, stack: str, config: PretrainedConfig, *, crossed: bool) -> Iterator[Layer]:
        """Find the layers of a list, in the order of the pass; `crossed` ones attend to another text, too."""
        if stack.endswith("attentions"):
            yield from (self._xlm_layer(stack.rpartition(".")[0], index) for index in range(len(self._items(stack))))
            return
        order, runs = self._order(stack, config), Counter[str]()
        for path in order:
            runs[path] += 1
            layer = self._layer(path, crossed=crossed)
            yield layer if len(order) == len(set(order)) else replace(layer, run=runs[path])

    def _order(self, stack: str, config: PretrainedConfig) -> list[str]:
        """Find the layers of a list as they run: some lists hold lists, and some layers run several times."""
        items, name = self._items(stack), stack.rpartition(".")[2]
        if name == "albert_layer_groups":  # AlbertTransformer.forward of modeling_albert.py
            count = config.num_hidden_layers
            groups = [items[index * len(items) // count] for index in range(count)]
            return [layer for group in groups for layer in self._items(f"{group}.albert_layers")]
        if name == "self_attends":  # PerceiverEncoder.forward of modeling_perceiver.py
            return items * int(config.num_blocks)
        return self._expanded(items)

    def _items(self, stack: str) -> list[str]:
        return [f"{stack}.{name}" for name, _ in self.modules[stack].named_children()]

    def _layer(self, path: str, *, crossed: bool) -> Layer:
        attentions = self._attentions(path)
        mixers = [] if attentions and not self._has_both(path) else self._mixers(path, attentions)
        first, last = self._mlp(path)
        crosses = (
            [each for each in self.children(path, CROSS_ATTENTIONS) if self._is_attention(each)] if crossed else []
        )
        scopes = [path, *self._expanded(self.children(path, MLPS))]
        direct = self.class_names[path] in CALLED_DIRECTLY
        return Layer(
            first=attentions[0] if direct else path,
            last=f"{path}.output" if direct else path,
            attentions=tuple(attentions),
            attention_outputs=tuple(self._attention_output(path, attention) for attention in attentions),
            cross_attentions=tuple(crosses[:1]),
            cross_attention_outputs=tuple(self._attention_output(path, each) for each in crosses[:1]),
            mixers=tuple(mixers),
            mlp_inputs=tuple(first),
            mlp_outputs=tuple(last),
            routers=tuple(dict.fromkeys(r for scope in scopes for r in self._routers(scope)))[:1],
        )

    def _xlm_layer(self, parent: str, index: int) -> Layer:
        """Find the parts of XLM's layers, which are not modules: they stand in lists of their own."""
        attention, mlp, last = (f"{parent}.{name}.{index}" for name in ("attentions", "ffns", "layer_norm2"))
        return Layer(
            first=attention,
            last=last,
            attentions=(attention,),
            attention_outputs=(attention,),
            mlp_inputs=(mlp,),
            mlp_outputs=(mlp,),
        )

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
        """Find the module that makes a part's output: it, or one inside where it adds the residual stream itself."""
        inside = OUTPUT_INSIDE.get(self.class_names[path])
        return f"{path}.{inside}" if inside else path

    def _has_both(self, path: str) -> bool:
        """Whether a layer of the tree has a recurrent mixer beside its attention."""
        return bool(self.children(path, ("mamba", "mamba_decoder.mamba")))

    def _mixers(self, path: str, attentions: list[str]) -> list[str]:
        found = [module for module in self.children(path, MIXERS) if module not in attentions]
        return [module for module in found if not MLP_CLASS.search(self.class_names[module])][:1]

    def _mlp(self, path: str) -> tuple[list[str], list[str]]:
        """Find the modules that the MLP begins and ends with; no end where a sum of several is added."""
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
        """Paths of modules, with each ModuleList replaced by the modules in it."""
        return [
            item for path in paths for item in (self._items(path) if self.class_names[path] == "ModuleList" else [path])
        ]

    def words(self, embedding: nn.Module, above: list[str]) -> str | None:
        """Find the token embedding: a stack's own, where one that is shared among stacks never runs."""
        path = self.path_of(embedding)
        if path is None:
            return self.beside(above, ("input_preprocessor.embeddings",))
        return (path.rpartition(".")[2] == "shared" and self.beside(above, ("embed_tokens",))) or path

    def positions(self, above: list[str]) -> str | None:
        """Find the module whose output is added for the positions."""
        return self.beside(above, POSITION_EMBEDDINGS)

    def embeddings(self, above: list[str], norms: tuple[str, ...]) -> str | None:
        """Find the module that passes on the sum of all embeddings; none of the last `norms` does."""
        names = tuple(name for name in EMBEDDINGS if name not in norms)
        found = [each for parent in above for each in self.children(parent, names)]
        return next((each for each in found if "Norm" in self.class_names[each] or self.children(each, WORDS)), None)

    def beside(self, above: list[str], names: tuple[str, ...]) -> str | None:
        """Find the first module of some names that stands beside the layers, or among the embeddings there."""
        scopes = (scope for parent in above for scope in (parent, f"{parent}.embeddings" if parent else "embeddings"))
        return next((found for scope in scopes for found in self.children(scope, names)), None)

    def rotaries(self, root: str) -> tuple[str, ...]:
        """Find the modules that make rotary cos and sin tables."""
        found = [
            path
            for path in self.inside(root)
            if self.class_names[path].endswith("RotaryEmbedding") and not OTHER_STACKS.search(path.removeprefix(root))
        ]
        outside = [path for path in found if not re.search(r"\.\d+\.", path)]
        return tuple(outside or found)


def _table_length(module: nn.Module) -> int | None:
    """Positions that a located table has rows for. OPT's begins with two rows that no position uses: its offset."""
    rows = getattr(module, "num_embeddings", None)
    if rows is None:
        return None
    padding = getattr(module, "padding_idx", None)
    return int(rows - getattr(module, "offset", 0 if padding is None else padding + 1))
