"""Checkpoints that are stored quantized: with what, and whether that can be read here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from txinspect.errors import SourceError, UsageError, spelled
from txinspect.model_choice import ModelChoice
from txinspect.sources.headers import StoredTensor
from txinspect.sources.source import Source
from txinspect.version import is_installed

if TYPE_CHECKING:
    from transformers import PretrainedConfig

PACKAGES = {
    "aqlm": ("aqlm",),
    "auto-round": ("auto_round",),
    "awq": ("gptqmodel",),
    "bitsandbytes": ("bitsandbytes",),
    "compressed-tensors": ("compressed_tensors",),
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

_FETCHED = ("eetq", "metal", "nvfp4")
"""Stored quantizations that transformers runs with kernels alone, native code that it fetches when it needs it."""

_FULL = ("float64", "float32", "float16", "bfloat16")
"""Types of numbers that are not quantized."""

_BESIDE = (".SCB", ".absmax", "_scale_inv", ".scales", ".weight_scale")
"""How the names of tensors end that a quantization stores beside the weights, in types of full precision."""

_DISTRIBUTIONS = {"optimum.quanto": "optimum-quanto", "quark": "amd-quark"}
"""Packages that are installed under another name."""


def stored_method(config: PretrainedConfig) -> str | None:
    """How a checkpoint is stored quantized, such as gptq; None if it is not."""
    stored = stored_config(config)
    method = stored.get("quant_method") if isinstance(stored, dict) else getattr(stored, "quant_method", None)
    return None if method is None else str(getattr(method, "value", method))


def stored_config(config: PretrainedConfig) -> Any:
    """What config.json says of how the checkpoint is stored quantized."""
    found = getattr(config, "quantization_config", None)
    return found or getattr(config.get_text_config(decoder=True), "quantization_config", None)


def check_stored(source: Source, config: PretrainedConfig, choice: ModelChoice) -> str | None:
    """What is to be installed before a checkpoint that is stored quantized runs, in a sentence; None if nothing is.

    Raises SourceError for one that transformers does not know, UsageError for quantizing it once more.
    """
    if source.is_one_file and choice.quantization:
        asked = spelled("quantization", choice.quantization)
        raise UsageError(
            f"{asked} cannot quantize a .gguf file, whose blocks transformers loads in its own way: omit {asked}"
        )
    method = stored_method(config)
    if method is None:
        return None
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    if not any(name.startswith(method) for name in AUTO_QUANTIZER_MAPPING):
        raise SourceError(
            f"{source.name!r} is quantized with {method!r}, which transformers does not know: "
            f"it knows {', '.join(sorted(AUTO_QUANTIZER_MAPPING))}"
        )
    if method in _FETCHED:
        raise SourceError(
            f"{source.name!r} is stored quantized with {method}, which transformers runs by native code that it "
            f"fetches, and txinspect lets it fetch none: give the model as it was before it was quantized"
        )
    if choice.quantization:
        asked = spelled("quantization", choice.quantization)
        raise UsageError(
            f"{asked} cannot quantize {source.name!r}, which is already stored quantized with {method}: "
            f"omit {asked} to load it as it is"
        )
    check_quantized(source, method, source.stored_here())
    missing = [package for package in PACKAGES.get(method, ()) if not is_installed(package)]
    if missing:
        names = " ".join(_DISTRIBUTIONS.get(package, package.replace("_", "-")) for package in missing)
        plural = "s" if len(missing) > 1 else ""
        return (
            f"{source.name!r} is stored quantized with {method}, which needs the "
            f"package{plural} {names.replace(' ', ' and ')}: install it with 'pip install {names}'"
        )
    return None


def check_quantized(source: Source, method: str, tensors: Sequence[StoredTensor]) -> None:
    """Raise SourceError for a checkpoint in full precision whose config says that it is stored quantized."""
    if tensors and all(tensor.dtype in _FULL and not tensor.name.endswith(_BESIDE) for tensor in tensors):
        raise SourceError(
            f"config.json of {source.name!r} has a quantization_config of {method!r}, but the weights are stored in "
            f"full precision ({tensors[0].dtype}): take the key quantization_config out of it"
        )
