"""A process that holds one model, and forks the children that are asked about it."""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from txinspect.answers.session import Session
from txinspect.errors import InspectError
from txinspect.guards.quiet import quiet
from txinspect.serving import child, protocol
from txinspect.serving.children import Children
from txinspect.serving.kept import Kept, stamps


@dataclass
class Keeper:
    """The process that holds a model, as its parent sees it."""

    kept: Kept
    pid: int
    link: socket.socket
    is_ready: bool = False
    is_stale: bool = False
    """Whether the files have changed, so that another process is to hold the model as it is now."""
    answering: int = 0

    @classmethod
    def started(cls, kept: Kept, memory: int, children: Children) -> Keeper:
        """Start a process that holds a model, in so many bytes of memory at most for its weights."""
        here, there = socket.socketpair()
        gc.freeze()
        pid = os.fork()
        if not pid:
            try:
                here.close()
                run = children.run
                children.leave()
                child.die_with_parent()
                _keep(kept, memory, run, there)
            finally:
                os._exit(0)
        there.close()
        return cls(kept, pid, here)

    def is_for(self, ask: dict[str, Any], folder: int) -> bool:
        """Whether a question may be about the model that is held: the child finds out, and no harm is done if not."""
        return self.is_ready and not self.is_stale and self.kept.is_for(ask, folder)

    def hand_on(self, client: socket.socket, ask: dict[str, Any], descriptors: list[int]) -> bool:
        """Hand a client's question on; returns whether it could be."""
        try:
            protocol.send(self.link, {"ask": ask}, [client.fileno(), *descriptors])
        except OSError:
            return False
        self.answering += 1
        for each in descriptors:
            os.close(each)
        return True

    def hear(self) -> bool:
        """Hear what the process has to say; returns whether it goes on."""
        try:
            heard = protocol.receive(self.link)
        except (OSError, ValueError):
            heard = None
        if heard is None:
            return False
        self.is_ready = True
        self.answering -= bool(heard[0].get("ended"))
        self.is_stale = self.is_stale or bool(heard[0].get("stale"))
        return not (self.is_stale and not self.answering)

    def end(self) -> None:
        """End the process, and what it answers."""
        self.link.close()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _keep(kept: Kept, memory: int, run: Callable[[list[str]], None], parent: socket.socket) -> None:
    """In a process of its own: take a model to hand, and answer what is handed on until the parent is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a terminal sends them to its parent, too, which ends it in its time
    for name in protocol.FOLLOWED:
        os.environ.pop(name, None)
    os.environ.update(kept.variables)
    os.chdir(kept.folder)
    child.read_again()
    session = Session(keeps_weights=True)
    with quiet():
        session.model(kept.choice).take(memory)
    files = stamps(kept.paths)
    if not _is_alone():
        return
    check_children()
    children = Children(run, lambda _: protocol.send(parent, {"ended": True}))
    protocol.send(parent, {"ready": True})
    is_over = False

    def take() -> None:
        nonlocal is_over, session
        heard = protocol.receive(parent)
        if heard is None:
            is_over = True
            children.selector.unregister(parent)
            return
        message, (client, *descriptors) = heard
        if files != stamps(kept.paths):
            session = Session()
            protocol.send(parent, {"stale": True})
        asking = socket.socket(fileno=client)
        asking.settimeout(protocol.PATIENCE)  # the descriptor does not block, which this one is to know
        children.answer(asking, message["ask"], descriptors, session)

    children.selector.register(parent, selectors.EVENT_READ, take)
    while not is_over or children.answering:
        children.turn(3600.0)


def _is_alone(seconds: float = 5.0) -> bool:
    """Whether this process has one thread. One that was joined may be seen for some time still, on a busy machine."""
    until = time.monotonic() + seconds
    while len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208, names alone
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def check_children(seconds: int = 20) -> None:
    """Raise InspectError where a child of this process cannot compute on several threads: it would hang for ever."""
    pid = os.fork()
    if not pid:
        try:
            import torch

            signal.alarm(seconds)
            torch.set_num_threads(max(2, child.threads))
            product = torch.ones(512, 512) @ torch.ones(512, 512)
            os._exit(0 if float(product[0, 0]) == 512 else 1)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    if status:
        raise InspectError(
            "a child of this process cannot compute on several threads", "questions are answered without a server"
        )
