"""Edits of a pass as they are asked for: PLACE OP VALUE, such as `layers.0.attention.context[head=1] = 0`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, isnan
from pathlib import Path
from typing import Literal, get_args

from txinspect.errors import UsageError, spelled
from txinspect.indices import read_indices

Op = Literal["=", "*", "+", "- proj"]

OPS: tuple[Op, ...] = get_args(Op)

Source = Literal["number", "mean", "text", "file"]
"""Where a value is from: it is a number, a mean over tokens, the same place with another text, a file's tensor."""

EXAMPLE = "such as 'layers.0.attention.context[head=1] = 0'"

HEADS_OUTPUT = (
    "a head's part of what the attention adds is a slice of its context, which the output projection reads and mixes",
    "edit 'layers.N.attention.context[head=H]'",
)

_EDIT = re.compile(
    r"\s*(?P<place>[^\s\[\]=]+(?:\s*\[[^\[\]]*\])?)\s+(?P<op>=|\*|\+|-\s*proj)\s+(?P<value>\S.*?)\s*", re.DOTALL
)

_PLACE = re.compile(r"(?P<stage>[^\[\]]+?)\s*(?:\[(?P<axes>[^\[\]]*)\])?")

_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?"

_ADDED = re.compile(rf"(?:(?P<amount>{_NUMBER})\s*(?:(?P<norms>\|h\|)\s*)?\*\s*)?(?P<source>\S.*)", re.IGNORECASE)

_FILE = re.compile(r"(?P<file>.+?\.(?:safetensors|npz|gguf|pt))(?::(?P<name>.+))?")
"""A file of tensors, and the name of one."""


def file_and_name(text: str) -> tuple[Path, str | None]:
    """The file of vectors that a text spells, and the name of one of them where it names one.

    Raises UsageError for another kind of file.
    """
    match = _FILE.fullmatch(text)
    if match is None:
        raise UsageError(
            f"{spelled('vector')} {text!r} is no file of vectors",
            "give .safetensors, .npz, .gguf or .pt, and :NAME of one",
        )
    return Path(match["file"]), match["name"]


@dataclass(frozen=True)
class Edit:
    """A change of what a pass computes at a place: a stage, or a part of it by its axes."""

    place: str
    """A stage or a glob, and in brackets the positions of axes: head=1, position=-1, head=2,key=0, hidden=3-5."""
    op: Op
    """What becomes of it: = a value, * a factor, + so much of a vector, - proj without its part along a vector."""
    value: str
    """0; mean, mean:FILE; text:OTHER; FILE:NAME; of + such as 4*FILE:NAME, or 0.5|h|*FILE:NAME."""

    def __post_init__(self) -> None:
        if self.op not in OPS:
            raise UsageError(f"an edit's op {self.op!r} is unknown", f"give {', '.join(OPS[:-1])} or {OPS[-1]}")
        object.__setattr__(self, "value", str(self.value).strip())
        _ = self.axes
        self._check_value()

    @classmethod
    def read(cls, text: str) -> Edit:
        """The edit that a text spells. Raises UsageError for one that spells none."""
        match = _EDIT.fullmatch(text)
        if match is None:
            raise UsageError(
                f"the edit {text!r} is not PLACE OP VALUE",
                f"give one {EXAMPLE}, with blanks around =, *, + or - proj",
            )
        op = "- proj" if match["op"].startswith("-") else match["op"]
        return cls(match["place"], op, match["value"])  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.place} {self.op} {self.value}"

    @cached_property
    def stage(self) -> str:
        """The stage, or a glob of stages, that the edit is made at."""
        return self._parts[0]

    @cached_property
    def axes(self) -> dict[str, tuple[int, ...]]:
        """The positions of each axis that the edit is about; none for all of the stage."""
        return dict(self._axes())

    @property
    def source(self) -> Source:
        """Where the edit's value is from."""
        value = self.vector
        if self.op == "*" or re.fullmatch(f"{_NUMBER}|-?inf", value, re.IGNORECASE):
            return "number"
        if value == "mean" or value.startswith("mean:"):
            return "mean"
        return "text" if value.startswith("text:") else "file"

    @property
    def vector(self) -> str:
        """What is set, added or projected out, without how much of it."""
        match = _ADDED.fullmatch(self.value) if self.op == "+" else None
        return self.value if match is None else match["source"]

    @property
    def amount(self) -> float:
        """The number of the edit: what is set, the factor, or how much is added."""
        if self.op == "+":
            match = _ADDED.fullmatch(self.value)
            return float(match["amount"]) if match and match["amount"] else 1.0
        return float(self.value)

    @property
    def in_norms(self) -> bool:
        """Whether how much the edit adds is in units of the norm that stands there."""
        match = _ADDED.fullmatch(self.value) if self.op == "+" else None
        return bool(match and match["norms"])

    @property
    def text(self) -> str:
        """The other text, where the edit's value is of one."""
        return self.value.removeprefix("text:")

    @property
    def file(self) -> Path | None:
        """The file that the edit's value is from: of texts for a mean, of tensors else; None if it is from none."""
        if self.source == "mean":
            return Path(self.vector.removeprefix("mean:")) if self.vector != "mean" else None
        return Path(self._file_and_name[0]) if self.source == "file" else None

    @property
    def name(self) -> str:
        """The name of the tensor in the edit's file."""
        return self._file_and_name[1]

    @property
    def _file_and_name(self) -> tuple[str, str]:
        match = _FILE.fullmatch(self.vector)
        if match is None or match["name"] is None:
            raise UsageError(
                f"the edit {str(self)!r}: {self.vector!r} is no value",
                "give 0, mean, mean:FILE, text:OTHER or FILE.safetensors:NAME",
            )
        return match["file"], match["name"]

    @cached_property
    def _parts(self) -> tuple[str, str | None]:
        match = _PLACE.fullmatch(self.place.strip())
        if match is None:
            raise UsageError(f"the edit {str(self)!r}: {self.place!r} is no place", f"give one {EXAMPLE}")
        return match["stage"], match["axes"]

    def _axes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The axes in the brackets, each with its positions. Raises UsageError for what is no such thing."""
        given = self._parts[1]
        if given is None:
            return
        parts = re.split(r",\s*(?=[a-z_]+\s*=)", given.strip())
        named: set[str] = set()
        for part in parts:
            match = re.fullmatch(r"([a-z_]+)\s*=\s*(.+)", part.strip())
            if match is None:
                raise UsageError(f"the edit {str(self)!r}: [{given}] names no axis", "give some such as [head=0,2-3]")
            if match[1] in named:
                raise UsageError(f"the edit {str(self)!r} names the axis {match[1]} twice", "name it once")
            named.add(match[1])
            positions = read_indices([match[2]], "edits")
            if positions is not None:
                yield match[1], positions

    def _check_value(self) -> None:
        """Raise UsageError for a value that the op cannot take."""
        wrong = f"the edit {str(self)!r}"
        if self.op == "*":
            if not re.fullmatch(_NUMBER, self.value, re.IGNORECASE) or not isfinite(float(self.value)):
                raise UsageError(f"{wrong}: {self.value!r} is no factor", "give a number, such as 0.5")
            return
        if self.source == "file":
            _ = self._file_and_name
        if self.source == "number" and self.op != "=":
            raise UsageError(f"{wrong}: {self.value!r} is no vector", "give FILE.safetensors:NAME, as --save writes it")
        if self.op in ("+", "- proj") and self.source != "file":
            raise UsageError(f"{wrong}: {self.op} takes a vector of a file", "give FILE.safetensors:NAME")
        if self.source == "number" and isnan(self.amount):
            raise UsageError(f"{wrong}: NaN is no value", "give a number")
        if self.source == "text" and not self.text:
            raise UsageError(f"{wrong}: the other text is empty", "give text:OTHER")
