"""Find the modules that play the parts, in any architecture.

Modules are found in the module tree by the names that families give them, never by trusting config numbers. For
what cannot be found, a sentence says why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from txinspect.anatomy import positions
from txinspect.anatomy.architecture import Architecture, Layer
from txinspect.anatomy.families import (
    ATTENTION_CLASS,
    ATTENTIONS,
    CODEBOOK_READERS,
    FINAL_NORMS,
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
    POSITION_EMBEDDINGS,
    RELATIVE_BIASES,
    ROUTERS,
    SUMMED_MLPS,
    SWAPS_MODULES,
)

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


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
        relative_biases=tuple(path for path in tree.modules if path.rpartition(".")[2] in RELATIVE_BIASES),
        position_tables=positions.has_tables(model),
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
    if model.config.model_type in SWAPS_MODULES and bird.attention_type == "block_sparse":
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
        """XLM's layers are not modules: their parts stand in lists of their own."""
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
