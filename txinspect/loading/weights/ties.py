"""Which tensors of a model are one: transformers decides it by what the checkpoint holds, and a skeleton has it so.

A config may tie tensors, each target to its source. Where a checkpoint holds one of the two, the other becomes it;
where it holds both, they are one if their numbers are the same (PreTrainedModel.tie_weights). Each pair is decided by
itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from txinspect.errors import SourceError
from txinspect.guards.patching import patched
from txinspect.loading.weights.destinations import places
from txinspect.sources.tensors import TensorReader

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from txinspect.sources.headers import StoredTensor
    from txinspect.sources.source import Source


class Ties:
    """How loading a source will tie its model, as far as that can be told from what is here."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._compared: dict[tuple[str, str], bool] = {}

    def tie(self, model: PreTrainedModel) -> None:
        """Tie a skeleton's tensors, each its own so far, as loading will; as the config says with no file here."""
        if not self._names:
            model.tie_weights(recompute_mapping=False)
            return
        found = places(model, self._names)
        stored = {place.tensors[0]: name for name, place in found.items() if not place.converted}
        missing = model.state_dict().keys() - {tensor for place in found.values() for tensor in place.tensors}
        tied: dict[str, str] = model.all_tied_weights_keys
        both = {target: origin for target, origin in tied.items() if not {target, origin} & missing}
        apart = {target for target, origin in both.items() if not self._is_same(stored.get(target), stored.get(origin))}
        # A skeleton has no numbers to compare: a target that equals its source is as good as missing.
        absent = missing | (both.keys() - apart)
        # Quantizers go by what the config ties, tied or not: it is told again afterwards.
        with patched(model, "all_tied_weights_keys", {each: tied[each] for each in tied if each not in apart}):
            model.tie_weights(missing_keys=absent, recompute_mapping=False)

    @cached_property
    def _names(self) -> list[str]:
        """The names of a checkpoint's tensors; none where they say nothing of ties, as in a .gguf file."""
        return [] if self._source.is_one_file else self._source.names_here()

    @cached_property
    def _here(self) -> dict[str, StoredTensor]:
        """The tensors of a checkpoint, by name, whose numbers are here to tell ties by."""
        try:
            return {each.name: each for each in self._source.stored_here()}
        except SourceError:  # whoever reads the weights says so
            return {}

    def _is_same(self, one: str | None, other: str | None) -> bool:
        """Whether two tensors of a checkpoint may be tied: they have the same numbers, or some are not here."""
        first, second = self._here.get(one or ""), self._here.get(other or "")
        if first is None or second is None:
            return True
        pair = (first.name, second.name)
        if pair not in self._compared:
            with TensorReader() as reader:
                self._compared[pair] = reader.is_equal(first, second)
        return self._compared[pair]


def lacking(model: PreTrainedModel, there: Iterable[str]) -> set[str]:
    """What transformers reports missing of tied tensors where a checkpoint has the tensors of these names.

    Of tensors that are one, one is enough, whichever it is; some a model is loaded without.
    """
    tensors = model.state_dict(keep_vars=True)
    held = {id(tensors[name]) for name in there if name in tensors}
    excused = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_missing or ()]
    missing = (name for name, tensor in tensors.items() if id(tensor) not in held)
    return {name for name in missing if not any(each.search(name) for each in excused)}
