"""Children that answer: forked for a question, told the signals of its client, missed when they end."""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from txinspect.answers.session import Session
from txinspect.serving import child, protocol

GRACE = 3.0
"""Seconds that a child has to end after its client did."""


@dataclass
class Answering:
    """A child, and who waits for it."""

    pid: int
    client: socket.socket
    told: int
    """Where it tells what it needed."""
    kill_at: float | None = None


class Children:
    """Forks a child for each question, and looks after them in a loop that its owner turns."""

    def __init__(self, run: Callable[[list[str]], None], ended: Callable[[child.Needed], None]) -> None:
        self.run, self.ended = run, ended
        self.answering: dict[int, Answering] = {}
        self.selector = selectors.DefaultSelector()
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.selector.register(self._woken, selectors.EVENT_READ, self._awake)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def turn(self, seconds: float) -> None:
        """Wait for something to happen, so many seconds at most, and do what it asks for."""
        now = time.monotonic()
        due = [each.kill_at - now for each in self.answering.values() if each.kill_at is not None]
        for key, _ in self.selector.select(max(0.0, min([seconds, *due])) + 0.01):
            key.data()
        self._reap()
        for each in self.answering.values():
            if each.kill_at is not None and time.monotonic() > each.kill_at:
                send_signal(each.pid, signal.SIGKILL)
                each.kill_at = time.monotonic() + GRACE

    def answer(self, client: socket.socket, ask: dict[str, Any], descriptors: Sequence[int], session: Session) -> None:
        """Have a child answer a client's question, in a session."""
        told = os.memfd_create("told")  # a pipe holds less than a child may have to tell
        gc.freeze()  # a child that collects garbage would copy all pages
        pid = os.fork()
        if not pid:
            try:
                self.leave()
                client.close()
                child.answer(self.run, ask, descriptors, told, session)
            finally:
                os._exit(1)
        for each in descriptors:
            os.close(each)
        answering = self.answering[pid] = Answering(pid, client, told)
        self.selector.register(client, selectors.EVENT_READ, lambda: self._hear(answering))

    def end(self) -> None:
        """End what is being answered."""
        for each in self.answering.values():
            send_signal(each.pid, signal.SIGTERM)

    def leave(self) -> None:
        """In a child: give back all that is its parent's alone."""
        signal.set_wakeup_fd(-1)
        for key in list(self.selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self.selector.close()
        for number in (self._woken, self._wake, *(one.told for one in self.answering.values())):
            os.close(number)

    def _awake(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._woken, 4096)

    def _hear(self, answering: Answering) -> None:
        """Hand on the signal that a client got; end the child of a client that is gone."""
        try:
            heard = protocol.receive(answering.client)
        except (OSError, ValueError):
            heard = None
        if heard is not None:
            send_signal(answering.pid, int(heard[0].get("signal", signal.SIGTERM)))
        else:
            self.selector.unregister(answering.client)
            send_signal(answering.pid, signal.SIGTERM)
            send_signal(answering.pid, signal.SIGCONT)
            answering.kill_at = time.monotonic() + GRACE

    def _reap(self) -> None:
        """Tell clients how their children ended."""
        for pid, answering in list(self.answering.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            del self.answering[pid]
            code = {"killed": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else {"exit": os.WEXITSTATUS(status)}
            with suppress(OSError):
                protocol.send(answering.client, code)
            with suppress(KeyError, ValueError):
                self.selector.unregister(answering.client)
            answering.client.close()
            self.ended(child.heard(answering.told))


def send_signal(pid: int, number: int) -> None:
    """Send a signal to a child and what it started, such as a pager."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def private_memory(pid: int) -> int:
    """Bytes of memory that are a process's alone; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))
