"""The command line's options, each declared once, and the groups of them that commands share."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from txinspect import completing
from txinspect.errors import InspectError, UsageError
from txinspect.queries import LESSON, DType, FourBitType, ModelChoice, Quantization
from txinspect.stages import parse_indices

_MODEL_HELP = "A bundled model, a local directory, a .gguf file or a Hub id."
_LOADING = "Loading"
_OUTPUT = "Output"


@dataclass(frozen=True)
class Output:
    """How a report is shown, and what is said on the way."""

    json: bool
    quiet: bool
    verbose: bool


def _indices(what: str) -> Callable[[list[str]], list[str]]:
    def check(values: list[str]) -> list[str]:
        try:
            parse_indices(",".join(values), what) if values else None
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        return values

    return check


def _device(value: str) -> str:
    kind, _, number = value.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdecimal())):
        raise typer.BadParameter(f"{value!r} is no device: give auto, cpu, cuda, cuda:N or mps")
    return value


def _device_map(value: str | None) -> str | None:
    if value is not None and value not in ("auto", "balanced", "balanced_low_0", "sequential"):
        raise typer.BadParameter(f"{value!r} is no placement: give auto, balanced, balanced_low_0 or sequential")
    return value


def _save(value: Path | None) -> Path | None:
    if value is not None and value.suffix not in (".safetensors", ".npz"):
        raise typer.BadParameter(f"{str(value)!r} must end in .safetensors or .npz, which decides the format")
    return value


def _verbose(ctx: typer.Context, value: bool) -> bool:
    ctx.find_root().ensure_object(dict)["verbose"] = value
    return value


Text = Annotated[
    str | None,
    typer.Argument(help="The text; - reads standard input.", metavar="TEXT", show_default=f"the lesson's: {LESSON}"),
]
TextFile = Annotated[Path | None, typer.Option("--file", help="Read the text from a file.", metavar="PATH")]
NoSpecial = Annotated[bool, typer.Option("--no-special", help="Leave the tokenizer's special tokens out.")]
Model = Annotated[
    str,
    typer.Option(
        "-m",
        "--model",
        help=_MODEL_HELP,
        envvar="TXINSPECT_MODEL",
        metavar="MODEL",
        autocompletion=completing.models,
    ),
]
ModelArgument = Annotated[
    str,
    typer.Argument(help=_MODEL_HELP, envvar="TXINSPECT_MODEL", metavar="MODEL", autocompletion=completing.models),
]
Layer = Annotated[int, typer.Option("--layer", help="The layer, counted from 0.", min=0, metavar="N")]
Heads = Annotated[
    list[str],
    typer.Option("--head", help="Heads to look at, such as 0,2-3.", metavar="H", callback=_indices("head")),
]
Queries = Annotated[
    list[str],
    typer.Option("--query", help="Query tokens to look at, such as 9.", metavar="N", callback=_indices("query")),
]
SkipNorm = Annotated[
    bool, typer.Option("--skip-norm", help="Feed the attention the layer's input without the norm, as the lesson does.")
]
Stages = Annotated[
    list[str],
    typer.Option(
        "--stage",
        "-s",
        help="A stage, a module path, or a glob of either; may be repeated.",
        metavar="STAGE",
        autocompletion=completing.stages,
    ),
]
Depth = Annotated[int | None, typer.Option("--depth", help="Levels of the tree to show.", min=0, metavar="N")]
Expand = Annotated[bool, typer.Option("--expand", help="Show every layer instead of folding equal ones.")]
Params = Annotated[bool, typer.Option("--params", help="Show every parameter with its shape.")]

Revision = Annotated[
    str | None,
    typer.Option("--revision", help="Branch, tag or commit on the Hub.", metavar="REV", rich_help_panel=_LOADING),
]
EightBit = Annotated[
    bool, typer.Option("--8bit", help="Quantize linear layers to 8 bits (bitsandbytes).", rich_help_panel=_LOADING)
]
FourBit = Annotated[
    bool, typer.Option("--4bit", help="Quantize linear layers to 4 bits (bitsandbytes).", rich_help_panel=_LOADING)
]
Int8Threshold = Annotated[
    float | None,
    typer.Option(
        "--int8-threshold",
        help="With --8bit: features beyond this are kept in half precision; 6.0 if not given, 0 for none.",
        metavar="X",
        rich_help_panel=_LOADING,
    ),
]
FourBitTypeOption = Annotated[
    FourBitType | None,
    typer.Option("--4bit-type", help="With --4bit: nf4 (if not given) or fp4.", rich_help_panel=_LOADING),
]
DoubleQuant = Annotated[
    bool, typer.Option("--double-quant", help="With --4bit: quantize the scales, too.", rich_help_panel=_LOADING)
]
SkipModules = Annotated[
    list[str],
    typer.Option(
        "--skip-module",
        help="Do not quantize a module: a path, a block, an end such as fc1, or a glob; may be repeated.",
        metavar="MODULE",
        rich_help_panel=_LOADING,
    ),
]
DTypeOption = Annotated[
    DType, typer.Option("--dtype", help="Type to compute in; auto is the stored one.", rich_help_panel=_LOADING)
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="auto, cpu, cuda, cuda:N or mps.",
        metavar="DEVICE",
        callback=_device,
        rich_help_panel=_LOADING,
    ),
]
DeviceMap = Annotated[
    str | None,
    typer.Option(
        "--device-map",
        help="Spread the model over devices: auto, balanced, balanced_low_0 or sequential.",
        metavar="MAP",
        callback=_device_map,
        rich_help_panel=_LOADING,
    ),
]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask the Hub.", rich_help_panel=_LOADING)]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the model's own Python files.", rich_help_panel=_LOADING)
]

Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.", rich_help_panel=_OUTPUT)]
Values = Annotated[bool, typer.Option("--values", help="Put the numbers into the JSON.", rich_help_panel=_OUTPUT)]
Save = Annotated[
    Path | None,
    typer.Option(
        "--save",
        help="Write the exact tensors to FILE.safetensors or FILE.npz.",
        metavar="FILE",
        callback=_save,
        rich_help_panel=_OUTPUT,
    ),
]
Check = Annotated[
    bool,
    typer.Option(
        "--check",
        help="Run all layers once more to check that recording changes nothing and that sums add up; exit 3 if not.",
        rich_help_panel=_OUTPUT,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Load nothing: say what would be read, from where, and what it would cost.",
        rich_help_panel=_OUTPUT,
    ),
]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", help="Say nothing on stderr but errors.", rich_help_panel=_OUTPUT)
]
Verbose = Annotated[
    bool,
    typer.Option("-v", "--verbose", help="Show a traceback on errors.", callback=_verbose, rich_help_panel=_OUTPUT),
]


def read_text(text: Text = None, file: TextFile = None) -> str:
    """The text to look at: the argument, a file, standard input or the lesson's sentence.

    One line end at the very end of a file or of standard input belongs to the file, not to the text.
    """
    if text is not None and file is not None:
        raise UsageError("TEXT and --file exclude each other: give one of them")
    if file is not None:
        try:
            return _decoded(file.read_bytes(), str(file))
        except OSError as error:
            raise InspectError(f"{file} cannot be read: {error.strerror}") from error
    if text == "-":
        if sys.stdin is None:
            raise InspectError("standard input is closed: there is no text to read")
        return _decoded(sys.stdin.buffer.read(), "standard input")
    if text is not None:
        return _decoded(text.encode("utf-8", "surrogateescape"), "TEXT", whole=True)
    return LESSON


def _decoded(content: bytes, where: str, *, whole: bool = False) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise InspectError(
            f"{where} is not UTF-8 (byte 0x{content[error.start]:02x} at offset {error.start}): convert it first"
        ) from None
    return text if whole else text.removesuffix("\n").removesuffix("\r")


def choose_model(
    revision: Revision = None,
    eight_bit: EightBit = False,
    four_bit: FourBit = False,
    int8_threshold: Int8Threshold = None,
    four_bit_type: FourBitTypeOption = None,
    double_quant: DoubleQuant = False,
    skip_module: SkipModules = [],  # noqa: B006 - Typer copies it
    dtype: DTypeOption = "auto",
    device: Device = "auto",
    device_map: DeviceMap = None,
    offline: Offline = False,
    trust_remote_code: TrustRemoteCode = False,
) -> ModelChoice:
    """How to load the model; its name is the command's own argument or option."""
    if eight_bit and four_bit:
        raise UsageError("--8bit and --4bit exclude each other: give one of them")
    quantization: Quantization | None = "8bit" if eight_bit else "4bit" if four_bit else None
    return ModelChoice(
        revision=revision,
        quantization=quantization,
        int8_threshold=int8_threshold,
        four_bit_type=four_bit_type,
        double_quant=double_quant,
        skip_modules=tuple(skip_module),
        dtype=dtype,
        device=device,
        device_map=device_map,
        offline=offline,
        trust_remote_code=trust_remote_code,
    )


def choose_output(json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> Output:
    """How to show the report."""
    return Output(json=json, quiet=quiet, verbose=verbose)


def indices(values: list[str], what: str) -> tuple[int, ...] | None:
    """The positions that a repeatable option such as --head 0,2-3 names; None where it was not given."""
    return parse_indices(",".join(values), what) if values else None


def with_groups(**groups: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of each group, and hand it what the group makes of them.

    `with_groups(output=choose_output)` replaces the command's parameter `output` by the parameters of `choose_output`.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [parameter for parameter in _parameters(command) if parameter.name not in groups]
        members = {name: _parameters(group) for name, group in groups.items()}

        @wraps(command)
        def run(**values: Any) -> None:
            made = {
                name: group(**{parameter.name: values.pop(parameter.name) for parameter in members[name]})
                for name, group in groups.items()
            }
            command(**values, **made)

        everything = [*own, *(parameter for group in members.values() for parameter in group)]
        arguments_first = sorted(everything, key=lambda parameter: not _is_argument(parameter))
        run.__signature__ = inspect.Signature(arguments_first)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in arguments_first}
        return run

    return decorate


@cache
def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """A function's parameters, by keyword, with their annotations as objects instead of strings."""
    hints = get_type_hints(function, include_extras=True)
    return [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(function).parameters.items()
    ]


def _is_argument(parameter: inspect.Parameter) -> bool:
    return any(type(extra).__name__ == "ArgumentInfo" for extra in getattr(parameter.annotation, "__metadata__", ()))
