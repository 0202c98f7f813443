"""The command `mcp`: the commands as tools for an agent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from txinspect.cli import completing, environment
from txinspect.cli.output_options import Color, Verbose
from txinspect.errors import InspectError, UsageError


def mcp(
    model: Annotated[
        str | None,
        typer.Option(
            "-m",
            "--model",
            help="The model of calls that name none; opt-mini if not given.",
            metavar="MODEL",
            envvar="TXINSPECT_MODEL",
            autocompletion=completing.models,
        ),
    ] = None,
    allow: Annotated[
        list[Path] | None,
        typer.Option("--allow", help="A folder that may be read and written; may be repeated.", metavar="DIR"),
    ] = None,
    verbose: Verbose = False,
    color: Color = "auto",
) -> None:
    """Give an agent the commands as tools, over the Model Context Protocol on standard input and output."""
    missing = next((each for each in allow or () if not each.is_dir()), None)
    if missing is not None:
        raise UsageError(f"--allow {str(missing)!r} is no folder", "give one that is there")
    stdin = environment.current().stdin
    if stdin is not None and stdin.isatty():
        raise UsageError(
            "'txinspect mcp' speaks with an agent, and standard input is a terminal",
            "let the agent start it, such as by 'claude mcp add txinspect -- txinspect mcp'",
        )
    try:
        import mcp.server.stdio  # noqa: F401, it is an extra
    except ImportError as error:
        raise InspectError(
            f"the package {error.name!r} is not installed", "pip install 'txinspect[mcp]' brings it"
        ) from None
    from txinspect.agents.server import stay

    stay(model, allow or ())
