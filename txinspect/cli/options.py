"""The options that are not fields of a query by themselves: quantization, a plan; and numbers as they are typed."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from txinspect.cli.text import read_text
from txinspect.errors import UsageError, spelled
from txinspect.indices import LONGEST
from txinspect.model_choice import ModelChoice, Quantization
from txinspect.option import LOADING, OUTPUT
from txinspect.wording import shown

NoSpecial = Annotated[bool, typer.Option("--no-special", help="Omit the tokenizer's special tokens.")]
EightBit = Annotated[
    bool, typer.Option("--8bit", help="Quantize linear layers to 8 bits (bitsandbytes).", rich_help_panel=LOADING)
]
FourBit = Annotated[
    bool, typer.Option("--4bit", help="Quantize linear layers to 4 bits (bitsandbytes).", rich_help_panel=LOADING)
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Load nothing: say what would be read, from where, and what it would cost.",
        rich_help_panel=OUTPUT,
    ),
]


def choose_model(*, eight_bit: EightBit = False, four_bit: FourBit = False, **fields: Any) -> ModelChoice:
    """The options of the model: its name and how to load it, with two flags for one field."""
    if eight_bit and four_bit:
        raise UsageError("--8bit and --4bit cannot be combined", "give one of them")
    quantization: Quantization | None = "8bit" if eight_bit else "4bit" if four_bit else None
    return ModelChoice(quantization=quantization, **fields)


def number(typed: str, field: str, kind: type[int] | type[float]) -> float:
    """The number typed for an option; raises UsageError, about the field of the query, for anything else."""
    if len(typed.strip()) > LONGEST:
        raise UsageError(f"{spelled(field)} {shown(typed)} is out of range: no number here has so many digits")
    pattern = r"[+-]?[0-9]+" if kind is int else r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|nan|inf"
    if not re.fullmatch(pattern, typed.strip(), re.IGNORECASE):
        raise UsageError(f"{spelled(field)} {typed!r} is not a {'whole ' if kind is int else ''}number")
    return kind(typed)


def ids(typed: str, field: str) -> tuple[int, ...]:
    """The ids typed for an option, with blanks or commas in between; - reads them from a pipe.

    Raises UsageError, about the field of the query, for anything else.
    """
    piped = typed.strip() == "-"
    listed = read_text("-").text if piped else typed
    if piped and not listed.strip():
        raise UsageError(f"{spelled(field)} - reads ids from a pipe, which holds none", "give some such as 2,301,17")
    found = listed.strip().strip("[]").replace(",", " ").split()
    wrong = next((each for each in found if not re.fullmatch(r"[0-9]{1,9}", each)), None)
    if wrong is not None:
        raise UsageError(f"{spelled(field)} {wrong!r} is not a token id", "give some such as 2,301,17")
    return tuple(map(int, found))
