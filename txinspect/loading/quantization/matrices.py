"""The modules that multiply by a matrix of their own: what quantization is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def matrices(model: nn.Module) -> dict[str, str]:
    """The modules that multiply by a matrix of their own, which quantization is about, as paths with classes.

    Embeddings look rows up and convolutions slide: neither is what quantization is about.
    """
    from torch import nn

    other = (nn.Embedding, nn.modules.conv._ConvNd)
    return {
        path: type(module).__name__
        for path, module in model.named_modules()
        if not isinstance(module, other)
        and "Embedding" not in type(module).__name__
        and any(parameter.ndim >= 2 for parameter in module.parameters(recurse=False))
    }
