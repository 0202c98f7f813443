"""Whether what the program did with a stranger's model is right."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.making.strangers.stranger import Stranger

RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that a terminal obeys, or that turn the order of a line."""


@dataclass(frozen=True)
class Said:
    """What the program did."""

    code: int | None
    """None where it did not end."""
    stdout: str
    stderr: str


def judge(case: Stranger, said: Said) -> None:
    """Look at what the program did with a stranger's model."""
    told = f"{said.code}: {said.stderr[:300]!r} {said.stdout[:60]!r}"
    assert said.code is not None, f"hang: {told}"
    raw = RAW.findall(said.stdout + said.stderr)
    assert not raw, f"raw {sorted(set(raw))!r}: {told}"
    shown = case.harmless or (case.either and said.code == 0)
    if shown:
        assert said.code == 0, told
    else:
        assert said.code in (1, 2), told
        assert not said.stdout, told
        assert said.stderr.startswith("txinspect: "), told
        assert said.stderr.count("\n") == 1, f"{said.stderr.count(chr(10))} lines: {told}"
        assert len(said.stderr) < 600, f"{len(said.stderr)} characters: {told}"
        # What a library says of an unexpected end of a file is no error that nobody foresaw.
        assert not re.search(r"unexpected [A-Z]\w+: ", said.stderr), told
        assert "Traceback" not in said.stderr, told
    wanted = () if shown and case.either else case.says
    missing = [fragment for fragment in wanted if fragment not in (said.stdout if shown else said.stderr)]
    assert not missing, f"lacks {missing}: {told}"
