"""A child of the process that stays: it takes the client's place, runs the command line, and ends."""

from __future__ import annotations

import ctypes
import importlib
import io
import json
import locale
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from txinspect import inspecting
from txinspect.answers.session import Session
from txinspect.serving import client, protocol
from txinspect.serving.kept import Kept, kept_of

threads = 1
"""That torch computes on where nobody says otherwise: its number changes last bits."""

_DIES_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""

_TRUSTED = ("torch", "transformers", "txinspect", "rich", "numpy", "tokenizers", "safetensors", "huggingface_hub")
"""Packages whose modules are imported ahead for the next question: never code of a model's own."""


@dataclass(frozen=True)
class Needed:
    """What a question needed that its process did not have."""

    modules: tuple[str, ...] = ()
    kept: Kept | None = None
    """The model that it was about."""


def answer(
    run: Callable[[list[str]], None], ask: dict[str, Any], descriptors: Sequence[int], tells: int, session: Session
) -> None:
    """Answer a client's question in its place, in a session, and end this process with the exit code."""
    code, folder = 1, ""
    before = set(sys.modules)
    try:
        _take_place(ask, descriptors)
        with suppress(OSError):
            folder = os.getcwd()  # noqa: PTH109, a string
        try:
            with inspecting.holding(session):
                run(ask["words"])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        _flush()
        _tell(tells, before, kept_of(session, folder) if not code and folder else None)
    finally:
        os._exit(code)


def die_with_parent() -> None:
    """Have the system end this process when its parent ends."""
    ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)


def _take_place(ask: dict[str, Any], descriptors: Sequence[int]) -> None:
    """Take a client's streams, folder, variables, limits and signals for this process's own."""
    die_with_parent()
    os.setsid()
    here, *streams = descriptors
    os.fchdir(here)
    for number in range(3):
        with suppress(OSError):
            os.close(number)
    for number, stream in zip(ask["streams"], streams, strict=True):
        os.dup2(stream, number)
    os.environ.clear()
    os.environ.update(ask["variables"])
    os.umask(ask["umask"])
    for name, (soft, hard) in ask["limits"].items():
        with suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (soft, hard))
    for name in client.PASSED_ON:
        ignored = name in ask["ignored"]
        signal.signal(getattr(signal, name), signal.SIG_IGN if ignored else signal.SIG_DFL)
    if "SIGINT" not in ask["ignored"]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with suppress(locale.Error):
        locale.setlocale(locale.LC_CTYPE, "")
    read_again()
    _open_streams(ask["streams"], ask["written"])
    sys.argv[1:] = ask["words"]
    import torch

    torch.set_num_threads(threads)


def read_again() -> None:
    """Have huggingface_hub read its variables again, which it did when it was imported, and whoever took them over."""
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is None:
        return
    before = dict(vars(constants))
    now = vars(importlib.reload(constants))
    other = {name: value for name, value in before.items() if name.isupper() and now[name] != value}
    if not other:
        return
    for name, module in list(sys.modules.items()):
        if name.startswith(("huggingface_hub.", "transformers.")):
            for each in other.keys() & vars(module).keys():
                setattr(module, each, now[each])


def _open_streams(given: Sequence[int], written: Sequence[Any]) -> None:
    """Open stdin, stdout and stderr as the client's interpreter had them."""
    for number, (name, mode) in enumerate(zip(protocol.STREAMS, ("rb", "wb", "wb"), strict=True)):
        stream = None
        if number in given and written[number] is not None:
            raw = open(number, mode, closefd=False)  # noqa: SIM115
            encoding, errors = written[number]
            newline = "\n" if name != "stdin" else None
            at_once = name == "stderr" or raw.isatty()
            stream = io.TextIOWrapper(raw, encoding, errors, newline=newline, line_buffering=at_once)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _flush() -> None:
    for name in protocol.STREAMS[1:]:
        with suppress(OSError, ValueError, AttributeError):
            getattr(sys, name).flush()


def _tell(tells: int, before: set[str], kept: Kept | None) -> None:
    """Tell the parent what this question needed besides."""
    names = [each for each in sys.modules if each not in before and each.partition(".")[0] in _TRUSTED]
    with suppress(OSError), open(tells, "wb", closefd=False) as told:
        told.write(json.dumps({"modules": names, "kept": kept.record if kept is not None else None}).encode())


def heard(told: int) -> Needed:
    """In the parent: what a child told it, which has ended."""
    try:
        with open(told, "rb") as file:
            file.seek(0)
            record = json.loads(file.read() or b"{}")
        kept = record.get("kept")
        return Needed(tuple(record.get("modules", ())), Kept.read(kept) if kept else None)
    except (OSError, ValueError):
        return Needed()


def import_ahead(needed: Needed) -> None:
    """In the parent: import what a child needed, for the next one. It computes nothing."""
    for name in needed.modules:
        if name not in sys.modules:
            with suppress(Exception):
                importlib.import_module(name)
