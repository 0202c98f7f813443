"""The command line, run on a stranger's model: in this process, or in one of its own."""

from __future__ import annotations

import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from tests.making.strangers.judging import Said

PATIENCE = float(os.environ.get("STRANGERS_PATIENCE", "120"))
"""Seconds after which what runs is ended: it hangs."""

MEMORY = 8 << 30
"""Bytes that a process of its own may take, beyond what is mapped from files."""


def run_here(run: Callable[..., Any], arguments: tuple[str, ...]) -> Said:
    """Run the command line in this process, with an end for what has none, where Python's own code runs on and on."""
    with _watched() as rung:
        result = run(*arguments)
    return Said(None if rung else result.exit_code, result.stdout, result.stderr)


@contextmanager
def _watched() -> Iterator[list[int]]:
    """Stop the block after PATIENCE; the list is empty until then, whoever catches the error."""
    rung: list[int] = []

    def stop(number: int, _: object) -> None:
        rung.append(number)
        raise TimeoutError("it does not end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield rung
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_apart(arguments: tuple[str, ...], folder: Path) -> Said:
    """Run the command line in a process of its own, in `folder`, which has imported everything before it begins."""
    context = get_context("forkserver")
    context.set_forkserver_preload(
        [
            *("torch", "transformers", "peft", "gguf", "txinspect.cli.app"),
            *("transformers.models.opt.modeling_opt", "transformers.models.llama.modeling_llama"),
        ]
    )
    process = context.Process(target=_command, args=(arguments, str(folder), dict(os.environ)))
    process.start()
    process.join(PATIENCE)
    running = process.is_alive()
    if running:
        process.kill()
        process.join()
    stdout, stderr = ((folder / name).read_bytes().decode("utf-8", "replace") for name in ("stdout", "stderr"))
    return Said(None if running else int((folder / "ended").read_text()), stdout, stderr)


def _command(arguments: tuple[str, ...], folder: str, environment: dict[str, str]) -> None:
    """The command line in this process, its output in files, under a watch that says when it ended."""
    from txinspect.__main__ import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        Path("ended").write_text(str(os.waitstatus_to_exitcode(status)))
        os._exit(0)
    os.setpgid(0, 0)
    _die_with_parent()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number, name in (1, "stdout"), (2, "stderr"):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    torch.set_num_threads(1)
    sys.argv = ["txinspect", *arguments]
    code = 70
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:  # a panic of a library in Rust is no Exception
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _die_with_parent() -> None:
    """Have the kernel end this process when the one that watches it is ended."""
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
