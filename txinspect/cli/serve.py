"""The command `serve`: start the process that stays, ask how it is, end it."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from txinspect.cli import streams
from txinspect.cli.output_options import Color, Json, Quiet, Verbose, choose_output
from txinspect.errors import InspectError, UsageError
from txinspect.serving import client, protocol
from txinspect.version import __version__
from txinspect.wording import short_bytes

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

_SIZES = {"MB": 10**6, "GB": 10**9, "MiB": 1 << 20, "GiB": 1 << 30}

IDLE, MEMORY = "15m", "8GB"


def serve(
    ctx: typer.Context,
    model: Annotated[
        list[str] | None,
        typer.Option("-m", "--model", help="A model to be ready for; may be repeated.", metavar="MODEL"),
    ] = None,
    idle: Annotated[
        str, typer.Option("--idle", help="End after so long without a question: 90s, 15m, 2h.", metavar="TIME")
    ] = IDLE,
    memory: Annotated[
        str, typer.Option("--memory", help="Hold models of so much at most: 500MB, 8GB.", metavar="SIZE")
    ] = MEMORY,
    status: Annotated[bool, typer.Option("--status", help="Tell of the server that runs, and start none.")] = False,
    stop: Annotated[
        bool,
        typer.Option(
            "--stop", help="End the server that runs, once it has answered; a program that changed ends it, too."
        ),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    color: Color = "auto",
) -> None:
    """Keep a process that answers the next commands at once: it has imported torch, and forks a child for each."""
    output = choose_output(json, quiet, verbose, color)
    if not sys.platform.startswith("linux"):
        raise InspectError("a process that stays is known to work on Linux alone", "commands run as they do without it")
    if status and stop:
        raise UsageError("--status and --stop cannot be combined", "give one of them")
    starting = {"--model": bool(model), "--idle": idle != IDLE, "--memory": memory != MEMORY}
    given = next((name for name, each in starting.items() if each), None)
    if (status or stop) and given:
        asked = "--status" if status else "--stop"
        raise UsageError(f"{given} and {asked} cannot be combined", f"{given} is of a server that starts: omit one")
    if status or stop:
        state = _told({"stop": stop})
        streams.show_plain(state, output, lambda: _drawn(state))
        return
    if json:
        raise UsageError("--json is about --status", "add --status, or omit it")
    from txinspect.serving.server import stay

    limits = seconds(idle), size(memory)
    stay(ctx.find_root().obj["run"], model or [], *limits, quiet=quiet)


def seconds(typed: str) -> float:
    """The seconds of a time such as 90s, 15m or 2h; a number alone is seconds. Raises UsageError for anything else."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", typed.strip())
    if match is None or not int(match[1]):
        raise UsageError(f"--idle {typed!r} is no time", "give one such as 90s, 15m or 2h")
    return float(int(match[1]) * _UNITS[match[2] or "s"])


def size(typed: str) -> int:
    """The bytes of a size such as 500MB or 8GB. Raises UsageError for anything else."""
    match = re.fullmatch(r"([0-9]{1,9})(\.[0-9]{1,3})? ?(MB|GB|MiB|GiB)", typed.strip())
    if match is None:
        raise UsageError(f"--memory {typed!r} is no size", "give one such as 500MB or 8GB")
    return int(float(match[1] + (match[2] or "")) * _SIZES[match[3]])


@dataclass(frozen=True, kw_only=True)
class State:
    """How the server is."""

    schema_version: int = 1
    txinspect: str = __version__
    command: str = "serve"
    pid: int
    seconds: float
    """Since it began."""
    idle: float
    """Seconds since it was last asked."""
    limit: float
    """Seconds without a question after which it ends."""
    questions: int
    """That were asked."""
    answering: int
    """That are being answered."""
    memory: int
    """Bytes that are its own; 0 where the system does not tell."""
    memory_limit: int
    """Bytes that the models it holds may take."""
    models: list[dict[str, Any]]
    """Those that it holds, the latest used last: name and memory in bytes."""


def _told(message: dict[str, Any]) -> State:
    """What the user's own server says. Raises InspectError where none runs."""
    with client.connected() as server:
        if server is None:
            raise InspectError("no server runs", "'txinspect serve' starts one")
        protocol.send(server, message)
        heard = protocol.receive(server)
    if heard is None:
        raise InspectError("the server ended before it said anything", "ask again")
    return State(**heard[0])


def _drawn(state: State) -> str:
    """The same in lines."""
    rows = [
        ("process", str(state.pid)),
        ("running for", _time(state.seconds)),
        ("questions", f"{state.questions} answered, {state.answering} being answered"),
        ("idle for", f"{_time(state.idle)} of {_time(state.limit)}"),
        ("memory", f"{short_bytes(state.memory)} beside models, which may take {short_bytes(state.memory_limit)}"),
        *(("model", f"{each['name']}, {short_bytes(each['memory'])}") for each in state.models),
    ]
    width = max(len(name) for name, _ in rows)
    return "".join(f"{name:{width}}  {value}\n" for name, value in rows)


def _time(seconds: float) -> str:
    """A time in words: 42 s, 3 min, 2.5 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
