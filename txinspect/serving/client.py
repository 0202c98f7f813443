"""A question handed to the process that stays: it answers on this process's own terminal, pipes and files.

Imports the standard library alone. Whatever stands in the way, the question is answered by this process itself.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Any

from txinspect.serving import protocol

PATIENCE = 3.0
"""Seconds that a server may take to say whether it would answer; many that ask at once keep it busy."""

PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGTSTP", "SIGCONT")
"""Signals that a client hands on to the process that answers for it."""


def ask(words: list[str]) -> int | None:
    """The exit code of a question that another process answers; None where this process is to answer."""
    if not is_wanted(words):
        return None
    try:
        with connected() as server:
            return None if server is None else _asked(server, words)
    except (OSError, ValueError):
        return None


def is_wanted(words: list[str]) -> bool:
    """Whether another process may answer a command line."""
    own = words[: words.index("--")] if "--" in words else words
    if not sys.platform.startswith("linux") or os.environ.get("TXINSPECT_SERVE") == "0" or "--no-serve" in own:
        return False
    first = next((word for word in own if not word.startswith("-")), None)
    return first is not None and first not in protocol.APART and "_TXINSPECT_COMPLETE" not in os.environ


def start_next(words: list[str], variables: dict[str, str]) -> None:
    """Start a server for the next question where `variables` ask for one and none runs; what fails costs time alone."""
    if variables.get("TXINSPECT_SERVE") != "auto" or not is_wanted(words):
        return
    with suppress(OSError, ValueError):
        with connected() as server:
            if server is not None:
                return
        import subprocess

        subprocess.Popen(
            [sys.executable, "-m", "txinspect", "serve", "--quiet"],
            cwd="/",
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


@contextmanager
def connected() -> Iterator[socket.socket | None]:
    """A connection to the user's own server; None where there is none."""
    folder = protocol.folder()
    path = folder / "socket" if folder is not None else None
    if folder is None or path is None or not protocol.is_own(folder) or not protocol.is_own(path):
        yield None
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.settimeout(PATIENCE)
        try:
            server.connect(str(path))
        except OSError:
            yield None
            return
        yield server if protocol.peer(server) == os.getuid() else None


def _asked(server: socket.socket, words: list[str]) -> int | None:
    """The exit code of a question put to a server; None for one that it does not take."""
    protocol.send(server, {"stamp": protocol.stamp(), "on_cpu": "--device=cpu" in words or _follows(words)})
    heard = protocol.receive(server)
    if heard is None or not heard[0].get("ready"):
        if heard is not None and heard[0].get("why") and not {"-q", "--quiet"} & set(words):
            _say(heard[0]["why"])
        return None
    streams = [number for number in range(3) if _is_open(number)]
    try:
        os.getcwd()  # noqa: PTH109, it fails where the working directory is gone, which can be opened all the same
        here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        protocol.send(server, {"ask": question(words, streams)}, [here, *streams])
    finally:
        os.close(here)
    server.settimeout(None)  # from here on the answer is the server's: it has the streams
    _pass_on(server)
    return _ended(server)


def _follows(words: list[str]) -> bool:
    """Whether a command line says that the CPU is to compute."""
    return ("--device", "cpu") in pairwise(words)


def question(words: list[str], streams: list[int]) -> dict[str, Any]:
    """All that the answer may depend on."""
    import resource

    umask = os.umask(0o077)
    os.umask(umask)
    texts = [getattr(sys, name) for name in protocol.STREAMS]
    limits = {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")}
    return {
        "words": words,
        "streams": streams,
        "written": [[each.encoding, each.errors] if each is not None else None for each in texts],
        "variables": dict(os.environ),
        "umask": umask,
        "limits": limits,
        "ignored": [
            name
            for name in PASSED_ON
            if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_IGN
        ],
    }


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _pass_on(server: socket.socket) -> None:
    """Hand the signals that this process gets on to the one that answers; a stop stops both, and so does going on."""

    def tell(number: int, _frame: object) -> None:
        with suppress(OSError):
            protocol.send(server, {"signal": signal.SIGSTOP if number == signal.SIGTSTP else number})
        if number == signal.SIGTSTP:
            os.kill(os.getpid(), signal.SIGSTOP)

    for name in PASSED_ON:
        number = getattr(signal, name)
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, tell)


def _ended(server: socket.socket) -> int:
    """How the process that answers ended, as this one's exit code; a sentence where it was killed."""
    heard = protocol.receive(server)
    if heard is None:
        _say("the server ended before it had answered: ask again")
        return 1
    killed = heard[0].get("killed")
    if killed is None:
        return int(heard[0]["exit"])
    name = signal.Signals(killed).name if killed in list(signal.Signals) else str(killed)
    _say(f"the process that answered was ended by {name}: ask again")
    return 128 + int(killed)


def _say(sentence: str) -> None:
    with suppress(OSError):
        os.write(2, f"txinspect: {sentence}\n".encode())
