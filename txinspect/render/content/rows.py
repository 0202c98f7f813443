"""The rows of a report, flat and exact: what a spreadsheet or a data frame takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from csv import writer
from io import StringIO
from typing import Any

import msgspec

from txinspect.records import Report

ROWS = {
    "tokenize": "input.tokens",
    "tree": "modules",
    "stages": "stages",
    "diagram": "nodes",
    "models": "models",
    "params": "tensors",
    "embed": "tensors",
    "pos": "tensors",
    "attn": "tensors",
    "logits": "predictions",
    "lens": "rows.cells",
    "heads": "heads",
    "diff": "stages",
    "run": "tensors",
    "plan": "loading.files",
    "page": "attn.tensors",
    "ablate": "parts",
    "patch": "cells",
    "attribute": "parts",
    "why": "parts",
    "steer": "tries|vectors",
    "lesson": "input.tokens",
}
"""The list in each command's report whose records are its rows; of a list within a list each with what is around it. Of
lists with | between, the first that has any."""

Flat = dict[str, Any]


def rows(report: Report) -> list[Flat]:
    """A report's rows: values by dotted names, such as stats.mean; lists of numbers with blanks between.

    Of lists of records, such as the likeliest tokens, the first one.
    """
    whole = msgspec.to_builtins(report)
    found = ([_flat(each) for each in _records(whole, path.split("."))] for path in ROWS[report.command].split("|"))
    return next(filter(None, found), [])


def csv(report: Report) -> str:
    """A report's rows as CSV, with a line of names: RFC 4180 with line feeds; an unknown value is empty."""
    found = rows(report)
    all_names = dict.fromkeys(name for each in found for name in each)
    # What is unknown in one row is a record in another, whose values have names of their own.
    names = [name for name in all_names if not any(each.startswith(f"{name}.") for each in all_names)]
    text = StringIO()
    lines = writer(text, lineterminator="\n")
    lines.writerow(names)
    lines.writerows([[_cell(each.get(name)) for name in names] for each in found])
    return text.getvalue()


def _records(value: Any, path: Sequence[str]) -> Iterator[Flat]:
    """The records at a path of a report; of a list on the way, each with the plain values beside the path."""
    if not path:
        yield value
        return
    inner = value[path[0]]
    if not isinstance(inner, list):
        yield from _records(inner, path[1:])
        return
    for each in inner:
        if len(path) == 1:
            yield each
            continue
        beside = {key: one for key, one in each.items() if not isinstance(one, (list, dict))}
        for record in _records(each, path[1:]):
            yield {**beside, **record}


def _flat(record: Flat, before: str = "") -> Flat:
    """The values of a row's record by dotted names."""
    flat: Flat = {}
    for name, value in record.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = value[0]
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{name}.")
        elif value != [] and not (isinstance(value, list) and any(isinstance(each, (list, dict)) for each in value)):
            flat[f"{before}{name}"] = value
    return flat


def _cell(value: Any) -> Any:
    """A value as a cell of CSV; NaN and infinities are as unknown as in the JSON."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or (isinstance(value, float) and value - value != 0):
        return ""
    return repr(value) if isinstance(value, float) else value
