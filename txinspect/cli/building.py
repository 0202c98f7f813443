"""A command's declaration → the function whose signature Typer reads: a query's fields become options.

All surgery on signatures is here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin, get_type_hints

import typer

from txinspect import commands
from txinspect.cli import completing, environment, many, streams
from txinspect.cli.command_line import CommandLine, help_of
from txinspect.cli.options import DryRun, NoSpecial, choose_model, ids, number
from txinspect.cli.output_options import choose_output, has_figures, of_a_drawing
from txinspect.cli.streams import Output
from txinspect.cli.text import Given, read_text
from txinspect.cli.text_lines import Template
from txinspect.commands.command import Command, Detailed
from txinspect.commands.plan import PlanQuery
from txinspect.errors import UsageError, spelled
from txinspect.indices import read_indices
from txinspect.model_choice import ModelChoice
from txinspect.option import FROM_WIDTH, OUTPUT, WHERE, Declared, declared
from txinspect.queries import LESSON, ModelQuery, PassQuery, Query, TextQuery

Answer = Callable[[Query[Any], Output, Any], None]
"""Given a query, how its report is shown, and the view that shapes the drawing."""

Values = dict[str, Any]

_INDICES = (tuple[int, ...], int | tuple[int, ...] | None)
"""Types of fields that hold positions: of heads, of layers."""

_BESIDE = ("legend", "picture", "figure", "csv", "html", "open")
"""Parameters about the drawing and the files beside it."""

_OF_TENSORS = ("values", "save", "fail_on")
"""Fields that say what is done with the tensors of a pass."""


@cache
def built(name: str, answer: Answer) -> Any:
    """Build a command with its options: it is imported, and its query's fields are read, when it is asked for."""
    asked = commands.named(name)
    function = command_function(asked, answer)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    said = help_of(function.__doc__ or "", asked.examples)
    alone.command(name, cls=CommandLine, help=said, epilog=asked.more or None)(function)
    return typer.main.get_command(alone)


def command_function(command: Command, answer: Answer) -> Callable[..., None]:
    """Build the function that Typer makes a command of: its parameters are the options, its docstring is the help."""
    line = command.planned or command.query
    own = _fields(line)
    view = _fields(command.view) if command.view else ()
    groups = list(_parameters_of(choose_output))
    extra: list[inspect.Parameter] = []
    if issubclass(line, TextQuery):
        extra += [*map(_called(line.called), _parameters_of(read_text)), _parameter("no_special", NoSpecial, False)]
    groups += _beside(command)
    if command.name in many.TAKE:
        extra += _parameters_of(many.choose_texts)
    if issubclass(line, PassQuery) and command.planned is None:
        groups.append(_parameter("dry_run", DryRun, False))

    def run(**values: Any) -> None:
        _run(command, values, answer)

    # Headings stand in the help in the order in which their first option does: what is asked, the model, the output.
    asked = [field.parameter for field in (*own, *view) if field.option.panel is None]
    shown = [field.parameter for field in (*own, *view) if field.option.panel is not None]
    model = _model_parameters(line) if issubclass(line, ModelQuery) else ()
    detailed = [_parameter("ctx", typer.Context)] if command.view and issubclass(command.view, Detailed) else []
    everything = [*extra, *asked, *model, *shown, *groups, *detailed]
    first = [field.name for field in own if field.option.first]
    ordered = sorted(everything, key=lambda parameter: (parameter.name not in first, not _is_argument(parameter)))
    run.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in ordered}
    run.__doc__ = line.__doc__
    return run


def _run(command: Command, values: Values, answer: Answer) -> None:
    """Ask what a command line says, by the values of its options."""
    ctx = values.pop("ctx", None)
    if "model_option" in values:
        values["model"] = _one_model(ctx, values["model"], values.pop("model_option"))
    given = frozenset(name for name in values if ctx is not None and _is_given(ctx, name))
    shown_as = choose_output(**_taken(values, choose_output))
    drawn = {name: values.pop(name) for name in _BESIDE if name in values}
    output = of_a_drawing(shown_as, command.name, dry_run=bool(values.get("dry_run")), **drawn)
    texts = many.choose_texts(**_taken(values, many.choose_texts))
    if texts is not None:
        _check_of_many(values, output)
    asked = _asked(command, values, of_many=texts is not None)
    fields = _query_fields(asked, values, output, instead="--texts" if texts is not None else None)
    if command.unless is not None and asked is command.unless[1]:
        streams.hint("nothing was run: these are the stages, of which --stage runs some", output)
    nothing_drawn = (
        "--texts" if texts is not None else "--json" if output.json else "--dry-run" if values.get("dry_run") else None
    )
    view = _view(command, values, given, nothing_drawn)
    if texts is not None:
        many.answer(Template(asked, fields), texts, output)
        return
    query: Any = asked(**fields)
    if command.planned is not None or values.pop("dry_run", False):
        query, view = _planned(query), None
    answer(query, output, view)


def _called(name: str) -> Callable[[inspect.Parameter], inspect.Parameter]:
    """What gives a command's text the name that its help has for it."""

    def named(parameter: inspect.Parameter) -> inspect.Parameter:
        if not _is_argument(parameter) or name == TextQuery.called:
            return parameter
        (declared,) = parameter.annotation.__metadata__
        renamed = typer.Argument(help=declared.help, metavar=name, show_default=False)
        return parameter.replace(annotation=Annotated[str | None, renamed])

    return named


def _beside(command: Command) -> list[inspect.Parameter]:
    """The options of a command for its legend and the files beside its drawing; one that writes pages has a name."""
    of_all = [each for each in _parameters_of(of_a_drawing) if each.name in _BESIDE]
    of_it = [each for each in of_all if each.name != "figure" or has_figures(command.name)]
    if command.html is None:
        return of_it
    declared = typer.Option("-o", "--html", help="Where the page is written.", metavar="FILE", rich_help_panel=OUTPUT)
    html = _parameter("html", Annotated[Path, declared], Path(command.html))
    return [html if each.name == "html" else each for each in of_it]


def _one_model(ctx: typer.Context, argument: str, option: str | None) -> str:
    """The command's model, which an argument or -m may name. Raises UsageError where they name two."""
    if option is not None and argument != option and _is_given(ctx, "model"):
        raise UsageError(f"MODEL {argument!r} and -m {option} name two models", "give one of them")
    return argument if option is None else option


def _is_given(ctx: typer.Context, name: str) -> bool:
    """Whether a value of an option stands on the command line."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _view(command: Command, values: Values, given: frozenset[str], instead: str | None) -> object | None:
    """The view that a command's options shape. Raises UsageError where one asks for something else `instead` of it."""
    if command.view is None:
        return None
    own: Values = {field.name: field.value(values[field.name]) for field in _fields(command.view)}
    own |= {"given": given} if issubclass(command.view, Detailed) else {}
    view: object = command.view(**own)
    for field in _fields(command.view) if instead else ():
        if getattr(view, field.name) != field.default and field.option.envvar is None:
            raise UsageError(
                f"{spelled(field.name)} and {instead} cannot be combined: it shapes the drawing", "omit one", by="; "
            )
    return view


def _asked(command: Command, values: Values, *, of_many: bool) -> type[Query[Any]]:
    """The query that a command line asks: the command's own, or the one in whose place nothing is chosen from.

    Raises UsageError where that is of no text, and many are asked about.
    """
    if command.unless is not None:
        field, other = command.unless
        if not any(values.get(name) for name in (field, *_OF_TENSORS, "check", "dry_run")):
            if of_many:
                raise UsageError(f"{command.name} --texts runs nothing without {spelled(field)}", "add it")
            return other
    return command.planned or command.query


def _planned(query: Any) -> PlanQuery:
    """The plan of a command's query. Raises UsageError for options that do nothing, since nothing is computed."""
    for name in _OF_TENSORS:
        if getattr(query, name, None):
            raise UsageError(
                f"{spelled(name)} and --dry-run cannot be combined: a plan computes no tensors", "omit one", by="; "
            )
    return PlanQuery(model=query.model, of=query)


def _check_of_many(values: Values, output: Output) -> None:
    """Raise UsageError for what is of one report, where many are asked for."""
    for name in _BESIDE:
        if getattr(output, name):
            raise UsageError(f"--{name} and --texts cannot be combined: it is of one report", "omit one", by="; ")
    for name in ("save", "dry_run"):
        if values.get(name):
            instead = "--out DIR is where many go" if name == "save" else "omit one"
            raise UsageError(f"{spelled(name)} and --texts cannot be combined", instead)


def _query_fields(line: type[Query[Any]], values: Values, output: Output, instead: str | None = None) -> Values:
    """The fields of a query, from the options of a command line; `instead` of a text stands what that option gives."""
    fields: Values = {field.name: field.value(values.pop(field.name)) for field in _fields(line)}
    if not output.json:
        fields |= dict.fromkeys(from_width(line), environment.width())
    if issubclass(line, TextQuery):
        typed = dict(_taken(values, read_text))
        _shift(line, fields, typed)
        given = next((spelled(name) for name in line.instead_of_text if _is_set(fields[name])), None)
        if given is not None and instead is not None:
            raise UsageError(f"{given} and {instead} cannot be combined: each stands in the text's place", "omit one")
        instead = given or instead
        if instead is not None and any(each is not None for each in typed.values()):
            what = "--file" if typed["file"] is not None else "a text"
            raise UsageError(f"{what} and {instead} cannot be combined: it stands in the text's place")
        read = read_text(**typed) if instead is None else Given(LESSON)
        fields |= {"text": read.text, "special": not values.pop("no_special")}
        streams.hint(read.hint, output)
    if not issubclass(line, ModelQuery):
        return fields
    chosen = {field.name: field.value(values.pop(field.name)) for field in _model_fields(line)}
    quantized = _taken(values, choose_model)
    return {"model": choose_model(name=values.pop("model"), **quantized, **chosen), **fields}


def _shift(line: type[TextQuery[Any]], fields: Values, typed: Values) -> None:
    """Take the only argument for the one behind TEXT, where an option says what is read in the place of TEXT."""
    elsewhere = typed["file"] is not None or any(_is_set(fields[name]) for name in line.instead_of_text)
    behind = next((field.name for field in _fields(line) if field.is_argument and not field.option.first), None)
    if behind is not None and elsewhere and fields[behind] is None:
        fields[behind], typed["text"] = typed["text"], None


def _is_set(value: Any) -> bool:
    return value not in (None, False)


class _Field(Declared):
    """A field of a record that a shell can give."""

    @property
    def parameter(self) -> inspect.Parameter:
        """The field's option as Typer declares it. Values are checked by the query, in one voice, not by Typer."""
        shell, default = self.kind, self.default
        if self.option.in_order:
            shell = str
        elif self.kind == _INDICES[1]:
            shell, default = list[str], _typed(self.default)
        elif self.is_list:
            shell, default = list[str], list(self.default or ())
        elif get_origin(self.kind) is Literal or self.kind in (int, float):
            shell, default = str, default if default is None else str(default)
        if self.is_argument:
            argument = typer.Argument(help=self.option.help, metavar=self.option.metavar, show_default=False)
            return _parameter(self.name, Annotated[shell | None, argument], default)
        declared = typer.Option(
            *self.option.spelling.split("/"),
            help=self.option.help,
            show_default=not isinstance(self.default, tuple),  # of several positions the sentence says more
            metavar=self.option.metavar,
            rich_help_panel=self.option.panel,
            envvar=self.option.envvar,
            autocompletion=self._completion(),
        )
        hint = shell | None if self.optional and shell != list[str] else shell
        return _parameter(self.name, Annotated[hint, declared], default)

    def _completion(self) -> Callable[..., list[str]] | None:
        if isinstance(self.option.completes, str):
            found: Callable[..., list[str]] = getattr(completing, self.option.completes)
            return found
        choices = self.choices or self.option.completes
        return completing.choices(choices) if choices else None

    def value(self, given: Any) -> Any:
        """What was typed for a field's option, as the query has it."""
        if self.option.in_order:
            return None if given is None else ids(given, self.name)
        if self.kind in _INDICES:
            return read_indices(given, self.name)
        if self.kind in (int, float) and given is not None:
            return number(given, self.name, self.kind)
        if self.is_list and self.choices:
            return tuple(each.strip() for typed in given for each in typed.split(","))
        if self.is_list and self.optional and not given:
            return None
        return tuple(given) if self.is_list else given


def _typed(default: int | tuple[int, ...] | None) -> list[str]:
    """Positions that are meant where none are given, as they would be typed."""
    if isinstance(default, tuple):
        return [f"{default[0]}-{default[-1]}"]  # neighbours: see lens
    return [] if default is None else [str(default)]


def _fields(record: type[Any]) -> tuple[_Field, ...]:
    """The fields of a dataclass that become options."""
    return tuple(_Field(**vars(each)) for each in declared(record))


def from_width(record: type[Any]) -> list[str]:
    """The fields of a view that the width of the terminal fills."""
    hints = get_type_hints(record, include_extras=True)
    return [name for name, hint in hints.items() if FROM_WIDTH in getattr(hint, "__metadata__", ())]


@cache
def _choice_fields() -> tuple[_Field, ...]:
    """The fields of a model's choice that become options of nearly every command."""
    return _fields(ModelChoice)


def _model_fields(line: type[ModelQuery[Any]]) -> Iterator[_Field]:
    """The fields of the model's choice that become options of a command; its name is spelled by hand."""
    return (field for field in _choice_fields() if field.name not in ("name", *line.idle))


def _model_parameters(line: type[ModelQuery[Any]]) -> list[inspect.Parameter]:
    """The options of a model's choice: -m where there is a text, else the argument; then how it is loaded."""
    name = next(field for field in _choice_fields() if field.name == "name")
    settings: Any = {
        "help": name.option.help,
        "envvar": "TXINSPECT_MODEL",
        "metavar": name.option.metavar,
        "autocompletion": completing.models,
    }
    spellings = name.option.spelling.split("/")
    if issubclass(line, TextQuery):
        named = [_parameter("model", Annotated[str, typer.Option(*spellings, **settings)], name.default)]
    else:
        said = "The same, as other commands spell it."
        again = typer.Option(*spellings, metavar="MODEL", help=said, autocompletion=completing.models)
        named = [
            _parameter("model", Annotated[str, typer.Argument(**settings)], name.default),
            _parameter("model_option", Annotated[str | None, again], None),
            _parameter("ctx", typer.Context),
        ]
    flags = [] if "quantization" in line.idle else list(_parameters_of(choose_model))
    return [
        *named,
        *(field.parameter for field in _model_fields(line) if field.option.panel == WHERE),
        *flags,
        *(field.parameter for field in _model_fields(line) if field.option.panel != WHERE),
    ]


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


@cache
def _parameters_of(group: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    """The options that a function declares as its parameters, with annotations as objects instead of strings."""
    hints = get_type_hints(group, include_extras=True)
    return tuple(
        _parameter(name, hints[name], parameter.default)
        for name, parameter in inspect.signature(group).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    )


def _taken(values: Values, group: Callable[..., Any]) -> Mapping[str, Any]:
    """The values of a group of options, taken out of all."""
    return {each.name: values.pop(each.name) for each in _parameters_of(group) if each.name in values}


def _is_argument(parameter: inspect.Parameter) -> bool:
    return any(type(extra).__name__ == "ArgumentInfo" for extra in getattr(parameter.annotation, "__metadata__", ()))
