"""The options that are not fields of a query by themselves: quantization, a plan; and numbers as they are typed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from txinspect.cli.text import read_text
from txinspect.errors import UsageError, spelled
from txinspect.model_choice import ModelChoice, Quantization
from txinspect.option import LOADING, OUTPUT
from txinspect.wording import shown

MOST = 1_000_000
"""The largest index that is taken for one: a range up to it is written out."""


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


LONGEST = 40
"""Letters of a number, or of two with a dash between them."""


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


def indices(values: Sequence[str], field: str) -> tuple[int, ...] | None:
    """The positions that a repeatable option such as --head 0,2-3 names; None for all of them.

    Negative ones count from the end, -1 being the last; which they are, only the model or the text can tell. Raises
    UsageError, about the field of the query, for anything else.
    """
    typed = ",".join(values)
    if not values or typed.strip().lower() == "all":
        return None
    found: set[int] = set()
    for part in typed.split(","):
        match = re.fullmatch(r"\s*(-?[0-9]+)(?:\s*-\s*(-?[0-9]+))?\s*", part)
        if match is not None and len(part) > LONGEST:
            raise UsageError(f"{spelled(field)} {shown(part.strip())} is out of range: no model has so many")
        if match is None:
            raise UsageError(
                f"{spelled(field)} {typed!r} is not a list of indices",
                "give some such as 0,2-3, -1 for the last, or all",
            )
        low, high = int(match[1]), int(match[2] or match[1])
        if max(abs(low), abs(high)) > MOST:
            raise UsageError(f"{spelled(field)} {part.strip()} is out of range: no model has so many")
        if (low < 0) != (high < 0):
            raise UsageError(f"{spelled(field)} {part.strip()} counts from both ends", "give both from the same one")
        if high < low:
            raise UsageError(
                f"{spelled(field)} {part.strip()} runs backwards", f"write the smaller index first, as in {high}-{low}"
            )
        found |= set(range(low, high + 1))
    return tuple(sorted(found))
