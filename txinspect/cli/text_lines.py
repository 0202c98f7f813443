"""A file of many texts: a text a line, or a query's own fields on each, as JSON or in columns."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any

from txinspect.cli.environment import current
from txinspect.cli.text import MOST_BYTES
from txinspect.errors import InspectError, UsageError
from txinspect.nearest import nearest
from txinspect.option import Declared, declared
from txinspect.queries import Query
from txinspect.wording import short_bytes, shown

KINDS = (".txt", ".jsonl", ".csv")

_OF_ALL = ("save", "overwrite")
"""Fields that are not of one text."""


@dataclass(frozen=True)
class Template:
    """What is asked about each text, as far as the command line says it."""

    kind: type[Query[Any]]
    fields: Mapping[str, Any]

    def ask(self, **own: Any) -> Query[Any]:
        """The query with fields of its own. Raises UsageError for what cannot be asked."""
        return self.kind(**{**self.fields, **own})

    def problem(self) -> str | None:
        """What is wrong with it, whatever the text; None where a text and its fields may mend that, or nothing is."""
        try:
            self.ask()
        except InspectError as error:
            return str(error)
        return None


@dataclass(frozen=True)
class Line:
    """What a line of a file asks."""

    id: str | int
    """Its own, else the line's number, from 1."""
    digest: str
    """Of all that the line says."""
    query: Query[Any] | None
    error: InspectError | None = None
    """Why there is no query."""


@dataclass(frozen=True)
class TextLines:
    """A file of texts; - is standard input, where a first line that begins with a brace makes all of them JSON."""

    file: str
    column: str = "text"
    """Of a .csv file: the one that holds the texts."""

    def __post_init__(self) -> None:
        if self.file != "-" and Path(self.file).suffix.lower() not in KINDS:
            raise UsageError(f"--texts {self.file!r} is not a name that ends in {', '.join(KINDS)}", "- reads a pipe")

    def count(self) -> int | None:
        """How many lines there are, at most; None where that is not known."""
        if self.file == "-" or not Path(self.file).is_file():  # a pipe is read once
            return None
        count, last = 0, b""
        with self._opened() as stream:
            for chunk in iter(lambda: stream.read(1 << 20), b""):
                count, last = count + chunk.count(b"\n"), chunk[-1:]
        return count + (last not in (b"", b"\n"))

    def lines(self, template: Template) -> Iterator[Line]:
        """What each line asks, in order: the template's question about its text. Blank lines ask nothing.

        Raises InspectError for a file that cannot be read.
        """
        kind = Path(self.file).suffix.lower() if self.file != "-" else ""
        with self._opened() as stream:
            if kind == ".csv":
                yield from self._rows(stream, template)
                return
            first = stream.readline(MOST_BYTES + 1)
            is_json = kind == ".jsonl" or (not kind and first.lstrip().startswith(b"{"))
            for number, line in enumerate(_lines(first, stream), 1):
                if line.strip():
                    yield _read(line, number, template, is_json=is_json)

    def _rows(self, stream: IO[bytes], template: Template) -> Iterator[Line]:
        """What each row of a table asks. Raises InspectError for a table without the column."""
        text = TextIOWrapper(stream, "utf-8-sig", newline="")
        rows = csv.reader(text)
        try:
            names = next(rows, [])
            if self.column not in names:
                raise UsageError(
                    f"{self.file!r} has no column {self.column!r}", f"give --column, one of {shown(names)}"
                )
            for number, row in enumerate(rows, 1):
                if row:
                    cells = dict(zip(names, row, strict=False))
                    asked = {"text": cells.get(self.column, "")}
                    yield _asked(asked | {name: cells[name] for name in ("id",) if name in cells}, number, template)
        except (csv.Error, UnicodeDecodeError) as error:
            raise InspectError(f"{self.file!r} is no table in UTF-8 with commas: {error}") from error
        finally:
            text.detach()  # who opened the stream closes it

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        if self.file == "-":
            stdin = current().stdin
            if stdin is None:
                raise InspectError("standard input is closed: there are no texts to read")
            yield stdin.buffer
            return
        try:
            with Path(self.file).open("rb") as stream:
                yield stream
        except OSError as error:
            raise InspectError(f"{self.file} cannot be read: {error.strerror}") from error


def _lines(first: bytes, stream: IO[bytes]) -> Iterator[bytes]:
    """The lines of a stream whose first one is read already; the rest of a line that is too long is another one."""
    line = first
    while line:
        yield line.removesuffix(b"\n").removesuffix(b"\r")
        line = stream.readline(MOST_BYTES + 1)


def _read(line: bytes, number: int, template: Template, *, is_json: bool) -> Line:
    """What a line asks: a text, or a record of fields."""
    try:
        if len(line) > MOST_BYTES:
            raise InspectError(f"line {number} holds more than {short_bytes(MOST_BYTES)}", "give a part of it")
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        found = json.loads(text) if is_json else {"text": text}
    except UnicodeDecodeError as error:
        return _wrong(line, number, InspectError(f"line {number} is not UTF-8 (byte 0x{line[error.start]:02x})"))
    except (ValueError, RecursionError):
        return _wrong(line, number, InspectError(f"line {number} is no JSON", "give one object a line"))
    except InspectError as error:
        return _wrong(line, number, error)
    if not isinstance(found, dict):
        return _wrong(line, number, InspectError(f"line {number} is no object of JSON: {shown(found)}"))
    return _asked(found, number, template)


def _wrong(line: bytes, number: int, error: InspectError) -> Line:
    return Line(number, hashlib.sha256(line).hexdigest()[:16], None, error)


def _asked(record: Mapping[str, Any], number: int, template: Template) -> Line:
    """What a record of fields asks."""
    own = record.get("id")
    id = own if isinstance(own, (str, int)) and not isinstance(own, bool) else number
    said = json.dumps(record, sort_keys=True, ensure_ascii=True, default=str)
    digest = hashlib.sha256(said.encode()).hexdigest()[:16]
    try:
        return Line(id, digest, with_fields(template, {name: each for name, each in record.items() if name != "id"}))
    except InspectError as error:
        return Line(id, digest, None, error)


def with_fields(template: Template, record: Mapping[str, Any]) -> Query[Any]:
    """A query with fields of its own, by their names in Python or as a shell spells them; messages are those of a chat.

    Raises UsageError for a field that there is not, or a value that it cannot have.
    """
    offered = {each.name: each for each in declared(template.kind) if each.name not in _OF_ALL}
    by_key = {each.key: each for each in offered.values()} | offered
    values: dict[str, Any] = {}
    for name, value in record.items():
        if name == "messages":
            values |= {"text": json.dumps(value), "chat": True}
        elif name in ("text", "special"):
            values[name] = value
        elif name in by_key:
            values[by_key[name].name] = _plain(by_key[name], value)
        else:
            alike = nearest(name, [*by_key, "text", "special", "messages", "id"])
            raise UsageError(
                f"{shown(name)} is no field of this question", f"did you mean {alike[0]!r}?" if alike else None
            )
    if not {"text", "messages", "ids", "user"} & {*record, *values}:
        raise UsageError("there is no text", "give a text, ids or messages")
    return template.ask(**values)


def _plain(field: Declared, value: Any) -> Any:
    """A field's value as a query has it: tuples in the place of lists."""
    if isinstance(value, list):
        return tuple(value)
    return (value,) if field.is_list and isinstance(value, str) else value
