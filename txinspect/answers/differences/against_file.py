"""A file's tensors in the place of the other side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from txinspect.answers.differences.comparison import Comparison
from txinspect.errors import InspectError, spelled
from txinspect.wording import some_of

if TYPE_CHECKING:
    from torch import Tensor


def compare(comparison: Comparison, theirs: Mapping[str, Tensor]) -> None:
    """Compare this side with the tensors in a file, by our names. Raises InspectError for a wrong pair, or none."""
    for name, tensor in theirs.items():
        comparison.compare_named(name, tensor)
    for pair in comparison.query.names:
        ours = pair.partition("=")[2]
        if ours not in comparison.this:
            raise InspectError(f"{pair}: no stage {ours!r} was compared; name it by {spelled('stages', (ours,))}")
        if ours not in comparison.apart:
            there, here = list(theirs[ours].shape), list(comparison.this[ours].shape)
            raise InspectError(f"{pair}: {there} in {comparison.query.against_file} and {here} here are no pair")
    if not comparison.apart:
        raise InspectError(
            f"{comparison.query.against_file} holds no stage that was compared, in its shape: it has "
            f"{some_of(list(theirs))}; name the stages by {spelled('stages')}, or others' names by "
            f"{spelled('names', ('theirs=ours',))}"
        )
