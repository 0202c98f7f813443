"""Which model is asked about, and how it is loaded: devices, types, quantization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from txinspect.errors import UsageError, spelled
from txinspect.option import LOADING, WHERE, Option
from txinspect.records import TaskName
from txinspect.value_checks import check_one_of, check_types

DEFAULT_MODEL = "opt-mini"
"""The bundled model."""

DEVICES = ("auto", "cpu", "cuda", "mps")
"""What `--device` takes; cuda may have a number after it, as in cuda:1."""

DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""accelerate's placements that need no names of modules."""

DType = Literal["auto", "float32", "float16", "bfloat16"]
"""auto is the type the checkpoint is stored in."""

if TYPE_CHECKING:
    GivenDType = Literal[DType, "fp32", "float", "fp16", "half", "bf16"]
else:
    GivenDType = DType
"""What a choice may be given; its field, and so a shell's completion, knows the type's own name only."""

DTYPES: dict[str, DType] = {
    "fp32": "float32",
    "float": "float32",
    "fp16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
}
"""What other tools, torch among them, call the types."""

Quantization = Literal["8bit", "4bit"]

FourBitType = Literal["nf4", "fp4"]

PLACEMENT = ("device", "device_map")
"""Fields of a choice that say where a model runs."""

PRECISION = ("quantization", "int8_threshold", "four_bit_type", "double_quant", "skip_modules", "dtype")
"""Fields of a choice that say in what numbers it computes."""


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """Which model, and how to load it. A query looks only at the fields that it needs."""

    name: Annotated[
        str,
        Option(
            "-m/--model",
            "A bundled model, a local directory, a .gguf file or a Hub id, in that order of resolution.",
            "MODEL",
            completes="models",
        ),
    ] = DEFAULT_MODEL
    revision: Annotated[str | None, Option("--revision", "Branch, tag or commit on the Hub.", "REV", WHERE)] = None
    offline: Annotated[bool, Option("--offline", "Never ask the Hub: use its local cache.", None, WHERE)] = False
    trust_remote_code: Annotated[
        bool, Option("--trust-remote-code", "Run the Python files that come with the model.", None, WHERE)
    ] = False
    task: Annotated[
        TaskName | None,
        Option(
            "--as",
            "What to take the model for, in place of what its config.json says: causal-lm, seq2seq-lm, masked-lm, "
            "next-sentence, sequence-classification, token-classification, question-answering, or base for no head.",
            "TASK",
            WHERE,
        ),
    ] = None
    quantization: Quantization | None = None
    """Quantize the linear layers with bitsandbytes while loading: --8bit and --4bit in a shell."""
    int8_threshold: Annotated[
        float | None,
        Option(
            "--int8-threshold",
            "With 8 bits: features beyond this stay in half precision; 6.0 if not given, 0 for none.",
            "X",
            LOADING,
        ),
    ] = None
    """Dettmers et al. 2022, LLM.int8, section 3.2."""
    four_bit_type: Annotated[
        FourBitType | None, Option("--4bit-type", "With 4 bits: nf4 (if not given) or fp4.", "TYPE", LOADING)
    ] = None
    """nf4 has the quantiles of a normal distribution for levels (Dettmers et al. 2023, QLoRA)."""
    double_quant: Annotated[bool, Option("--double-quant", "With 4 bits: quantize the scales, too.", None, LOADING)] = (
        False
    )
    skip_modules: Annotated[
        tuple[str, ...],
        Option(
            "--skip-module",
            "Do not quantize a module: a path, a block, a path's end such as fc1, or a glob; may be repeated.",
            "MODULE",
            LOADING,
        ),
    ] = ()
    dtype: Annotated[
        GivenDType,
        Option("--dtype", "Type to compute in: auto (the stored one), float32, float16 or bfloat16.", "TYPE", LOADING),
    ] = "auto"
    device: Annotated[
        str,
        Option(
            "--device",
            "auto, cpu, cuda, cuda:N or mps; auto is CUDA if there is one, else MPS, else the CPU.",
            "DEVICE",
            LOADING,
            DEVICES,
        ),
    ] = "auto"
    device_map: Annotated[
        str | None,
        Option(
            "--device-map",
            "Spread the model over devices: auto, balanced, balanced_low_0 or sequential; or one device for all.",
            "MAP",
            LOADING,
            DEVICE_MAPS,
        ),
    ] = None

    def __post_init__(self) -> None:
        check_types(self)
        if isinstance(self.dtype, str):
            object.__setattr__(self, "dtype", DTYPES.get(self.dtype, self.dtype))
        check_one_of("dtype", self.dtype, get_args(DType))
        check_one_of("task", self.task, (*get_args(TaskName), None))
        check_one_of("quantization", self.quantization, (*get_args(Quantization), None))
        check_one_of("four_bit_type", self.four_bit_type, (*get_args(FourBitType), None))
        _check_device("device", self.device)
        if self.device_map not in (*DEVICE_MAPS, None):
            _check_device("device_map", self.device_map, "placement", f"{', '.join(DEVICE_MAPS)} or a device")
        if self.int8_threshold is not None and not 0 <= self.int8_threshold < float("inf"):
            raise UsageError(
                f"{spelled('int8_threshold')} {self.int8_threshold} is not a threshold", "give 0 (none) or more"
            )
        if self.device != "auto" and self.device_map is not None:
            raise UsageError(
                f"{spelled('device', self.device)} and {spelled('device_map', self.device_map)} cannot be "
                f"combined: a map chooses devices itself",
                "give one of them",
                by="; ",
            )
        if self.quantization == "8bit" and self.dtype == "float32":
            # LLM.int8 multiplies in half precision: float32 would be rounded without a word.
            raise UsageError(
                f"{spelled('quantization', '8bit')} computes in half precision",
                f"omit {spelled('dtype', 'float32')}, or give float16 or bfloat16",
            )
        belongs: tuple[tuple[str, bool, tuple[Quantization, ...]], ...] = (
            ("int8_threshold", self.int8_threshold is not None, ("8bit",)),
            ("four_bit_type", self.four_bit_type is not None, ("4bit",)),
            ("double_quant", self.double_quant, ("4bit",)),
            ("skip_modules", bool(self.skip_modules), ("8bit", "4bit")),
        )
        for name, given, kinds in belongs:
            if given and self.quantization not in kinds:
                add = " or ".join(spelled("quantization", kind) for kind in kinds)
                raise UsageError(f"{spelled(name)} says how to quantize", f"add {add}, or omit it")


def _check_device(
    name: str, device: object, what: str = "device", allowed: str = "auto, cpu, cuda, cuda:N or mps"
) -> None:
    kind, _, number = str(device).partition(":")
    named = kind in DEVICES and ":" not in str(device)
    if not named and not (kind == "cuda" and number.isdecimal() and number.isascii()):
        raise UsageError(f"{spelled(name)} {device!r} is not a {what}", f"give {allowed}")
