"""The JSON Schema of the reports."""

from __future__ import annotations

from typing import Any

from txinspect import commands
from txinspect.records import Report


def reports() -> dict[str, type[Report]]:
    """The report of each command, for the JSON Schema, in the order of the help."""
    return {name: commands.named(name).report for name in commands.NAMES}


def schema(command: str | None = None) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a command's report, or of any report.

    Raises KeyError for a command that has no report.
    """
    import msgspec

    kinds = list(dict.fromkeys(reports().values())) if command is None else [reports()[command]]
    refs, defs = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    head: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    head["title"] = f"txinspect {command or 'report'}"
    body: dict[str, Any] = {"oneOf": list(refs)} if command is None else dict(refs[0])
    return head | body | {"$defs": defs}


def schema_json(command: str | None = None) -> bytes:
    """The JSON Schema as indented JSON."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(schema(command)), indent=2) + b"\n"
