"""What can be asked: one small record per command. `inspect(query)` answers it with a report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from txinspect.errors import UsageError

LESSON = "The quick brown fox jumps over the lazy dog"
"""The text that every command takes when none is given: the lesson's sentence."""

DEFAULT_MODEL = "opt-mini"
"""The bundled model."""

DTYPES = ("auto", "float32", "float16", "bfloat16")
"""What `--dtype` takes; auto is the type the checkpoint is stored in."""

DType = Literal["auto", "float32", "float16", "bfloat16"]
Quantization = Literal["8bit", "4bit"]
FourBitType = Literal["nf4", "fp4"]


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """Which model, and how to load it."""

    name: str = DEFAULT_MODEL
    """A bundled name, a local directory, a .gguf file or a Hub id, in that order of resolution."""
    revision: str | None = None
    """Branch, tag or commit of a Hub id."""
    offline: bool = False
    """Never ask the Hub: use its local cache."""
    trust_remote_code: bool = False
    """Run the Python files that come with the model."""
    dtype: DType = "auto"
    """Floating-point type to compute in; auto is the stored one."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps; auto is CUDA where there is one, else MPS, else the CPU."""
    device_map: str | None = None
    """A placement for accelerate, such as auto."""
    quantization: Quantization | None = None
    """Quantize the linear layers with bitsandbytes while loading."""
    int8_threshold: float | None = None
    """With 8bit: input features with a larger value are multiplied in half precision; None for 6.0, 0 for none
    (Dettmers et al. 2022, LLM.int8, section 3.2)."""
    four_bit_type: FourBitType | None = None
    """With 4bit: nf4, with a normal distribution's quantiles for levels (Dettmers et al. 2023, QLoRA), or fp4; None for
    nf4."""
    double_quant: bool = False
    """With 4bit: quantize the scales, too."""
    skip_modules: tuple[str, ...] = ()
    """Modules not to quantize: globs, paths, paths of blocks, or ends of paths such as fc1."""

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UsageError(f"dtype {self.dtype!r} is none of {', '.join(DTYPES)}")
        if self.quantization not in (None, "8bit", "4bit"):
            raise UsageError(f"quantization {self.quantization!r} is none of 8bit, 4bit or None")
        if self.four_bit_type not in (None, "nf4", "fp4"):
            raise UsageError(f"4-bit type {self.four_bit_type!r} is none of nf4, fp4")
        if isinstance(self.skip_modules, str):
            raise UsageError(f"skip_modules {self.skip_modules!r} is a text: give a tuple of names")
        if self.int8_threshold is not None and not 0 <= self.int8_threshold < float("inf"):
            raise UsageError(f"--int8-threshold {self.int8_threshold} is no threshold: give 0 for none, or more")
        if self.device != "auto" and self.device_map is not None:
            raise UsageError(
                f"--device {self.device} and --device-map {self.device_map} exclude each other: a map chooses devices "
                f"itself; give one of them"
            )
        if self.quantization == "8bit" and self.dtype == "float32":
            # LLM.int8 multiplies in half precision: float32 would be rounded without a word.
            raise UsageError(
                "--8bit computes in half precision: leave --dtype float32 away, or give float16 or bfloat16"
            )
        belongs: tuple[tuple[str, bool, tuple[Quantization, ...]], ...] = (
            ("--int8-threshold", self.int8_threshold is not None, ("8bit",)),
            ("--4bit-type", self.four_bit_type is not None, ("4bit",)),
            ("--double-quant", self.double_quant, ("4bit",)),
            ("--skip-module", bool(self.skip_modules), ("8bit", "4bit")),
        )
        for option, given, kinds in belongs:
            if given and self.quantization not in kinds:
                raise UsageError(f"{option} says how to quantize: add --{' or --'.join(kinds)}, or leave it away")


@dataclass(frozen=True, kw_only=True)
class Query:
    """What every query has."""

    model: ModelChoice = field(default_factory=ModelChoice)

    def __post_init__(self) -> None:
        if not isinstance(self.model, ModelChoice):
            raise UsageError(f"model {self.model!r} is no ModelChoice: give ModelChoice(name={self.model!r})")


@dataclass(frozen=True, kw_only=True)
class TextQuery(Query):
    """A query about a text."""

    text: str = LESSON
    special: bool = True
    """Whether the tokenizer adds its special tokens."""


@dataclass(frozen=True, kw_only=True)
class TokenizeQuery(TextQuery):
    """The tokens of a text."""


@dataclass(frozen=True, kw_only=True)
class TreeQuery(Query):
    """The module tree, from the config alone."""


@dataclass(frozen=True, kw_only=True)
class StagesQuery(Query):
    """The stages the model has, and why it lacks the others."""


@dataclass(frozen=True, kw_only=True)
class TensorQuery(TextQuery):
    """A query that runs the model."""

    values: bool = False
    """Put the numbers themselves into the report."""
    save: Path | None = None
    """Write the exact tensors to this .safetensors or .npz file."""
    check: bool = False
    """Check that recording leaves the logits as they are and that what is recorded adds up."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.save is not None and not isinstance(self.save, Path):
            raise UsageError(f"save {self.save!r} is no pathlib.Path: give Path({str(self.save)!r})")
        if self.save is not None and self.save.suffix not in (".safetensors", ".npz"):
            raise UsageError(f"--save {self.save}: the name must end in .safetensors or .npz, which decides the format")


@dataclass(frozen=True, kw_only=True)
class PlanQuery(Query):
    """What answering another query would read, before anything is loaded."""

    of: TensorQuery

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.of, TensorQuery):
            raise UsageError(f"{type(self.of).__name__} loads no weights: plan a query that runs the model")


@dataclass(frozen=True, kw_only=True)
class EmbedQuery(TensorQuery):
    """The token embeddings."""


@dataclass(frozen=True, kw_only=True)
class PosQuery(TensorQuery):
    """The positions: embeddings that are added, or what the model has in their place."""


@dataclass(frozen=True, kw_only=True)
class AttnQuery(TensorQuery):
    """One layer's self-attention."""

    layer: int = 0
    heads: tuple[int, ...] | None = None
    """Heads to look at; None for all."""
    queries: tuple[int, ...] | None = None
    """Query tokens to look at; None for all."""
    skip_norm: bool = False
    """Feed the attention the layer's input itself, without the norm in between, as the lesson does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.check and self.skip_norm:
            raise UsageError("--check and --skip-norm exclude each other: what is checked is the model as it is")
        if self.layer < 0:
            raise UsageError(f"layer {self.layer} is out of range: layers are counted from 0")
        for what, chosen in (("head", self.heads), ("query", self.queries)):
            if chosen is not None and not chosen:
                raise UsageError(f"no {what} was asked: name at least one, or leave it away for all")
            negative = [index for index in chosen or () if index < 0]
            if negative:
                raise UsageError(f"{what} {negative[0]} is out of range: they are counted from 0")


@dataclass(frozen=True, kw_only=True)
class RunQuery(TensorQuery):
    """Any stages of one forward pass."""

    stages: tuple[str, ...] = ()
    """Stage names, module paths, or globs of either: * within a name, ** across dots."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.stages, str):
            raise UsageError(f"stages {self.stages!r} is a text: give a tuple of names, such as ({self.stages!r},)")
        if not self.stages:
            raise UsageError("no stage was asked: name one, such as --stage logits ('txinspect stages' lists them)")
