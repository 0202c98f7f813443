"""Where transformers puts each tensor of a checkpoint in a model: its rules (conversion_mapping.py), and no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Destination(NamedTuple):
    """Where a tensor of a checkpoint goes."""

    module: str | None
    """The path of the module in the skeleton; None if there is none."""
    tensors: tuple[str, ...]
    """The tensors of the model that it becomes, or becomes a part of."""
    converted: bool
    """Whether it is split, merged with others or changed on the way."""


def places(model: PreTrainedModel, names: Sequence[str]) -> dict[str, Destination]:
    """The destination of each tensor of a checkpoint in a model by transformers' rules, by the tensor's name."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    mapping = get_model_conversion_mapping(model)
    renamings = [each for each in mapping if isinstance(each, WeightRenaming)]
    converters = [each for each in mapping if isinstance(each, WeightConverter)]
    modules, tensors = dict(model.named_modules()), model.state_dict()
    by_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
    owners = {full.rpartition(".")[0] for full in tensors}
    found = {}
    for name in names:
        renamed, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, tensors)
        if renamed not in tensors and name in tensors:
            renamed, pattern = name, None
        path = renamed.rpartition(".")[0]
        while path not in modules:
            path = path.rpartition(".")[0]
        becomes = [renamed]
        if pattern is not None:
            first, *others = by_pattern[pattern].target_patterns
            becomes += [renamed.replace(first, other) for other in others]
        found[name] = Destination(path if path in owners else None, tuple(becomes), pattern is not None)
    return found
