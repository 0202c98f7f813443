"""Many texts in one process: a report a line, as soon as it is there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from txinspect.as_json import to_json
from txinspect.cli import streams
from txinspect.cli.parts import Parts
from txinspect.cli.streams import Output
from txinspect.cli.text_lines import Line, Template, TextLines
from txinspect.errors import CheckError, InspectError, SourceError, StageError, UsageError
from txinspect.option import INPUT, OUTPUT
from txinspect.records import Report

TAKE = (
    "tokenize",
    "embed",
    "pos",
    "attn",
    "run",
    "logits",
    "lens",
    "heads",
    "diff",
    "ablate",
    "patch",
    "attribute",
    "why",
)
"""The commands that take many texts."""

Texts = Annotated[
    str | None,
    typer.Option(
        "--texts",
        help="Many texts, for a report of JSON each: FILE.txt, a text a line; .jsonl, an object a line, of id, text, "
        "pair, decoder, ids, messages and other options; .csv, by --column; - reads a pipe.",
        metavar="FILE",
        rich_help_panel=INPUT,
    ),
]
Column = Annotated[
    str | None,
    typer.Option(
        "--column", help="Of a .csv: where the texts are; text if not given.", metavar="NAME", rich_help_panel=INPUT
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Write the reports of --texts to a folder, in parts.", metavar="DIR", rich_help_panel=OUTPUT
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on in the folder of --out with what is not there yet.", rich_help_panel=OUTPUT),
]


@dataclass(frozen=True)
class Many:
    """Many texts, and where their reports go."""

    lines: TextLines
    out: Path | None
    resume: bool


def choose_texts(*, texts: Texts = None, column: Column = None, out: Out = None, resume: Resume = False) -> Many | None:
    """The texts that a command line names by a file; None for one text. Raises UsageError for what needs another."""
    for name, given in (("--column", column is not None), ("--out", out is not None), ("--resume", resume)):
        if given and texts is None:
            raise UsageError(f"{name} is about many texts", "add --texts FILE, or omit it")
    if resume and out is None:
        raise UsageError("--resume goes on in a folder", "add --out DIR, or omit it")
    if texts is None:
        return None
    if column is not None and not texts.lower().endswith(".csv"):
        raise UsageError(f"--column is of a .csv, and --texts is {texts!r}", "omit it")
    return Many(TextLines(texts, column or "text"), out, resume)


def answer(template: Template, many: Many, output: Output) -> None:
    """Answer the template's question about each of many texts, on stdout or in a folder.

    Raises CheckError, at the end, where some could not be answered.
    """
    from txinspect.inspecting import staying

    with staying():
        if many.out is None:
            counted = _run(template, many, output, streams.write, Counter())
        else:
            with Parts(many.out, _asked(template), many.resume) as parts:
                counted = _run(template, many, output, parts.add, parts.done())
    if counted["failed"]:
        raise CheckError(f"{counted['failed']} of {counted['texts']} texts were not answered as asked: each says why")


def _run(
    template: Template, many: Many, output: Output, write: Callable[[bytes], None], done: Counter[tuple[str, str]]
) -> Counter[str]:
    """Answer each of many texts that is not `done`, and count them."""
    counted: Counter[str] = Counter()
    of, problem = many.lines.count(), template.problem()
    with streams.progress(output) as shown:
        for line in many.lines.lines(template):
            key = str(line.id), line.digest
            if done[key]:
                done[key] -= 1
                counted["there"] += 1
                continue
            # What goes on within a text is told of the first alone, which loads the model; then how many are done.
            found = _found(line, shown.notify if not counted["texts"] else lambda _: None)
            if isinstance(found, InspectError) and _is_of_all(found, problem, is_first=not counted["texts"]):
                raise found
            write(_written(line, found))
            counted.update(texts=1, failed=_fails(found))
            at = counted["texts"] + counted["there"]
            if of is None:
                shown.notify(f"answered {at} texts")
            elif shown.progress is not None:
                shown.progress("answering texts", at, of)
    return counted


def _is_of_all(error: InspectError, problem: str | None, *, is_first: bool) -> bool:
    """Whether what is wrong with a text is wrong with the model, or with what is asked about all of them."""
    return isinstance(error, SourceError) or (is_first and (isinstance(error, StageError) or str(error) == problem))


def _found(line: Line, notify: Callable[[str], None]) -> Report | InspectError:
    """What is answered to a line."""
    from txinspect.inspecting import inspect

    if line.query is None:
        return line.error or InspectError()
    try:
        with streams.reserved():
            report: Report = inspect(line.query, notify)
    except InspectError as error:
        return error
    return report


def _written(line: Line, found: Report | InspectError) -> bytes:
    """What is written about a line: its id, what it says in short, and the report or what is wrong."""
    if isinstance(found, InspectError):
        whole = {"id": line.id, "digest": line.digest, "error": found.said().sentence, "exit_code": found.exit_code}
        return json.dumps(whole).encode() + b"\n"
    head = json.dumps({"id": line.id, "digest": line.digest}).encode()
    return head.removesuffix(b"}") + b"," + to_json(found).removeprefix(b"{") + b"\n"


def _fails(found: Report | InspectError) -> bool:
    checks = getattr(found, "checks", None) or ()
    return isinstance(found, InspectError) or any(each.passed is False for each in checks)


def _asked(template: Template) -> dict[str, Any]:
    """What is asked of all texts, as JSON has it."""
    asked = {name: each for name, each in template.fields.items() if name != "text"}
    plain: dict[str, Any] = json.loads(
        json.dumps(asked, default=lambda each: vars(each) if is_dataclass(each) else str(each))
    )
    return {"command": template.kind.__name__, "asked": plain}
