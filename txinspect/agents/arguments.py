"""A command's arguments as an agent gives them: their JSON Schema, and the command line that they come to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shlex import join
from typing import Any, get_args

from txinspect import commands
from txinspect.edits import Edit, file_and_name
from txinspect.errors import UsageError
from txinspect.indices import Layers
from txinspect.model_choice import ModelChoice, Quantization
from txinspect.nearest import nearest
from txinspect.option import Declared, declared
from txinspect.queries import LESSON, ModelQuery, TextQuery
from txinspect.wording import shown, some_of

LEFT_OUT = {
    *("name", "trust_remote_code"),
    *("int8_threshold", "four_bit_type", "double_quant", "skip_modules", "device_map"),
}
"""Fields of a model's choice that are no arguments: its name is `model`, its code is the user's own to trust, and each
argument of every tool takes room in an agent's context, so that what is rarely set is left to a shell."""

MADE_BY_HAND: dict[str, dict[str, Any]] = {
    "text": {"type": "string", "description": f"The text to look at; {LESSON!r} if not given."},
    "special": {"type": "boolean", "description": "Whether the tokenizer adds its special tokens; true if not given."},
    "quantization": {
        "type": "string",
        "enum": list(get_args(Quantization)),
        "description": "Quantize the linear layers while loading (bitsandbytes).",
    },
    "image": {"type": "boolean", "description": "Also return what a terminal draws, such as the map, as a picture."},
}
"""Arguments that are no field by themselves, or that a shell spells in another way."""

_POSITIONS = (Layers, tuple[int, ...])

_WORDS_OR_INDICES = ("masks",)
"""Fields of words, or of tokens by their index."""

_TYPES = {bool: "boolean", int: "integer", float: "number"}


@dataclass(frozen=True)
class CommandLine:
    """The command line that arguments come to."""

    command: str
    options: tuple[str, ...]
    """Each with its value in the same word."""
    alone: tuple[str, ...]
    """The words that stand by themselves; - is the text."""
    text: str | None
    """Read from a pipe, since it may be longer than a word of a command line; None where the command reads none."""

    @property
    def words(self) -> tuple[str, ...]:
        """All that stands behind the program's name."""
        return (self.command, *self.options, "--", *self.alone)

    @property
    def shown(self) -> str:
        """As a person would type it; a long text is not shown whole."""
        text = self.text or ""
        alone = [shortened(text) if each == "-" else each for each in self.alone]
        ends = ["--"] if any(each.startswith("-") for each in alone) else []
        return join(["txinspect", self.command, *self.options, *ends, *alone])


def shortened(text: str, most: int = 60) -> str:
    """The beginning of a text."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


@cache
def fields(command: str, *, files: bool) -> Mapping[str, Declared]:
    """The fields of a command's query that are arguments, by the argument's name; with `files` those of files, too."""
    query = _query(command)
    chosen = declared(ModelChoice) if issubclass(query, ModelQuery) else ()
    idle = getattr(query, "idle", ())
    own = (each for each in chosen if each.name not in LEFT_OUT and each.name not in idle)
    found = {each.key: each for each in (*declared(query), *own)}
    return {name: each for name, each in found.items() if files or not (is_file(each) or each.name == "overwrite")}


def is_file(field: Declared) -> bool:
    """Whether a field's value is the name of a file, to be read or written."""
    return field.kind is Path or field.option.metavar == "FILE"


def schema(command: str, *, files: bool = False) -> dict[str, Any]:
    """The JSON Schema of a command's arguments."""
    properties = {name: MADE_BY_HAND[name] for name in _by_hand(command) if name in ("text", "special")}
    query = _query(command)
    if issubclass(query, ModelQuery):
        offered = next(each for each in declared(ModelChoice) if each.name == "name")
        properties["model"] = {"type": "string", "description": offered.option.help}
    properties |= {name: _schema_of(field) for name, field in fields(command, files=files).items()}
    if commands.named(command).html is not None:
        properties["html"] = {"type": "string", "description": "The file that the page is written to."}
    properties |= {name: MADE_BY_HAND[name] for name in _by_hand(command) if name not in properties}
    return {
        "type": "object",
        "properties": properties,
        "required": list(required(command)),
        "additionalProperties": False,
    }


def required(command: str) -> Iterator[str]:
    """The arguments without which a command answers another question."""
    asked = commands.named(command)
    if asked.unless is not None:
        field = next(each for each in declared(asked.query) if each.name == asked.unless[0])
        yield field.key
    if asked.html is not None:
        yield "html"


def command_line(command: str, given: Mapping[str, Any], model: str | None, *, files: bool = False) -> CommandLine:
    """The command line of a call, of `model` where it names none.

    Raises UsageError for an argument that the command does not take, or of a wrong type.
    """
    given = {name: value for name, value in given.items() if value is not None}
    _check_names(command, given, schema(command, files=files)["properties"])
    words, behind = [*_model(command, given, model)], []
    for name, field in fields(command, files=files).items():
        typed = _typed(name, field, given[name]) if name in given else []
        if field.is_argument:
            behind += typed
        else:
            words += [field.long] if field.kind is bool and typed else [f"{field.long}={each}" for each in typed]
    words += _made_by_hand(given)
    ahead = any(field.is_argument and field.option.first for field in fields(command, files=files).values())
    text = _text(command, given, beside=bool(behind) and not ahead)
    piped = ["-"] if text is not None else []
    line = CommandLine(command, tuple(words), (*behind, *piped) if ahead else (*piped, *behind), text)
    for word in (*line.words, text or ""):
        if "\0" in word and word is not text:
            raise UsageError(f"an argument of {command} holds a NUL", "give one without")
        if not word.isascii() and any("\ud800" <= letter <= "\udfff" for letter in word):
            raise UsageError(f"an argument of {command} holds half a surrogate pair", "give Unicode text")
    return line


def _check_names(command: str, given: Mapping[str, Any], offered: Mapping[str, Any]) -> None:
    """Raise UsageError for an argument that a command does not take, or for one that it needs."""
    for name in given:
        if name not in offered:
            alike = nearest(name, list(offered))
            advice = f"did you mean {alike[0]!r}?" if alike else f"give {some_of(list(offered))}"
            raise UsageError(f"{command} takes no argument {shown(name)}", advice)
    missing = next((each for each in required(command) if not given.get(each)), None)
    if missing is not None:
        raise UsageError(f"{command} needs the argument {missing!r}", str(offered[missing]["description"]))


def _model(command: str, given: Mapping[str, Any], model: str | None) -> Iterator[str]:
    """The words for the model of a call."""
    named = given.get("model", model)
    if issubclass(_query(command), ModelQuery) and named is not None:
        yield f"--model={_string('model', named)}"


def named_files(command: str, given: Mapping[str, Any]) -> Iterator[Path]:
    """The files and folders that a call's arguments name, to be read or written; a Hub id is none."""
    for name, field in fields(command, files=True).items():
        for value in _listed(given.get(name)):
            yield from _files_in(field, str(value))
    if given.get("html") is not None:
        yield Path(str(given["html"]))
    if given.get("model") is not None:
        yield from _model_files(str(given["model"]))


def _files_in(field: Declared, value: str) -> Iterator[Path]:
    """The files that a value of a field names."""
    metavar = field.option.metavar
    if field.name == "vector":
        yield file_and_name(value)[0]
    elif is_file(field):
        yield Path(value)
    elif metavar in ("MODEL", "OTHER", "BASE"):
        yield from _model_files(value)
    elif metavar == "BASELINE" and value.startswith("mean:"):
        yield Path(value.removeprefix("mean:"))
    elif metavar == "EDIT" and (file := Edit.read(value).file) is not None:
        yield file


def _model_files(name: str) -> Iterator[Path]:
    """The folder or file of a model that is named by its place."""
    path = Path(name).expanduser()
    if name.startswith(("/", ".", "~")) or path.is_absolute() or path.exists() or path.is_symlink():
        yield path


def _query(command: str) -> type[Any]:
    asked = commands.named(command)
    return asked.planned or asked.query


def _by_hand(command: str) -> Iterator[str]:
    """The arguments that no field of a command's query is declared for."""
    query = _query(command)
    if issubclass(query, TextQuery):
        yield from ("text", "special")
    if issubclass(query, ModelQuery) and "quantization" not in query.idle:
        yield "quantization"
    yield "image"


def _schema_of(field: Declared) -> dict[str, Any]:
    """The JSON Schema of a field's value."""
    said: dict[str, Any] = {"description": field.option.help}
    if isinstance(field.default, (bool, int, float, str)) and not field.optional:
        said["default"] = field.default
    if field.kind in _POSITIONS and not field.option.in_order:
        numbers = {"type": "array", "items": {"type": "integer"}}
        return said | {
            "anyOf": [{"type": "integer"}, numbers, {"type": "string", "description": "such as 0,2-3 or all"}]
        }
    one = {"type": "string", "enum": list(field.choices)} if field.choices else {"type": _type(field)}
    return said | ({"type": "array", "items": one} if field.is_list else one)


def _type(field: Declared) -> str:
    """The name in JSON of a field's type, or of that of the values it holds."""
    kind = get_args(field.kind)[0] if field.is_list else field.kind
    return _TYPES.get(kind, "string")


def _typed(name: str, field: Declared, value: Any) -> list[str]:
    """A value as it would be typed, each of several by itself. Raises UsageError for one of another type."""
    values = _listed(value)
    is_positions = field.kind in _POSITIONS
    if isinstance(value, list) and not (field.is_list or is_positions):
        raise UsageError(f"{name} {shown(value)} is a list", f"give {_one(field)}")
    if field.kind is bool:
        if not isinstance(value, bool):
            raise UsageError(f"{name} {shown(value)} is neither true nor false", "give one of them")
        return [name] if value else []
    typed = [_scalar(name, field, each) for each in values]
    return [",".join(typed)] if is_positions and typed else typed


def _scalar(name: str, field: Declared, value: Any) -> str:
    """One value as it would be typed."""
    takes_numbers = field.kind in _POSITIONS or _type(field) in ("integer", "number") or field.name == "scales"
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UsageError(f"{name} {shown(value)} is not {_one(field)}", f"give {_one(field)}")
    if isinstance(value, str):
        return value
    if not takes_numbers and field.name not in _WORDS_OR_INDICES:
        raise UsageError(f"{name} {value!r} is a number", f"give {_one(field)}")
    if not math.isfinite(value):
        raise UsageError(f"{name} {value!r} is no number that can be asked for", "give a finite one")
    return str(int(value)) if value == int(value) and _type(field) != "number" else repr(value)


def _one(field: Declared) -> str:
    return {"integer": "a whole number", "number": "a number", "boolean": "true or false"}.get(_type(field), "a string")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _string(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{name} {shown(value)} is no string", "give one")
    return value


def _made_by_hand(given: Mapping[str, Any]) -> Iterator[str]:
    """The words for the arguments that no field is declared for."""
    for name in ("special", "image"):
        if not isinstance(given.get(name, True), bool):
            raise UsageError(f"{name} {shown(given[name])} is neither true nor false", "give one of them")
    if not given.get("special", True):
        yield "--no-special"
    if "quantization" in given:
        offered = MADE_BY_HAND["quantization"]["enum"]
        if given["quantization"] not in offered:
            raise UsageError(f"quantization {shown(given['quantization'])} is unknown", f"give {' or '.join(offered)}")
        yield f"--{given['quantization']}"
    if "html" in given:
        yield f"--html={_string('html', given['html'])}"


def _text(command: str, given: Mapping[str, Any], *, beside: bool) -> str | None:
    """The text of a call; the lesson's where another stands beside it; None where none is read."""
    if "text" in given:
        return _string("text", given["text"])
    query = _query(command)
    instead = issubclass(query, TextQuery) and any(name in given for name in query.instead_of_text)
    return LESSON if beside and not instead else None
