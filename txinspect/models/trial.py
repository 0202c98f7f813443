"""Trying in a process of its own what may never return, or bring this one down: a library in another language."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

Outcome = Literal["well", "panicked", "crashed", "too long", "too much"]
"""How it ended. An ordinary exception is an end that is well: here it is raised again."""

IS_SAFE = hasattr(os, "fork") and sys.platform != "darwin"
"""Whether a process can be forked: on a Mac its own frameworks may bring the child down."""

ROOM = 4 << 30
"""Bytes that the trial may take beyond what this process has."""

_PANICKED, _EXPLODED = 3, 4


_OUTCOMES: dict[int, Outcome] = {_PANICKED: "panicked", _EXPLODED: "too much"}


def attempt(work: Callable[[], bool], seconds: float) -> Outcome:
    """How some work ends, which returns whether it made no more than it may; what it prints is gone, and what it makes.

    Where a process cannot be forked in safety (on Windows, on a Mac, beside threads), the work is not tried and taken
    to end well.
    """
    if not IS_SAFE or threading.active_count() > 1:
        return "well"
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads in libraries
        child = os.fork()
    if not child:
        _work(work)
    return _outcome(child, time.monotonic() + seconds)


def _work(work: Callable[[], bool]) -> None:
    """In the child: do it, and end without what a program does at its end."""
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
    """No more memory than ROOM, where the system can be asked for that."""
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
