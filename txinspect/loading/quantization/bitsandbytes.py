"""8 and 4 bits while loading, with bitsandbytes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from txinspect.errors import InspectError, UsageError, first_line, spelled
from txinspect.globs import is_glob, matching
from txinspect.guards.quiet import quiet
from txinspect.loading.quantization.matrices import matrices
from txinspect.model_choice import ModelChoice
from txinspect.nearest import nearest
from txinspect.records import QuantizationRecord

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel


def config_for(choice: ModelChoice, model: PreTrainedModel) -> BitsAndBytesConfig | None:
    """The bitsandbytes config for transformers to quantize a model by while loading; None to load as stored.

    Raises InspectError if bitsandbytes does not work, the model has nothing to quantize, or cannot be run so.
    """
    if choice.quantization is None:
        return None
    _check_bitsandbytes(choice.quantization)
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_8bit=choice.quantization == "8bit",
        load_in_4bit=choice.quantization == "4bit",
        llm_int8_threshold=6.0 if choice.int8_threshold is None else choice.int8_threshold,
        bnb_4bit_quant_type=choice.four_bit_type or "nf4",
        bnb_4bit_use_double_quant=choice.double_quant,
        llm_int8_skip_modules=_skipped(choice, model),
    )


def check(found: QuantizationRecord, model: PreTrainedModel, choice: ModelChoice) -> None:
    """Raise InspectError if bitsandbytes quantized nothing of the model."""
    option = spelled("quantization", choice.quantization)
    if not found.quantized and choice.skip_modules:
        raise UsageError(
            f"{spelled('skip_modules', choice.skip_modules)} leaves nothing to quantize: omit it or {option}"
        )
    if not found.quantized:
        kinds = sorted(set(matrices(model).values()))
        raise InspectError(
            f"{option} can quantize nothing here: bitsandbytes replaces Linear and Conv1D modules, and this model's "
            f"matrices are in {', '.join(kinds) or 'none'}: "
            f"omit {option}, or use {spelled('dtype', 'bfloat16')} to save memory"
        )


def check_widths(model: PreTrainedModel, choice: ModelChoice, uses: Mapping[str, bool]) -> None:
    """Raise InspectError for modules in use whose widths bitsandbytes cannot run in 4 bits on the CPU.

    Its blocks are of 64 inputs; where the processor multiplies in bfloat16, it packs 32 outputs together.
    """
    for path, module in model.named_modules():
        if type(module).__name__ != "Linear4bit" or not uses[path]:
            continue
        packed = getattr(module, "support_avx512bf16_for_cpu", False)
        for side, width, multiple in (("input", module.in_features, 64), ("output", module.out_features, 32)):
            if width % multiple and (side == "input" or packed):
                skip = spelled("skip_modules", (path.rpartition(".")[2],))
                other = f"{spelled('quantization', '8bit')}, {skip} or " if choice.quantization else ""
                raise InspectError(
                    f"4 bits on the CPU need linear layers whose {side} width is a multiple of {multiple}, and {path} "
                    f"has {width}: use {other}a GPU"
                )


def _check_bitsandbytes(quantization: str) -> None:
    """Raise InspectError, with the reason, where bitsandbytes cannot work."""
    try:
        with quiet(), _uncompiled():
            import bitsandbytes  # noqa: F401 - fails where its compiled part cannot be loaded
            from transformers.integrations.bitsandbytes import validate_bnb_backend_availability

            validate_bnb_backend_availability(raise_exception=True)
    except Exception as error:
        raise InspectError(
            f"{spelled('quantization', quantization)} does not work here: bitsandbytes says {first_line(error)!r}; "
            f"omit it, or use {spelled('dtype', 'bfloat16')} to save memory"
        ) from error


@contextmanager
def _uncompiled() -> Iterator[None]:
    """While open, torch.compile changes nothing, so that importing bitsandbytes takes no longer than it must.

    bitsandbytes wraps functions of its optimizers and of devices it has no kernels for in it when it is imported, which
    takes a second to import torch's compiler; one pass never gains that back.
    """
    before = os.environ.get("TORCHDYNAMO_DISABLE")
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TORCHDYNAMO_DISABLE"]
        else:
            os.environ["TORCHDYNAMO_DISABLE"] = before


def _skipped(choice: ModelChoice, model: PreTrainedModel) -> list[str] | None:
    """The modules that bitsandbytes does not quantize, as patterns of one path each: the user's, and others always."""
    if not choice.skip_modules:
        return None
    from transformers.quantizers.base import HfQuantizer

    candidates = list(matrices(model))
    chosen: list[str] = []
    for name in choice.skip_modules:
        found = _named(name, candidates)
        if not found:
            ends = [path.rpartition(".")[2] for path in candidates]
            near = nearest(name, list(dict.fromkeys([*ends, *candidates])))
            hint = f"did you mean {' or '.join(near)}?" if near else "'txinspect tree' lists them"
            raise UsageError(f"{spelled('skip_modules')} {name!r} names no module with a weight matrix: {hint}")
        chosen += found
    always = HfQuantizer.get_modules_to_not_convert(model, None, list(model._keep_in_fp32_modules or ()))
    # transformers reads each as the beginning of a path, as a pattern or as an end.
    return [*always, *(f"{re.escape(path)}$" for path in dict.fromkeys(chosen))]


def _named(name: str, paths: Iterable[str]) -> list[str]:
    """The paths of modules not to quantize that a glob, a path, a block's path or the last parts of a path pick."""
    if is_glob(name):
        return matching(name, paths)
    return [path for path in paths if path == name or path.startswith(f"{name}.") or path.endswith(f".{name}")]
