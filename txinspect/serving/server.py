"""The process that stays: it has imported all, computes nothing, and forks a child for each question.

A child runs the ordinary command line on the client's own streams, folder, variables and limits. What is computed is
computed by children alone: a process that ever ran an operation on two threads leaves children that hang. Models are
held by processes of their own, which fork the children that are asked about them.
"""

from __future__ import annotations

import fcntl
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from txinspect.answers.session import Session
from txinspect.errors import InspectError
from txinspect.guards.quiet import quiet as quieted
from txinspect.serving import child, protocol
from txinspect.serving.children import Children, private_memory
from txinspect.serving.client import question
from txinspect.serving.keeper import Keeper, check_children
from txinspect.serving.kept import Kept

ENDING = 5.0
"""Seconds that a server may take to end, once its socket is gone."""


class Server:
    """Takes questions until it is told to stop, is idle too long, or no longer is what clients ask for."""

    def __init__(
        self,
        listening: socket.socket,
        run: Callable[[list[str]], None],
        stamp: dict[str, Any],
        *,
        idle: float,
        memory: int,
        has_gpu: bool = False,
    ) -> None:
        self.listening, self.stamp, self.idle, self.memory, self.has_gpu = listening, stamp, idle, memory, has_gpu
        self.started = self.asked_at = time.monotonic()
        self.questions = 0
        self.stopping = False
        self._quiet = True
        self.children = Children(run, self._learn)
        self.children.selector.register(listening, selectors.EVENT_READ, self._accept)
        self.keepers: list[Keeper] = []
        self._refused: set[Kept] = set()
        """What could not be held, and is not tried again."""

    def serve(self, *, quiet: bool = False) -> None:
        """Answer until it ends; questions that are being answered then are answered first."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._told_to_end)
        self._quiet = quiet
        self._say(f"txinspect answers from process {os.getpid()} now; Ctrl-C ends it")
        while not (self.stopping and not self._is_busy()):
            self.children.turn(3600.0 if self._is_busy() else self.asked_at + self.idle - time.monotonic())
            if not self.stopping and not self._is_busy() and time.monotonic() - self.asked_at > self.idle:
                self._say("nobody asked: this server ends")
                self._stop()
        for keeper in self.keepers:
            keeper.end()

    def _say(self, sentence: str) -> None:
        """Tell whoever sees the server's terminal what it does."""
        if not self._quiet:
            with suppress(OSError):
                os.write(2, f"{sentence}\n".encode())

    def _is_busy(self) -> bool:
        return bool(self.children.answering) or any(keeper.answering for keeper in self.keepers)

    def _told_to_end(self, *_: object) -> None:
        """Stop; told again, end what is being answered, too."""
        if self.stopping:
            self.children.end()
            for keeper in self.keepers:
                keeper.end()
        self._stop()

    def _stop(self) -> None:
        """Take no more questions."""
        if not self.stopping:
            self.stopping = True
            with suppress(KeyError, OSError):
                Path(self.listening.getsockname()).unlink()
            with suppress(KeyError):
                self.children.selector.unregister(self.listening)
            self.listening.close()

    def _accept(self) -> None:
        """Take a client's question, or do what it says."""
        try:
            client, _ = self.listening.accept()
        except OSError:
            return
        is_taken = False
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # it is gone, or speaks otherwise
            client.settimeout(protocol.PATIENCE)
            heard = protocol.receive(client) if protocol.peer(client) == os.getuid() else None
            if heard is not None and "stamp" in heard[0]:
                is_taken = self._agrees(client, heard[0]) and self._take(client)
            elif heard is not None:
                protocol.send(client, self._said(heard[0]))
        if not is_taken:
            client.close()

    def _agrees(self, client: socket.socket, said: dict[str, Any]) -> bool:
        """Whether an answer here is what the client would answer; it is told so."""
        other = next((name for name, each in self.stamp.items() if said["stamp"].get(name) != each), None)
        why = None
        if other is None and self.has_gpu and not said["on_cpu"]:
            why = "answered without the server: what a GPU computes survives no fork; --device cpu is answered there"
        protocol.send(client, {"ready": other is None and why is None, "why": why})
        if other not in (None, "variables", "processors"):
            self._say(f"{other} is another one for those who ask now: this server ends")
            self._stop()
        return other is None and why is None

    def _said(self, message: dict[str, Any]) -> dict[str, Any]:
        """What is answered to what is no question."""
        if message.get("stop"):
            self._stop()
        kept = [keeper for keeper in self.keepers if keeper.is_ready]
        return {
            "pid": os.getpid(),
            "seconds": time.monotonic() - self.started,
            "idle": time.monotonic() - self.asked_at,
            "limit": self.idle,
            "questions": self.questions,
            "answering": len(self.children.answering) + sum(keeper.answering for keeper in self.keepers),
            "memory": private_memory(os.getpid()),
            "memory_limit": self.memory,
            "models": [{"name": each.kept.named, "memory": private_memory(each.pid)} for each in kept],
        }

    def _take(self, client: socket.socket) -> bool:
        """Have a client's question answered by a child: of the process that holds its model, where one does."""
        heard = protocol.receive(client)
        if heard is None:
            return False
        message, descriptors = heard
        ask = message["ask"]
        self.questions += 1
        self.asked_at = time.monotonic()
        keeper = next((each for each in self.keepers if each.is_for(ask, descriptors[0])), None)
        if keeper is not None and keeper.hand_on(client, ask, descriptors):
            self.keepers.append(self.keepers.pop(self.keepers.index(keeper)))  # the last is the latest used
            return False  # the other process has it now
        self.children.answer(client, ask, descriptors, Session())
        return True

    def _learn(self, needed: child.Needed) -> None:
        """Import what a child needed, and hold the model that it was asked about."""
        self.asked_at = time.monotonic()
        with quieted():
            child.import_ahead(needed)
        self.hold(needed)

    def hold(self, needed: child.Needed) -> None:
        """Hold the model that a child was asked about, in a process of its own, where it can be."""
        kept = needed.kept
        if kept is None or kept in self._refused or self.stopping or any(each.kept == kept for each in self.keepers):
            return
        if self.has_gpu and kept.choice.device != "cpu":
            return
        keeper = Keeper.started(kept, self.memory, self.children)
        self.keepers.append(keeper)
        self.children.selector.register(keeper.link, selectors.EVENT_READ, lambda: self._hear(keeper))

    def _hear(self, keeper: Keeper) -> None:
        """Hear what a process that holds a model has to say, or that it is gone."""
        if keeper.hear():
            self.asked_at = time.monotonic()
            held = [each for each in self.keepers if each.is_ready]
            idle = [each for each in held[:-1] if not each.answering]
            while idle and sum(private_memory(each.pid) for each in held) > self.memory:
                held.remove(idle[0])
                self._let_go(idle.pop(0))
            return
        if not keeper.is_ready and not keeper.is_stale:
            self._refused.add(keeper.kept)
        self._let_go(keeper)

    def _let_go(self, keeper: Keeper) -> None:
        self.keepers.remove(keeper)
        self.children.selector.unregister(keeper.link)
        keeper.end()


@contextmanager
def alone() -> Iterator[Path]:
    """The user's own folder for the socket, which one process at a time has.

    Raises InspectError where another process has it, or there is no such folder.
    """
    folder = protocol.folder()
    if folder is None:
        raise InspectError("no folder has a path that is short enough for a socket", "set XDG_RUNTIME_DIR to one")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise InspectError(f"{folder} cannot hold a socket ({error.strerror})", "set XDG_RUNTIME_DIR") from error
    try:
        if not _locked(lock, folder / "socket"):
            raise InspectError("a server runs already", "'txinspect serve --status' tells of it, --stop ends it")
        yield folder
    finally:
        os.close(lock)


def _locked(lock: int, path: Path) -> bool:
    """Whether this process has the lock now, which dies with its holder; one that is ending is waited for."""
    until = time.monotonic() + ENDING
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if path.exists() or time.monotonic() > until:
                return False
            time.sleep(0.05)


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket at a path that clients of this user connect to."""
    path.unlink(missing_ok=True)  # of one that was killed
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        before = os.umask(0o177)
        try:
            made.bind(str(path))
        finally:
            os.umask(before)
        made.listen(128)
        try:
            yield made
        finally:
            path.unlink(missing_ok=True)


def stay(run: Callable[[list[str]], None], models: Sequence[str], idle: float, memory: int, *, quiet: bool) -> None:
    """Be the process that stays, whose children `run` command lines, until it ends.

    Raises InspectError where it cannot be.
    """
    stamp = protocol.stamp()  # as of the start: what is imported changes variables
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)  # what is raised while a process forks is lost
    with alone() as folder:
        _import()
        check_children()
        _tried(run, ["attn", "--layer", "0"])
        needed = [_tried(run, ["embed", "-m", each], aloud=True) for each in models]
        has_gpu = _has_gpu()
        with listening(folder / "socket") as made:
            server = Server(made, run, stamp, idle=idle, memory=memory, has_gpu=has_gpu)
            for each in needed:
                server.hold(each)
            server.serve(quiet=quiet)


def _tried(run: Callable[[list[str]], None], words: list[str], *, aloud: bool = False) -> child.Needed:
    """What a question needs, which a child answers to nobody; it is imported.

    Raises InspectError where it cannot be answered, which the child has said if it may be heard `aloud`.
    """
    told = os.memfd_create("told")
    streams = [os.open(".", os.O_RDONLY | os.O_DIRECTORY), *(os.open(os.devnull, os.O_RDWR) for _ in range(3))]
    if aloud:
        os.dup2(2, streams[3])
    pid = os.fork()
    if not pid:
        child.answer(run, question(words, [0, 1, 2]), streams, told, Session())
    for each in streams:
        os.close(each)
    _, status = os.waitpid(pid, 0)
    needed = child.heard(told)
    if status and aloud:
        raise InspectError(f"there is nothing to be ready for: 'txinspect {' '.join(words)}' fails")
    with quieted():
        child.import_ahead(needed)
    return needed


def _has_gpu() -> bool:
    """Whether models run on a GPU here where nobody says otherwise; a child asks, who holds on to the driver."""
    pid = os.fork()
    if not pid:
        try:
            import torch

            os._exit(torch.cuda.is_available())
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return status != 0


def _import() -> None:
    """Import what every question needs, without computing anything."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy's own would start threads as soon as it is imported
    with quieted():
        import torch
        import tqdm
        import transformers  # noqa: F401

    del os.environ["OPENBLAS_NUM_THREADS"]
    tqdm.tqdm.monitor_interval = 0  # a thread
    child.threads = torch.get_num_threads()
    torch.set_num_threads(1)
