"""What is quantized and what is not, as a record and as a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from txinspect.records import QuantizationRecord
from txinspect.wording import some_of

if TYPE_CHECKING:
    from torch import nn


def record(model: nn.Module, before: Mapping[str, str], method: str, *, dequantized: bool) -> QuantizationRecord:
    """The record of which modules that multiply by a matrix are quantized, with the classes that they had before."""
    modules = dict(model.named_modules())
    quantized = [path for path, name in before.items() if _is_quantized(modules.get(path), name)]
    return QuantizationRecord(
        method=method,
        quantized=len(quantized),
        modules=len(before),
        kept=_folded([path for path in before if path not in set(quantized)], apart_from=quantized),
        classes=sorted({type(modules[path]).__name__ for path in quantized if path in modules}),
        dequantized=dequantized,
    )


def _is_quantized(module: nn.Module | None, class_before: str) -> bool:
    """Whether a module is quantized: of another class now, or with other numbers than torch computes matrices with."""
    if module is None or type(module).__name__ != class_before:
        return True
    tensors = module.parameters(recurse=False)
    return any(tensor.ndim >= 2 and (not tensor.is_floating_point() or tensor.itemsize < 2) for tensor in tensors)


def sentence(found: QuantizationRecord) -> str:
    """What was quantized and what was not, as a sentence for a person."""
    if found.dequantized:
        return f"{found.method}: stored quantized, and dequantized while loading: there are no kernels for it here."
    what = f"{found.method}: {found.quantized} of {found.modules} weight matrices are quantized"
    if found.classes:
        what += f" ({', '.join(found.classes)})"
    return f"{what}; not {some_of(found.kept)}." if found.kept else f"{what}."


def _folded(paths: Iterable[str], apart_from: Iterable[str]) -> list[str]:
    """Paths of quantized modules with layer numbers folded into a star, where that names none of the other paths."""
    others = {_starred(path) for path in apart_from}
    return list(dict.fromkeys(path if _starred(path) in others else _starred(path) for path in paths))


def _starred(path: str) -> str:
    return re.sub(r"\.\d+(?=\.|$)", ".*", path)
