"""Trying in a process of its own what may never return, or bring this one down: a library in another language.

The process is forked, which takes a millisecond; beside threads, whose locks a fork would copy as they are, and where
nothing can be forked, it is started anew.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Literal

Outcome = Literal["well", "panicked", "crashed", "too long", "too much"]
"""How it ended. An ordinary exception is an end that is well: here it is raised again."""

IS_SAFE = hasattr(os, "fork") and sys.platform != "darwin"
"""Whether a process can be forked: on a Mac its own frameworks may bring the child down."""

ROOM = 3 << 29
"""Bytes that the trial may take beyond what this process has."""

_PANICKED, _EXPLODED = 3, 4

START = 10.0
"""Seconds that a process may take to start, beyond those of its work."""


_OUTCOMES: dict[int, Outcome] = {_PANICKED: "panicked", _EXPLODED: "too much"}


def attempt(work: Callable[[], bool], seconds: float, told: partial[bool] | None = None) -> Outcome:
    """How a trial of some work in its own process ends; what it prints and makes is gone.

    Beside threads, and where nothing can be forked in safety (on Windows, on a Mac), the same work is `told` to a
    process that is started: a module's own function with plain values. It is the work itself, if not told otherwise.
    """
    if not IS_SAFE or threading.active_count() > 1:
        told = told or (work if isinstance(work, partial) else None)
        assert told is not None, "a process that is started can be told plain values alone"
        return _started(told, seconds)
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads in libraries
        child = os.fork()
    if not child:
        _work(work)
    return _outcome(child, time.monotonic() + seconds)


_CODE = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from txinspect.guards import trial; trial.serve()"
"""In a process that is started, isolated from its directory and environment until it has this one's own path."""


def _started(work: partial[bool], seconds: float) -> Outcome:
    """Try some work in a process that is started anew: how it ends."""
    told = json.dumps([work.func.__module__, work.func.__qualname__, work.args, work.keywords])
    command = [sys.executable, "-I", "-c", _CODE, json.dumps(sys.path)]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        done = subprocess.run(
            command, input=told.encode(), timeout=seconds + START, check=False, close_fds=True, **quiet
        )
    except subprocess.TimeoutExpired:
        return "too long"
    except OSError:  # no interpreter of its own, as where Python is embedded
        return "well"
    return "crashed" if done.returncode < 0 else _OUTCOMES.get(done.returncode, "well")


def serve() -> None:
    """In a process that was started for a trial: do what standard input tells."""
    module, name, arguments, options = json.loads(sys.stdin.buffer.read())
    _work(partial(getattr(importlib.import_module(module), name), *arguments, **options))


def _work(work: Callable[[], bool]) -> None:
    """In the child process of a trial: do the work, and end without what a program does at its end."""
    status = 0
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        _limit_memory()
        status = 0 if work() else _EXPLODED
    except Exception:
        status = 0
    except BaseException:  # pyo3's PanicException is no Exception
        status = _PANICKED
    finally:
        os._exit(status)


def _limit_memory() -> None:
    """Limit a trial's process to no more memory than ROOM, where the system can be asked for that."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(open("/proc/self/statm", encoding="ascii").read().split()[0])  # noqa: SIM115, PTH123
        most = pages * resource.getpagesize() + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _outcome(child: int, until: float) -> Outcome:
    pause = 0.0005
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            if os.WIFSIGNALED(status):
                return "crashed"
            return _OUTCOMES.get(os.WEXITSTATUS(status), "well")
        time.sleep(pause)
        pause = min(0.05, pause * 1.5)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "too long"
