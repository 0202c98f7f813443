"""What may never return is tried in a process of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from txinspect.guards import trial

pytestmark = [
    pytest.mark.skipif(not trial.IS_SAFE, reason="nothing is forked here"),
    pytest.mark.usefixtures("tried"),
]


class PanicException(BaseException):
    """What pyo3 raises is no Exception."""


def panic() -> bool:
    raise PanicException


def fail() -> bool:
    raise ValueError


def explode() -> bool:
    return bool(bytearray(1 << 40))


def crash() -> bool:
    os.kill(os.getpid(), 9)
    return True


def never_end() -> bool:
    while True:
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("work", "outcome"),
    [
        (lambda: True, "well"),
        (lambda: False, "too much"),
        (fail, "well"),
        (explode, "well"),
        (panic, "panicked"),
        (crash, "crashed"),
        (never_end, "too long"),
    ],
    ids=["true", "false", "an exception", "memory", "a panic", "a crash", "no end"],
)
def test_how_work_ends(work: Callable[[], bool], outcome: str) -> None:
    assert trial.attempt(work, 0.5) == outcome


def test_what_it_prints_is_gone(capfd: pytest.CaptureFixture[str]) -> None:
    assert trial.attempt(lambda: bool(os.write(1, b"out") + os.write(2, b"err")), 5) == "well"
    assert capfd.readouterr() == ("", "")


def test_it_leaves_no_process_behind() -> None:
    trial.attempt(never_end, 0.1)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
