"""argv → Query → report on stdout; one short body per command, and the error boundary around them."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from io import StringIO
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from txinspect import __version__, options
from txinspect.errors import CheckError, InspectError, UsageError
from txinspect.options import Output, choose_model, choose_output, indices, read_text, with_groups
from txinspect.queries import (
    DEFAULT_MODEL,
    AttnQuery,
    EmbedQuery,
    ModelChoice,
    PlanQuery,
    PosQuery,
    Query,
    RunQuery,
    StagesQuery,
    TensorQuery,
    TokenizeQuery,
    TreeQuery,
)


class ErrorBoundary(TyperGroup):
    """The one place where an exception becomes a sentence on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException, KeyboardInterrupt):
            raise
        except InspectError as error:
            _complain(ctx, error, str(error))
            raise typer.Exit(error.exit_code) from None
        except Exception as error:
            advice = "; run it again with -v for the traceback" if not _is_verbose(ctx) else ""
            _complain(ctx, error, f"unexpected {type(error).__name__}: {error}{advice}")
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=ErrorBoundary,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="See what happens inside a Hugging Face causal language model: tokens, embeddings, attention, MLPs, logits.",
)


def _examples(*lines: str) -> str:
    """The end of a command's help. Rich reads [...] as markup, so brackets are escaped."""
    shown = "\n\n".join("  $ " + line.replace("[", r"\[") for line in lines)
    return f"Examples:\n\n{shown}"


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=lambda value: _version(value))
    ] = False,
) -> None:
    pass


@app.command(
    epilog=_examples(
        "txinspect tokenize",
        "txinspect tokenize 'naïve 😀' --json | jq -c '.input.tokens[] | [.id, .text]'",
        "cat story.txt | txinspect tokenize - -m facebook/opt-1.3b",
    )
)
@with_groups(text=read_text, choice=choose_model, output=choose_output)
def tokenize(
    text: str,
    choice: ModelChoice,
    output: Output,
    model: options.Model = DEFAULT_MODEL,
    no_special: options.NoSpecial = False,
) -> None:
    """Show how a text becomes tokens: ids, stored tokens, decoded text, character spans."""
    _answer(TokenizeQuery(model=replace(choice, name=model), text=text, special=not no_special), output)


@app.command(
    epilog=_examples("txinspect tree", "txinspect tree facebook/opt-1.3b --depth 3", "txinspect tree --params --expand")
)
@with_groups(choice=choose_model, output=choose_output)
def tree(
    choice: ModelChoice,
    output: Output,
    model: options.ModelArgument = DEFAULT_MODEL,
    depth: options.Depth = None,
    expand: options.Expand = False,
    params: options.Params = False,
) -> None:
    """Show the module tree: classes, shapes, parameters, bytes; from the config alone, without weights."""
    _answer(TreeQuery(model=replace(choice, name=model)), output, depth=depth, expand=expand, params=params)


@app.command(epilog=_examples("txinspect stages", "txinspect stages facebook/opt-350m --json | jq -r '.stages[].name'"))
@with_groups(choice=choose_model, output=choose_output)
def stages(choice: ModelChoice, output: Output, model: options.ModelArgument = DEFAULT_MODEL) -> None:
    """List the stages of a model's forward pass, which module supplies each, and why others are absent."""
    _answer(StagesQuery(model=replace(choice, name=model)), output)


@app.command(
    epilog=_examples("txinspect embed", "txinspect embed 'Hello world' -m facebook/opt-1.3b --save embeddings.npz")
)
@with_groups(text=read_text, choice=choose_model, output=choose_output)
def embed(
    text: str,
    choice: ModelChoice,
    output: Output,
    model: options.Model = DEFAULT_MODEL,
    no_special: options.NoSpecial = False,
    values: options.Values = False,
    save: options.Save = None,
    check: options.Check = False,
    dry_run: options.DryRun = False,
) -> None:
    """Show the token embeddings of a text."""
    _answer(
        EmbedQuery(
            model=replace(choice, name=model), text=text, special=not no_special, values=values, save=save, check=check
        ),
        output,
        dry_run=dry_run,
    )


@app.command(
    epilog=_examples("txinspect pos", "txinspect pos 'Hello world' --json --values | jq '.tensors[0].values[0][0][:4]'")
)
@with_groups(text=read_text, choice=choose_model, output=choose_output)
def pos(
    text: str,
    choice: ModelChoice,
    output: Output,
    model: options.Model = DEFAULT_MODEL,
    no_special: options.NoSpecial = False,
    values: options.Values = False,
    save: options.Save = None,
    check: options.Check = False,
    dry_run: options.DryRun = False,
) -> None:
    """Show the position embeddings of a text, or what the model has in their place."""
    _answer(
        PosQuery(
            model=replace(choice, name=model), text=text, special=not no_special, values=values, save=save, check=check
        ),
        output,
        dry_run=dry_run,
    )


@app.command(
    epilog=_examples(
        "txinspect attn --layer 0",
        "txinspect attn 'the cat sat on the mat' --layer 2 --head 0,2-3",
        "txinspect attn --layer 0 --skip-norm --save layer0.safetensors",
    )
)
@with_groups(text=read_text, choice=choose_model, output=choose_output)
def attn(
    text: str,
    choice: ModelChoice,
    output: Output,
    model: options.Model = DEFAULT_MODEL,
    no_special: options.NoSpecial = False,
    layer: options.Layer = 0,
    head: options.Heads = [],  # noqa: B006 - Typer copies it
    query: options.Queries = [],  # noqa: B006
    skip_norm: options.SkipNorm = False,
    values: options.Values = False,
    save: options.Save = None,
    check: options.Check = False,
    dry_run: options.DryRun = False,
) -> None:
    """Show one layer's self-attention: input, q, k, v, scores, weights, context, output, and a heatmap per head."""
    _answer(
        AttnQuery(
            model=replace(choice, name=model),
            text=text,
            special=not no_special,
            layer=layer,
            heads=indices(head, "head"),
            queries=indices(query, "query"),
            skip_norm=skip_norm,
            values=values,
            save=save,
            check=check,
        ),
        output,
        dry_run=dry_run,
    )


@app.command(
    epilog=_examples(
        "txinspect run --stage 'layers.*.output' --stage logits",
        "txinspect run 'Hello world' --stage '**.q_proj' --json | jq '.tensors[] | [.name, .stats.l2]'",
    )
)
@with_groups(text=read_text, choice=choose_model, output=choose_output)
def run(
    text: str,
    choice: ModelChoice,
    output: Output,
    stage: options.Stages,
    model: options.Model = DEFAULT_MODEL,
    no_special: options.NoSpecial = False,
    values: options.Values = False,
    save: options.Save = None,
    check: options.Check = False,
    dry_run: options.DryRun = False,
) -> None:
    """Run the model and show any stages of the pass, by name, glob or module path."""
    _answer(
        RunQuery(
            model=replace(choice, name=model),
            text=text,
            special=not no_special,
            stages=tuple(stage),
            values=values,
            save=save,
            check=check,
        ),
        output,
        dry_run=dry_run,
    )


@app.command(
    epilog=_examples(
        "txinspect plan -m facebook/opt-1.3b",
        "txinspect plan -m facebook/opt-1.3b --stage layers.3.output --8bit",
        "txinspect plan --stage logits --json | jq .loading.memory_bytes",
    )
)
@with_groups(text=read_text, choice=choose_model, output=choose_output)
def plan(
    text: str,
    choice: ModelChoice,
    output: Output,
    stage: options.Stages = ["logits"],  # noqa: B006 - Typer copies it
    model: options.Model = DEFAULT_MODEL,
    no_special: options.NoSpecial = False,
) -> None:
    """Say what running a model to some stages would read: files, bytes of disk, download and memory; load nothing."""
    query = RunQuery(model=replace(choice, name=model), text=text, special=not no_special, stages=tuple(stage))
    _answer(query, output, dry_run=True)


@app.command(epilog=_examples("txinspect schema attn", "txinspect schema | jq '.\"$defs\" | keys'"))
def schema(
    command: Annotated[
        str | None, typer.Argument(help="The command; all of them if left away.", autocompletion=lambda: _reporting())
    ] = None,
    json: options.Json = False,
) -> None:
    """Print the JSON Schema of a command's report."""
    from txinspect import records

    if command is not None and command not in records.REPORTS:
        raise typer.BadParameter(f"{command!r} has no report: give one of {', '.join(records.REPORTS)}")
    _write(records.schema_json(command))


def _answer(query: Query, output: Output, *, dry_run: bool = False, **show: Any) -> None:
    """Answer a query on stdout, or plan it: as JSON, or as tables drawn with the options in `show`."""
    from txinspect.inspecting import inspect
    from txinspect.records import to_json

    if dry_run:
        query = PlanQuery(model=query.model, of=cast(TensorQuery, query))
    if getattr(query, "values", False) and not output.json:
        raise UsageError("--values puts the numbers into the JSON: add --json, or --save FILE to have them in a file")
    # What a model's own code prints is not the report.
    with _progress(output) as notify, redirect_stdout(sys.stderr):
        report = inspect(query, notify)
    if output.json:
        _write(to_json(report) + b"\n")
    else:
        from rich.console import Console

        from txinspect.render import render

        drawn = StringIO()
        terminal = Console()
        console = Console(
            file=drawn,
            width=terminal.width,
            color_system=cast(Any, terminal.color_system),
            force_terminal=terminal.is_terminal,
            no_color=terminal.no_color,
            legacy_windows=terminal.legacy_windows,
            highlight=False,
        )
        render(report, console, **show)
        _write(drawn.getvalue().encode(terminal.encoding, "replace"))
    checks = getattr(report, "checks", None) or ()
    failed = [check.detail for check in checks if check.passed is False]
    if failed:
        raise CheckError(f"a check did not hold: {failed[0]}")


def _write(content: bytes) -> None:
    """Bytes straight to stdout: a terminal's width never trims or wraps JSON."""
    if sys.stdout is None:
        raise InspectError("standard output is closed: there is nowhere to write the report")
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        _close_stdout()
        raise typer.Exit(0) from None
    except OSError as error:
        _close_stdout()
        raise InspectError(f"standard output could not be written: {error.strerror}") from error


@contextmanager
def _progress(output: Output) -> Iterator[Callable[[str], None]]:
    """What is going on, on stderr, while it goes on; only on a terminal."""
    if output.quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.text import Text

    # The stream itself: loading turns sys.stderr away from what transformers says.
    with Console(file=sys.stderr).status("") as status:
        # Naming the spinner anew draws at once: a short step is seen, too.
        yield lambda message: status.update(Text(message + " …"), spinner="dots")


def _version(value: bool) -> None:
    if value:
        typer.echo(f"txinspect {__version__}")
        raise typer.Exit()


def _reporting() -> list[str]:
    from txinspect.records import REPORTS

    return list(REPORTS)


def _is_verbose(ctx: typer.Context) -> bool:
    return bool((ctx.find_root().obj or {}).get("verbose"))


def _complain(ctx: typer.Context, error: Exception, sentence: str) -> None:
    """One sentence on stderr, and before it the traceback where -v asked for it."""
    if _is_verbose(ctx):
        traceback.print_exception(error)
    from txinspect.render.glyphs import visible

    sentence = visible(" ".join(sentence.split()))
    typer.secho(f"txinspect: {sentence}", err=True, fg="red" if sys.stderr.isatty() else None)


def _close_stdout() -> None:
    """Point stdout nowhere, so that nothing more is written when the interpreter flushes it at exit."""
    if sys.stdout is None:
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
