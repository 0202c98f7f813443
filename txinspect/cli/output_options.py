"""The options of how a report is shown, which stand before the command, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from txinspect.cli import beside, completing
from txinspect.cli.appearance import WHEN
from txinspect.cli.streams import Output
from txinspect.errors import UsageError
from txinspect.option import OUTPUT
from txinspect.render.figures import FIGURES
from txinspect.value_checks import check_one_of


def _verbose(ctx: typer.Context, value: bool) -> bool:
    ctx.find_root().ensure_object(dict)["verbose"] = value
    return value


def _when(value: str) -> str:
    check_one_of("color", value, WHEN)
    return value


Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.", rich_help_panel=OUTPUT)]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing on stderr but errors.", rich_help_panel=OUTPUT)]
Verbose = Annotated[
    bool,
    typer.Option("-v", "--verbose", help="Show a traceback on errors.", callback=_verbose, rich_help_panel=OUTPUT),
]
Color = Annotated[
    str,
    typer.Option(
        "--color",
        help="Colours: auto (on a terminal, unless NO_COLOR is set), always or never.",
        metavar="WHEN",
        callback=_when,
        autocompletion=completing.choices(WHEN),
        rich_help_panel=OUTPUT,
    ),
]
Legend = Annotated[
    bool,
    typer.Option("--legend", help="Say below the drawing what the words on it mean.", rich_help_panel=OUTPUT),
]
Picture = Annotated[
    Path | None,
    typer.Option(
        "--picture", help="Write the drawing to FILE.svg or FILE.png.", metavar="FILE", rich_help_panel=OUTPUT
    ),
]
Figure = Annotated[
    bool,
    typer.Option(
        "--figure",
        help="Draw --picture as a figure for a paper, not as the terminal does; FILE.pdf always is one.",
        rich_help_panel=OUTPUT,
    ),
]
Csv = Annotated[
    Path | None,
    typer.Option("--csv", help="Write the rows, exact, to FILE.csv.", metavar="FILE", rich_help_panel=OUTPUT),
]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html",
        help="Write a page to look at it in a browser, which needs no network, to FILE.html.",
        metavar="FILE",
        rich_help_panel=OUTPUT,
    ),
]
Open = Annotated[
    bool, typer.Option("--open", help="Show the page that --html writes in a browser.", rich_help_panel=OUTPUT)
]
NoPager = Annotated[
    bool,
    typer.Option("--no-pager", help="Show what is longer than the terminal without a pager.", rich_help_panel=OUTPUT),
]
NoServe = Annotated[
    bool,
    typer.Option(
        "--no-serve",
        help="Answer in this process, not in the one that 'txinspect serve' keeps.",
        rich_help_panel=OUTPUT,
    ),
]


def choose_output(
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    color: Color = "auto",
    no_pager: NoPager = False,
    no_serve: NoServe = False,
) -> Output:
    """How to show the report; its appearance was read before all options, and who answers before all else."""
    return Output(json=json, quiet=quiet, verbose=verbose)


def has_figures(command: str) -> bool:
    """Whether a command's report can be shown as a figure, too."""
    return command in FIGURES


def of_a_drawing(
    output: Output,
    command: str,
    *,
    dry_run: bool = False,
    legend: Legend = False,
    picture: Picture = None,
    figure: Figure = False,
    csv: Csv = None,
    html: Html = None,
    open: Open = False,
) -> Output:
    """How to show a report that is drawn: with a legend below, as a picture, too. Raises UsageError beside JSON.

    Raises InspectError for a picture, rows or a page that cannot be written.
    """
    if legend and output.json:
        raise UsageError(
            "--legend and --json cannot be combined: the JSON has no drawing; 'txinspect schema' explains it"
        )
    figure = beside.is_figure(picture, figure, command, planned=dry_run)
    if picture is not None:
        beside.check_picture(picture, command, figure=figure)
    if csv is not None:
        beside.check_csv(csv)
    if html is not None:
        beside.check_html(html)
    if open and html is None:
        raise UsageError("--open shows a page", "add --html FILE, or omit it")
    return replace(output, legend=legend, picture=picture, figure=figure, csv=csv, html=html, open=open)
