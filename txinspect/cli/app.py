"""argv → Query → report on stdout: the commands as declared, and the error boundary around them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from txinspect import commands
from txinspect.cli import (
    again,
    appearance,
    before,
    completing,
    environment,
    help_pages,
    manual,
    parse_errors,
    shells,
    streams,
)
from txinspect.cli.command_line import CommandLine, help_of, long_of, option_named
from txinspect.cli.greeting import EXAMPLES, greeting
from txinspect.cli.mcp import mcp
from txinspect.cli.output_options import Color, Json, NoPager, NoServe, Quiet, Verbose, choose_output
from txinspect.cli.serve import serve
from txinspect.cli.shell import shell
from txinspect.cli.streams import Output
from txinspect.errors import CheckError, InspectError, Said, Spell, UsageError, spelling
from txinspect.version import __version__, untested
from txinspect.wording import some_of

if TYPE_CHECKING:
    from txinspect.queries import Query


class ErrorBoundary(TyperGroup):
    """The one place where an exception becomes a sentence on stderr and an exit code."""

    def built(self, name: str) -> Any:
        """A command of the app with its options, or what the list of commands has of it; None for an unknown name."""
        if name in commands.LISTED:
            return self._build(name)
        return self.commands.get(name)

    @staticmethod
    def _build(name: str) -> Any:
        from txinspect.cli.building import built

        return built(name, _answer)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the app is asked for, which is built now, and told of the options before it."""
        if args and args[0] not in self.commands and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise parse_errors.NoSuchCommand(args[0])
        name, listed, rest = super().resolve_command(ctx, args)
        command = listed if name is None else self.built(name)
        told = [] if ctx.resilient_parsing else before.words_for(command, ctx.params)
        return name, command, [*told, *rest]

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Parse the app's own options; one that names a shell means the running one where it stands last."""
        running = args[-1:] in (["--install-completion"], ["--show-completion"])
        rest = super().parse_args(ctx, [*args, shells.RUNNING] if running else args)
        if ctx.params.get("version") and not ctx.resilient_parsing:
            _version(ctx.params)
            raise typer.Exit
        return rest

    def get_help(self, ctx: Any) -> str:
        """Show the list of commands, which is all that is done."""
        help_pages.show(help_pages.of_app(self, ctx, _groups(), EXAMPLES))
        raise typer.Exit

    def make_context(self, info_name: str | None, args: list[str], *parent: Any, **settings: Any) -> Any:
        """Parse what stands before the command, inside the error boundary."""
        streams.forget_impossible_sizes()
        try:
            with spelling(lambda name, _: option_named(name)):
                if not settings.get("resilient_parsing"):  # where a line is completed nobody is told what is wrong
                    appearance.read(args)
                return super().make_context(info_name, args, *parent, **settings)
        except InspectError as error:
            streams.complain(error.said())
            raise typer.Exit(error.exit_code) from None
        except typer.TyperException as error:
            streams.complain(self._parse_error(error, None))
            raise typer.Exit(error.exit_code) from None

    def invoke(self, ctx: Any) -> Any:
        """Run the command inside the error boundary: an exception becomes a sentence and an exit code."""
        try:
            with spelling(self._spell(ctx)):
                return super().invoke(ctx)
        except (typer.Exit, typer.Abort, KeyboardInterrupt):
            raise
        except typer.TyperException as error:
            self._complain(ctx, error, self._parse_error(error, ctx.invoked_subcommand))
            raise typer.Exit(error.exit_code) from None
        except InspectError as error:
            self._complain(ctx, error, error.said())
            raise typer.Exit(error.exit_code) from None
        except Exception as error:
            self._complain(ctx, error, _foreseen(error) or _unforeseen(error, verbose=_is_verbose(ctx)))
            raise typer.Exit(1) from None

    def _parse_error(self, error: typer.TyperException, name: str | None) -> Said:
        return parse_errors.said_of(error, name, self._options, list(self.commands))

    def _options(self, name: str | None) -> list[Any]:
        command = self if name is None else self.built(name)
        return list(command.params) if command is not None else []

    def _spell(self, ctx: Any) -> Spell:
        """How the fields of a query are spelled as options of the command that is asked."""
        from shlex import quote

        options: dict[str, str] = {}

        def spell(name: str, value: object) -> str:
            if name == "special":
                return "--no-special"
            if name == "quantization":
                return f"--{value}" if value else "--8bit or --4bit"
            if not options:  # the command is not known before it is invoked
                options.update({each.name: long_of(each) for each in self._options(ctx.invoked_subcommand)})
            option = options.get(name) or option_named(name)
            values = value if isinstance(value, tuple) else () if value in (None, True) else (value,)
            return " ".join(f"{option} {quote(str(each))}" for each in values) or option

        return spell

    @staticmethod
    def _complain(ctx: typer.Context, error: Exception, said: Said) -> None:
        """Complain of an error on stderr, after the traceback where -v asked for it."""
        if _is_verbose(ctx):
            streams.trace(error)
        streams.complain(said)


def _foreseen(error: Exception) -> Said | None:
    """What is said of an exception whose cause is the program's place or missing packages; None for any other."""
    if isinstance(error, FileNotFoundError) and _is_adrift():
        return InspectError("the working directory is gone", "change to one that is there").said()
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in _needed():
        return InspectError(
            f"the package {error.name!r} is not installed",
            "'pip install txinspect' brings all that it needs, about 1.3 GB with the CPU build of torch",
        ).said()
    return None


def _needed() -> set[str]:
    """The packages that a plain install of txinspect brings."""
    from importlib.metadata import requires

    plain = (each for each in requires("txinspect") or () if "extra ==" not in each)
    return {re.split(r"[^\w-]", each, maxsplit=1)[0].replace("-", "_") for each in plain}


def _unforeseen(error: Exception, *, verbose: bool) -> Said:
    newer = untested()
    advice = [f"{newer}: an older one may work"] if newer else []
    advice += ["run it again with -v for the traceback"] if not verbose else []
    wrong, hint = f"unexpected {type(error).__name__}: {error}", "; ".join(advice) or None
    return Said(wrong if hint is None else f"{wrong}; {hint}", wrong, hint)


def _is_adrift() -> bool:
    """Whether the working directory was deleted, which explains an exception: transformers cannot be imported there."""
    return environment.current().directory is None


def _is_verbose(ctx: typer.Context) -> bool:
    return bool((ctx.find_root().obj or {}).get("verbose"))


app = typer.Typer(
    cls=ErrorBoundary,
    add_completion=False,  # its options take no shell's name: see shells
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="See what happens inside a Hugging Face transformer, from tokens to logits. "
    "tokenize, models, env, schema and help answer at once, and params reads files without torch; the others import "
    "torch and transformers first, for some seconds.",
)


def _of_a_shell(spelling: str, sentence: str) -> Any:
    """An option of the app that names a shell, such as --install-completion."""
    return typer.Option(
        spelling,
        rich_help_panel="Completion",
        help=f"{sentence}: {some_of(shells.SHELLS, len(shells.SHELLS))}; the running one if not named.",
        metavar="[SHELL]",
        autocompletion=completing.choices(shells.SHELLS),
    )


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", "-V", help="Show the version; with -v, what 'txinspect env' does."),
    ] = False,
    install_completion: Annotated[str | None, _of_a_shell("--install-completion", "Make a shell complete")] = None,
    show_completion: Annotated[str | None, _of_a_shell("--show-completion", "Print what makes it complete")] = None,
    json: Annotated[bool, before.as_before(Json)] = False,
    quiet: Annotated[bool, before.as_before(Quiet)] = False,
    verbose: Annotated[bool, before.as_before(Verbose)] = False,
    color: Annotated[str, before.as_before(Color)] = "auto",
    no_pager: Annotated[bool, before.as_before(NoPager)] = False,
    no_serve: Annotated[bool, before.as_before(NoServe)] = False,
    offline: Annotated[bool, before.as_before(before.Offline)] = False,
) -> None:
    """Say where to begin when no command is given."""
    if install_completion is not None:
        streams.say(f"{shells.install_for(install_completion)}\n")
        raise typer.Exit
    if show_completion is not None:
        streams.say(f"{shells.script(show_completion)}\n")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        before.check_is_for_nothing(ctx.params)
        streams.say(greeting({title: [str(each.name) for each in of] for title, of in _groups().items()}))


def _groups() -> dict[str, list[Any]]:
    """The app's commands by group, in the order of the help."""
    groups: dict[str, list[Any]] = {}
    for each in app.registered_commands:
        groups.setdefault(str(each.rich_help_panel), []).append(each)
    return groups


def _version(given: Mapping[str, Any]) -> None:
    """The version; with -v, what surrounds it."""
    before.check_is_for_nothing({**given, "json": False})
    if given["json"] and not given["verbose"]:
        raise UsageError("--json and --version cannot be combined", "give -v, too, or txinspect env --json")
    if given["verbose"]:
        _show_surroundings(Output(json=given["json"], quiet=given["quiet"], verbose=True))
    else:
        streams.say(f"txinspect {__version__}\n")


def _show_surroundings(output: Output) -> None:
    from txinspect.cli.env import drawn, surroundings

    seen = surroundings()
    streams.show_plain(seen, output, lambda: drawn(seen))


def _answer(query: Query[Any], output: Output, view: object | None) -> None:
    """Answer a command's query with its report on stdout."""
    with streams.reserved(), streams.progress(output) as told:
        report, attentions = again.answered(query, told, for_page=output.html is not None)
    streams.show(report, output, view, attentions)
    failed = [check.detail for check in getattr(report, "checks", None) or () if check.passed is False]
    if failed:
        raise CheckError(f"a check did not hold: {failed[0]}")


def _reporting() -> list[str]:
    return list(commands.NAMES)


def env(
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    color: Color = "auto",
    no_pager: NoPager = False,
    no_serve: NoServe = False,
) -> None:
    """Show what a bug report needs: versions, the machine, the terminal, and the variables that change what is done."""
    _show_surroundings(choose_output(json, quiet, verbose, color, no_pager))


def schema(
    command: Annotated[
        str | None,
        typer.Argument(
            metavar="COMMAND", help="The command; all of them if not given.", autocompletion=lambda: _reporting()
        ),
    ] = None,
    color: Color = "auto",
) -> None:
    """Print the JSON Schema of a command's report."""
    if command is not None and command not in commands.NAMES:
        raise UsageError(f"{command!r} has no report", f"give one of {', '.join(commands.NAMES)}")
    from txinspect.commands.schema import schema_json

    streams.write(schema_json(command))


def help(
    ctx: typer.Context,
    about: Annotated[
        str | None,
        typer.Argument(
            metavar="[COMMAND|TOPIC]",
            help=f"A command, or a page of the manual ({', '.join(manual.TOPICS)}); all commands if not given.",
            autocompletion=lambda: [*_commands(), *manual.TOPICS],
        ),
    ] = None,
    color: Color = "auto",
    no_pager: NoPager = False,
) -> None:
    """Show what a command does and takes, or a page of the manual."""
    if about in manual.TOPICS:
        manual.show(about)
        return
    if about is not None and about not in _commands():
        raise UsageError(
            f"{about!r} is neither a command nor a page of the manual",
            f"give one of {', '.join(manual.TOPICS)}, or a command ('txinspect --help' lists them)",
        )
    named = [] if about is None else [about]
    app([*appearance.asked().words, *named, "--help"], prog_name=ctx.find_root().info_name)


def _commands() -> list[str]:
    return [str(each.name) for each in app.registered_commands]


def _by_itself() -> None:
    """Stands in the place of a command in the app's list of commands."""


def _list(name: str, group: commands.Group, function: Callable[..., None], help: str) -> None:
    """Put a command into the app's list of commands."""
    app.command(name, cls=CommandLine, rich_help_panel=group, help=help)(function)


for _name, _listed in commands.LISTED.items():
    _list(_name, _listed.group, _by_itself, _listed.sentence)
_list("env", "Machines", env, help_of(env.__doc__ or "", ("txinspect env", "txinspect env --json | jq .packages")))
_list(
    "schema",
    "Machines",
    schema,
    help_of(schema.__doc__ or "", ("txinspect schema attn", "txinspect schema | jq '.\"$defs\" | keys'")),
)
_list(
    "serve",
    "Machines",
    serve,
    help_of(serve.__doc__ or "", ("txinspect serve", "txinspect serve -m gpt2 --idle 2h", "txinspect serve --status")),
)
_list(
    "shell",
    "Machines",
    shell,
    help_of(
        shell.__doc__ or "",
        (
            "txinspect shell",
            "txinspect shell -m transformer-mini",
            "txinspect shell < script.txt",
        ),
    ),
)
_list(
    "mcp",
    "Machines",
    mcp,
    help_of(mcp.__doc__ or "", ("txinspect mcp", "claude mcp add txinspect -- txinspect mcp -m gpt2 --allow .")),
)
_list(
    "help",
    "Machines",
    help,
    help_of(help.__doc__ or "", ("txinspect help", "txinspect help attn", "txinspect help tutorial")),
)
