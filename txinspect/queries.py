"""What can be asked: what the queries of several commands share, and how a field is spelled in a shell.

A query checks its own values, so that Python and the command line get the same sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Generic,
    Literal,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from txinspect.errors import UsageError, spelled
from txinspect.records import TaskName

if TYPE_CHECKING:
    from txinspect.records import Report

LESSON = "The quick brown fox jumps over the lazy dog"
"""The text that every command takes when none is given: the lesson's sentence."""

DEFAULT_MODEL = "opt-mini"
"""The bundled model."""

MOST_CHARACTERS = 8_000_000
"""Of a text: as JSON its tokens take 2.2 GB of memory and 18 s (measured on English, opt-mini, two cores)."""

MOST_NEW = 65_536
"""Tokens that are generated at most: each takes a pass."""

DEVICES = ("auto", "cpu", "cuda", "mps")
"""What `--device` takes; cuda may have a number behind it, as in cuda:1."""

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
Unsound = Literal["nan", "inf"]

Notify = Callable[[str], None]
"""Told, in a few words, what is going on: loading, running."""

Layers = int | tuple[int, ...] | None
"""One layer, several, or None for all; negative ones count from the end."""

ReportType = TypeVar("ReportType", bound="Report", covariant=True)


@dataclass(frozen=True)
class Option:
    """How a field is spelled in a shell, and the sentence that explains it there and here."""

    spelling: str
    """Such as `--layer`, or `-s/--stage` where there is a short one."""
    help: str
    metavar: str | None = None
    """What stands for the value in the help; None for a switch."""
    panel: str | None = None
    """The heading that it stands under in the help; None for the command's own options."""
    completes: Literal["models", "stages"] | tuple[str, ...] = ()
    """What the shell completes: what the model offers, or one of these."""
    envvar: str | None = None
    """The environment variable that is taken where it is not given."""
    in_order: bool = False
    """Of whole numbers: whether their order counts, as that of ids does; else they are positions."""


INPUT, WHERE, LOADING, OUTPUT = "Input", "Model", "Loading", "Output"
"""Headings in the help: what else is read, where the model is, how it is loaded, what is done with the report."""

FROM_WIDTH = "from the width"
"""Stands in the place of an Option where a shell fills a field with the columns of its terminal."""

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
        _check_types(self)
        if isinstance(self.dtype, str):
            object.__setattr__(self, "dtype", DTYPES.get(self.dtype, self.dtype))
        check_one_of("dtype", self.dtype, get_args(DType))
        check_one_of("task", self.task, (*get_args(TaskName), None))
        check_one_of("quantization", self.quantization, (*get_args(Quantization), None))
        check_one_of("four_bit_type", self.four_bit_type, (*get_args(FourBitType), None))
        _check_device("device", self.device)
        if self.device_map not in (*DEVICE_MAPS, None):
            _check_device("device_map", self.device_map, f"a placement: give {', '.join(DEVICE_MAPS)} or a device")
        if self.int8_threshold is not None and not 0 <= self.int8_threshold < float("inf"):
            raise UsageError(
                f"{spelled('int8_threshold')} {self.int8_threshold} is not a threshold: give 0 (none) or more"
            )
        if self.device != "auto" and self.device_map is not None:
            raise UsageError(
                f"{spelled('device', self.device)} and {spelled('device_map', self.device_map)} cannot be "
                f"combined: a map chooses devices itself; give one of them"
            )
        if self.quantization == "8bit" and self.dtype == "float32":
            # LLM.int8 multiplies in half precision: float32 would be rounded without a word.
            raise UsageError(
                f"{spelled('quantization', '8bit')} computes in half precision: omit "
                f"{spelled('dtype', 'float32')}, or give float16 or bfloat16"
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
                raise UsageError(f"{spelled(name)} says how to quantize: add {add}, or omit it")


_KINDS: dict[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a string",
    tuple[int, ...]: "a tuple of whole numbers",
    tuple[str, ...]: "a tuple of strings",
    Layers: "a whole number, a tuple of them such as (0, 2), or None",
}
"""The types of fields that are checked, in words."""

_EXAMPLES: dict[str, tuple[Any, ...]] = {
    "stages": ("logits",),
    "skip_modules": ("fc1",),
    "heads": (0, 2),
    "queries": (9,),
    "fail_on": ("nan", "inf"),
    "params": ("**.bias",),
}
"""What a field that is a tuple may hold."""


def _check_types(record: Any) -> None:
    """Raise UsageError for a field of another type: a shell gives the right ones, Python may give anything."""
    for name, kind in _checked_fields(record.__class__).items():
        value = getattr(record, name)
        if not _is_of(kind, value):
            raise UsageError(f"{spelled(name)} {shown(value)} is not {_wanted(name, value, unwrapped(kind))}")


def _is_of(kind: Any, value: object) -> bool:
    """Whether a value is of a type; a list is no tuple, and True is no number."""
    import msgspec

    try:
        msgspec.convert(value, kind)
    except (msgspec.ValidationError, TypeError):
        return False
    return not isinstance(value, (list, set, frozenset))


def _wanted(name: str, value: Any, kind: Any) -> str:
    """What a field takes, in words: where the value lacks only the tuple around it, the value in one."""
    if get_origin(kind) is not tuple:
        return _KINDS[kind]
    meant = tuple(value) if isinstance(value, (list, set, frozenset)) else (value,)
    if _is_of(kind, meant):
        return f"a tuple: give {shown(meant)}"
    return _KINDS[kind] + (f", such as {_EXAMPLES[name]}" if name in _EXAMPLES else "")


def shown(value: object) -> str:
    """A value of any type in a sentence: on one line, and not without end."""
    line = " ".join(repr(value).split())
    return line if len(line) <= 80 else line[:79] + "…"


@cache
def _checked_fields(kind: Any) -> dict[str, Any]:
    """The fields of a record whose types are among those checked, None allowed or not."""
    return {name: hint for name, hint in get_type_hints(kind).items() if unwrapped(hint) in _KINDS}


def unwrapped(hint: Any) -> Any:
    """X of X | None; any other type as it is."""
    others = [each for each in get_args(hint) if each is not type(None)]
    return others[0] if len(others) == 1 and type(None) in get_args(hint) else hint


def from_start(asked: Layers, count: int, wrong: Callable[[int], Exception]) -> tuple[int, ...]:
    """Positions among `count`, negative ones counted from the end, as positions from the start: sorted, once each.

    One, several, or None for all. Raises what `wrong` makes of the first that is out of range.
    """
    asked = tuple(range(count)) if asked is None else (asked,) if isinstance(asked, int) else asked
    beyond = [index for index in asked if not -count <= index < count]
    if beyond:
        raise wrong(beyond[0])
    return tuple(sorted({index % count for index in asked}))


def check_strings(name: str, value: object) -> None:
    """Raise UsageError for a value that is not a tuple of strings."""
    if not _is_of(tuple[str, ...], value):
        raise UsageError(f"{spelled(name)} {shown(value)} is not {_wanted(name, value, tuple[str, ...])}")


def _check_encodable(name: str, value: object) -> None:
    """Raise UsageError for a text, or one of several, that holds half a surrogate pair."""
    for text in value if isinstance(value, tuple) else (value,):
        if isinstance(text, str) and not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise UsageError(f"{spelled(name)} {shown(text)} is no text in UTF-8: write it as characters") from None


def check_one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raise UsageError for a value that is not allowed."""
    if not isinstance(value, (str, type(None))) or value not in allowed:
        *others, last = [str(each) for each in allowed if each is not None]
        raise UsageError(f"{spelled(name)} {shown(value)} is unknown: give {', '.join(others)} or {last}")


def _check_device(name: str, device: object, what: str = "a device: give auto, cpu, cuda, cuda:N or mps") -> None:
    kind, _, number = str(device).partition(":")
    named = kind in DEVICES and ":" not in str(device)
    if not named and not (kind == "cuda" and number.isdecimal() and number.isascii()):
        raise UsageError(f"{spelled(name)} {device!r} is not {what}")


@dataclass(frozen=True, kw_only=True)
class Query(Generic[ReportType]):
    """What can be asked; it is answered with a report of its type."""

    def __post_init__(self) -> None:
        _check_types(self)


@dataclass(frozen=True, kw_only=True)
class ModelQuery(Query[ReportType]):
    """A query about a model."""

    idle: ClassVar[tuple[str, ...]] = ()
    """Fields of the choice that would do nothing here, and so are not options in a shell."""

    model: ModelChoice = field(default_factory=ModelChoice)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.model, ModelChoice):
            given = shown(self.model)
            advice = f": give ModelChoice(name={given})" if isinstance(self.model, str) else ""
            raise UsageError(f"model {given} is not a ModelChoice{advice}")


@dataclass(frozen=True, kw_only=True)
class TextQuery(ModelQuery[ReportType]):
    """A query about a text."""

    instead_of_text: ClassVar[tuple[str, ...]] = ("ids", "user")
    """Fields that, where one is set, take the place of a text: a shell then reads none."""

    text: str = LESSON
    special: bool = True
    """Whether the tokenizer adds its special tokens."""
    pair: Annotated[
        str | None, Option("--pair", "A second text, which the tokenizer joins to the first one.", "TEXT", INPUT)
    ] = None
    masks: Annotated[
        tuple[str, ...],
        Option(
            "--mask",
            "A word of the text to mask, or a token by its index, as any number is taken; may be repeated.",
            "WORD",
            INPUT,
        ),
    ] = ()
    ids: Annotated[
        tuple[int, ...] | None,
        Option(
            "--ids",
            "In the place of a text: token ids such as 2,301,17; - reads them from a pipe.",
            "IDS",
            INPUT,
            in_order=True,
        ),
    ] = None
    chat: Annotated[
        bool, Option("--chat", "Take the text for a user's message, or piped JSON for all messages.", None, INPUT)
    ] = False
    system: Annotated[str | None, Option("--system", "With --chat: the system's message.", "TEXT", INPUT)] = None
    user: Annotated[str | None, Option("--user", "With --chat: the user's message.", "TEXT", INPUT)] = None
    assistant: Annotated[
        str | None, Option("--assistant", "With --chat: what the assistant answered.", "TEXT", INPUT)
    ] = None
    src_lang: Annotated[
        str | None, Option("--src-lang", "Of a translator of many languages: the text's language.", "LANG", INPUT)
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_input()
        if len(self.text) > MOST_CHARACTERS:
            raise UsageError(
                f"the text has {len(self.text):,} characters: give at most {MOST_CHARACTERS:,}, such as a part of it"
            )

    def _check_input(self) -> None:
        """Raise UsageError for what cannot be read together."""
        check_strings("masks", self.masks)
        for each in fields(self):
            _check_encodable(each.name, getattr(self, each.name))
        if self.ids == ():
            raise UsageError(f"{spelled('ids')} names none: give token ids such as 2,301,17")
        below = [each for each in self.ids or () if each < 0]
        if below:
            raise UsageError(f"{spelled('ids')} {below[0]} is no token id: give 0 or more")
        if "" in self.masks:
            raise UsageError(f"{spelled('masks')} '' is empty: give a word of the text, or the index of a token")
        for name, other in (
            ("ids", "pair"),
            ("ids", "chat"),
            ("chat", "pair"),
            ("ids", "src_lang"),
            ("chat", "src_lang"),
        ):
            if getattr(self, name) and getattr(self, other):
                raise UsageError(f"{spelled(name)} and {spelled(other)} cannot be combined: each says what is read")
        if self.src_lang is not None and not self.special:
            raise UsageError(
                f"{spelled('src_lang')} and {spelled('special', False)} cannot be combined: the language is marked by "
                f"a special token"
            )
        if (self.ids is not None or self.user is not None) and self.text != LESSON:
            instead = spelled("ids" if self.ids is not None else "user")
            raise UsageError(f"a text and {instead} cannot be combined: it stands in the text's place")
        for name in ("system", "user", "assistant"):
            if getattr(self, name) is not None and not self.chat:
                raise UsageError(f"{spelled(name)} is a message: add {spelled('chat', True)}, or omit it")


@dataclass(frozen=True, kw_only=True)
class PassQuery(TextQuery[ReportType]):
    """A query that runs the model."""

    decoder: Annotated[
        str | None,
        Option(
            "--decoder",
            "For an encoder–decoder: the text that the decoder reads, behind its start token.",
            "TEXT",
            INPUT,
        ),
    ] = None
    tgt_lang: Annotated[
        str | None, Option("--tgt-lang", "Of a translator of many languages: the translation's.", "LANG", INPUT)
    ] = None
    new: Annotated[
        int,
        Option(
            "--new",
            "For an encoder–decoder without --decoder: tokens that it generates at most, the likeliest each time.",
            "N",
            INPUT,
        ),
    ] = 20
    save: Annotated[
        Path | None,
        Option("--save", "Write the exact tensors to FILE.safetensors or FILE.npz.", "FILE", OUTPUT),
    ] = None
    overwrite: Annotated[
        bool,
        Option("--overwrite", "Let --save replace a file that txinspect did not write.", None, OUTPUT),
    ] = False
    check: Annotated[
        bool,
        Option(
            "--check",
            "Run all layers once more to check that recording changes nothing and that sums add up; exit 3 if not.",
            None,
            OUTPUT,
        ),
    ] = False

    @property
    def window_step(self) -> int | None:
        """Tokens by which windows of a text beyond the model's positions are apart; None to refuse such a text."""
        return None

    @property
    def too_long(self) -> str:
        """What to do about a text beyond the model's positions."""
        return "shorten the text"

    @property
    def fits(self) -> bool:
        """Whether the model has to have positions for the whole text."""
        return True

    @property
    def too_long_unread(self) -> str:
        """What to do about it where a model reads no text onwards, and so none in windows."""
        return self.too_long

    @property
    def layers_asked(self) -> Layers:
        """The layers asked for, so that one the model does not have is known before anything is built."""
        return ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.new < 1:
            raise UsageError(f"{spelled('new')} {self.new} generates nothing: give 1 or more")
        if self.new > MOST_NEW:
            raise UsageError(f"{spelled('new')} {shown(self.new)} is more than can be: give at most {MOST_NEW:,}")
        if self.decoder is not None and self.new != PassQuery.new:
            raise UsageError(
                f"{spelled('decoder')} and {spelled('new')} cannot be combined: what the decoder reads is given, and "
                f"nothing is generated"
            )
        if self.save is not None and not isinstance(self.save, Path):
            given = shown(self.save)
            advice = f": give Path({given})" if isinstance(self.save, str) else ""
            raise UsageError(f"save {given} is not a pathlib.Path{advice}")
        if self.save is not None and self.save.suffix not in (".safetensors", ".npz"):
            raise UsageError(
                f"{spelled('save')} {str(self.save)!r} is not a name that ends in .safetensors or .npz, which decides "
                f"the format"
            )
        if self.overwrite and self.save is None:
            raise UsageError(f"{spelled('overwrite')} is about a file: add {spelled('save', 'FILE')}, or omit it")


def read_by(query: PassQuery[Any]) -> dict[str, Any]:
    """The fields of a query that say what the model reads, for another query about the same."""
    told = (each.name for each in fields(PassQuery) if getattr(_option(PassQuery, each.name), "panel", None) == INPUT)
    return {name: getattr(query, name) for name in ("text", "special", *told)}


def _option(kind: type[Any], name: str) -> Option | None:
    """How a field is spelled in a shell; None for one that is not."""
    extras = getattr(get_type_hints(kind, include_extras=True)[name], "__metadata__", ())
    return next((each for each in extras if isinstance(each, Option)), None)


@dataclass(frozen=True, kw_only=True)
class TensorQuery(PassQuery[ReportType]):
    """A query that reports the tensors of a pass."""

    values: Annotated[
        bool,
        Option("--values", "The numbers, too: all in the JSON, a corner in a table.", None, OUTPUT),
    ] = False
    fail_on: Annotated[
        tuple[Unsound, ...],
        Option("--fail-on", "Exit 3 if a recorded tensor holds one: nan, inf or nan,inf.", "KIND", OUTPUT),
    ] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strings("fail_on", self.fail_on)
        for kind in self.fail_on:
            check_one_of("fail_on", kind, get_args(Unsound))
