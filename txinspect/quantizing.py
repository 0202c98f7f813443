"""Quantization: what --8bit and --4bit make of a model's linear layers, and checkpoints that are stored quantized."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from txinspect.errors import InspectError, SourceError, UsageError, first_line
from txinspect.loading import as_source_error, quiet
from txinspect.queries import ModelChoice
from txinspect.records import QuantizationRecord
from txinspect.source import Source
from txinspect.stages import is_glob, matching, nearest
from txinspect.wording import some_of

if TYPE_CHECKING:
    from torch import nn
    from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel

PACKAGES = {
    "aqlm": ("aqlm",),
    "auto-round": ("auto_round",),
    "awq": ("gptqmodel",),
    "bitsandbytes": ("bitsandbytes",),
    "compressed-tensors": ("compressed_tensors",),
    "eetq": ("kernels",),
    "gptq": ("optimum", "gptqmodel"),
    "hqq": ("hqq",),
    "quanto": ("optimum.quanto",),
    "quark": ("quark",),
    "spqr": ("spqr_quant",),
    "torchao": ("torchao",),
    "vptq": ("vptq",),
}
"""What transformers runs a stored quantization with (transformers/quantizers), by its quant_method."""

ALONE = (None, "bitsandbytes", "fp8", "mxfp4", "mxfp8")
"""Stored quantizations whose modules work each by itself; the packages of others work on the whole model at once."""

_DISTRIBUTIONS = {"optimum.quanto": "optimum-quanto", "quark": "amd-quark"}
"""Packages that are installed under another name."""


def config_for(choice: ModelChoice, model: PreTrainedModel) -> BitsAndBytesConfig | None:
    """What makes transformers quantize while loading, for a model as it is built; None to load as stored.

    Raises InspectError where bitsandbytes does not work, the model has nothing to quantize, or cannot be run so.
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


def quantize(
    model: PreTrainedModel,
    choice: ModelChoice,
    source: Source,
    config: PretrainedConfig,
    asked: BitsAndBytesConfig | None,
) -> QuantizationRecord | None:
    """Replace a skeleton's modules by the classes that loading makes of them, and say which; None where it makes none.

    The skeleton is not yet tied: transformers chooses before it ties. Raises InspectError where a quantization that is
    asked for cannot be had, or a stored one cannot be read.
    """
    from transformers.modeling_utils import local_torch_dtype
    from transformers.quantizers.auto import AutoHfQuantizer

    method = choice.quantization or stored_method(config)
    if method is None:
        return None
    before = matrices(model)
    wanted = asked or deepcopy(_stored(config))
    failed = f"{source.name!r} is stored quantized with {method}, which cannot be read here"
    with quiet(), as_source_error(failed), local_torch_dtype(model.dtype):
        quantizer = AutoHfQuantizer.from_config(wanted, pre_quantized=choice.quantization is None)
        # Some packages read it there, where from_pretrained puts it before it builds the model.
        model.config.quantization_config = quantizer.quantization_config
        quantizer.validate_environment(device_map={"": "cpu"})
        quantizer.preprocess_model(model=model, dtype=model.dtype, device_map={"": "cpu"}, checkpoint_files=None)
    found = record(model, before, method, dequantized=bool(getattr(quantizer.quantization_config, "dequantize", False)))
    if choice.quantization:
        check(found, model, choice)
    return found


def matrices(model: nn.Module) -> dict[str, str]:
    """The modules that multiply by a matrix of their own, as paths with their classes.

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


def record(model: nn.Module, before: Mapping[str, str], method: str, *, dequantized: bool) -> QuantizationRecord:
    """Which of the modules that multiply by a matrix are quantized, with the classes that they had before."""
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
    """Whether a module is of another class now, or holds other numbers than torch computes matrices with."""
    if module is None or type(module).__name__ != class_before:
        return True
    tensors = module.parameters(recurse=False)
    return any(tensor.ndim >= 2 and (not tensor.is_floating_point() or tensor.itemsize < 2) for tensor in tensors)


def sentence(found: QuantizationRecord) -> str:
    """What was quantized and what was not, for a person."""
    if found.dequantized:
        return f"{found.method}: stored quantized, and dequantized while loading: there are no kernels for it here."
    what = f"{found.method}: {found.quantized} of {found.modules} weight matrices are quantized"
    if found.classes:
        what += f" ({', '.join(found.classes)})"
    return f"{what}; not {some_of(found.kept)}." if found.kept else f"{what}."


def check(found: QuantizationRecord, model: PreTrainedModel, choice: ModelChoice) -> None:
    """Raise InspectError where nothing was quantized, or where what was cannot be run."""
    option = f"--{choice.quantization}"
    if not found.quantized:
        kinds = sorted(set(matrices(model).values()))
        raise InspectError(
            f"{option} can quantize nothing here: bitsandbytes replaces Linear and Conv1D modules, and this model's "
            f"matrices are in {', '.join(kinds) or 'none'}{' or kept' if choice.skip_modules else ''}: "
            f"leave {option} away, or use --dtype bfloat16 to save memory"
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
                other = f"--8bit, --skip-module {path.rpartition('.')[2]} or " if choice.quantization else ""
                raise InspectError(
                    f"4 bits on the CPU need linear layers whose {side} width is a multiple of {multiple}, and {path} "
                    f"has {width}: use {other}a GPU"
                )


def stored_method(config: PretrainedConfig) -> str | None:
    """How a checkpoint is stored quantized, such as gptq; None where it is not."""
    stored = _stored(config)
    method = stored.get("quant_method") if isinstance(stored, dict) else getattr(stored, "quant_method", None)
    return None if method is None else str(getattr(method, "value", method))


def _stored(config: PretrainedConfig) -> Any:
    """What config.json says of how the checkpoint is quantized."""
    found = getattr(config, "quantization_config", None)
    return found or getattr(config.get_text_config(decoder=True), "quantization_config", None)


def check_stored(source: Source, config: PretrainedConfig, choice: ModelChoice) -> None:
    """Raise SourceError for a stored quantization that cannot be read here, UsageError for quantizing it once more."""
    if source.gguf_file and choice.quantization:
        raise UsageError(
            f"--{choice.quantization} quantizes, and transformers loads the blocks of a .gguf file in its own way: "
            f"leave --{choice.quantization} away"
        )
    method = stored_method(config)
    if method is None:
        return
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    if not any(name.startswith(method) for name in AUTO_QUANTIZER_MAPPING):
        raise SourceError(
            f"{source.name!r} is quantized with {method!r}, which transformers does not know: "
            f"it knows {', '.join(sorted(AUTO_QUANTIZER_MAPPING))}"
        )
    if choice.quantization:
        raise UsageError(
            f"--{choice.quantization} quantizes, and {source.name!r} is stored quantized with {method} already: "
            f"leave --{choice.quantization} away to load it as it is"
        )
    missing = [package for package in PACKAGES.get(method, ()) if not _installed(package)]
    if missing:
        names = " ".join(_DISTRIBUTIONS.get(package, package.replace("_", "-")) for package in missing)
        plural = "s" if len(missing) > 1 else ""
        raise SourceError(
            f"{source.name!r} is stored quantized with {method}, which needs the "
            f"package{plural} {names.replace(' ', ' and ')}: install it with 'pip install {names}'"
        )


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _check_bitsandbytes(quantization: str) -> None:
    """Raise InspectError, with the reason, where bitsandbytes cannot work."""
    missing = [package for package in ("bitsandbytes", "accelerate") if not _installed(package)]
    if missing:
        raise InspectError(f"--{quantization} needs {missing[0]}: install it with 'pip install {missing[0]}'")
    try:
        with quiet(), _uncompiled():
            import bitsandbytes  # noqa: F401 - fails where its compiled part cannot be loaded
            from transformers.integrations.bitsandbytes import validate_bnb_backend_availability

            validate_bnb_backend_availability(raise_exception=True)
    except Exception as error:
        raise InspectError(
            f"--{quantization} cannot work here: bitsandbytes says {first_line(error)!r}; "
            f"leave it away, or use --dtype bfloat16 to save memory"
        ) from error


@contextmanager
def _uncompiled() -> Iterator[None]:
    """While open, torch.compile changes nothing.

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
    """The modules not to quantize, as patterns that each match one path: the user's, and those always kept."""
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
            raise UsageError(f"--skip-module {name!r} names no module with a weight matrix: {hint}")
        chosen += found
    always = HfQuantizer.get_modules_to_not_convert(model, None, list(model._keep_in_fp32_modules or ()))
    # transformers reads each as the beginning of a path, as a pattern or as an end.
    return [*always, *(f"{re.escape(path)}$" for path in dict.fromkeys(chosen))]


def _named(name: str, paths: Iterable[str]) -> list[str]:
    """The paths that a glob, a path, a block's path or the last parts of a path pick."""
    if is_glob(name):
        return matching(name, paths)
    return [path for path in paths if path == name or path.startswith(f"{name}.") or path.endswith(f".{name}")]


def _folded(paths: Iterable[str], apart_from: Iterable[str]) -> list[str]:
    """Paths with their layer numbers folded into a star, where that names none of the other paths."""
    others = {_starred(path) for path in apart_from}
    return list(dict.fromkeys(path if _starred(path) in others else _starred(path) for path in paths))


def _starred(path: str) -> str:
    return re.sub(r"\.\d+(?=\.|$)", ".*", path)
