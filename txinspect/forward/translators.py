"""A lens that was trained or measured: what is done to a layer's hidden states before the model's tail reads them.

A tuned lens (Belrose et al. 2023) adds A·h + b to the hidden states h that enter layer i, for each i, as the library
tuned-lens stores them: `i.weight`, `i.bias`. A Jacobian lens multiplies the output of layer l by J: `l.J`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from txinspect.errors import InspectError

if TYPE_CHECKING:
    from torch import Tensor

_NAME = re.compile(r"(?:.*\.)?(\d+)\.(weight|bias|A|b|J|jacobian)")


@dataclass(frozen=True)
class Translator:
    """What one row's hidden states, (…, hidden), become."""

    matrix: Tensor | None
    """(hidden, hidden)"""
    bias: Tensor | None
    added: bool
    """Whether it is added to them, or takes their place."""

    def __call__(self, hidden: Tensor) -> Tensor:
        """Translate a layer's hidden states for the model's tail, in float32 and back."""
        exact = hidden.float()
        made = exact @ self.matrix.to(exact).T if self.matrix is not None else exact * 0
        if self.bias is not None:
            made = made + self.bias.to(exact)
        return (exact + made if self.added else made).to(hidden.dtype)


def translators(path: Path, tensors: Mapping[str, Tensor], width: int, layers: int) -> dict[int, Translator]:
    """The translators in a lens file's tensors, by the layer whose output they read; -1 for what enters layer 0.

    Raises InspectError for a file that holds none, or was made for another model.
    """
    parts: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if match := _NAME.fullmatch(name):
            parts.setdefault(int(match[1]), {})[match[2]] = tensor
    if not parts:
        raise InspectError(
            f"{path} holds no lens: give a tuned lens, with tensors such as 0.weight and 0.bias, or a Jacobian lens, "
            f"with 0.J; it has {', '.join(list(tensors)[:3]) or 'no tensors'}"
        )
    if max(parts) >= layers:
        raise InspectError(f"{path} is a lens for {max(parts) + 1} layers or more, and the model has {layers}")
    found = {}
    for index, own in parts.items():
        matrix = own.get("weight", own.get("A", own.get("J", own.get("jacobian"))))
        bias = own.get("bias", own.get("b"))
        for each, shape in ((matrix, (width, width)), (bias, (width,))):
            if each is not None and tuple(each.shape) != shape:
                raise InspectError(
                    f"{path} is a lens for another width: its layer {index} has {list(each.shape)}, and the model "
                    f"needs {list(shape)}"
                )
            if each is not None and not each.is_floating_point():
                raise InspectError(
                    f"{path} is no lens, which is of real numbers: its layer {index} is of type "
                    f"{str(each.dtype).removeprefix('torch.')}"
                )
        multiplies = "J" in own or "jacobian" in own
        # A tuned lens counts by the layer that the hidden states enter.
        found[index if multiplies else index - 1] = Translator(matrix, bias, added=not multiplies)
    return found
