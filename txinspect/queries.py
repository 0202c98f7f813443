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

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UsageError(f"dtype {self.dtype!r} is none of {', '.join(DTYPES)}")
        if self.quantization not in (None, "8bit", "4bit"):
            raise UsageError(f"quantization {self.quantization!r} is none of 8bit, 4bit or None")


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
