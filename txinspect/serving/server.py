"""The process that stays: it has imported all, computes nothing, and forks a child for each question.

A child runs the ordinary command line on the client's own streams, folder, variables and limits. What is computed is
computed by children alone: a process that ever ran an operation on two threads leaves children that hang.
"""

from __future__ import annotations

import fcntl
import gc
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from txinspect.errors import InspectError
from txinspect.guards.quiet import quiet as quieted
from txinspect.serving import child, protocol
from txinspect.serving.client import question

GRACE = 3.0
"""Seconds that a child has to end after its client did."""

PATIENCE = 1.0
"""Seconds that a client may take to say what it asks."""


@dataclass
class _Answering:
    """A child, and who waits for it."""

    pid: int
    client: socket.socket
    learned: int
    """Where it tells which modules it imported."""
    kill_at: float | None = None


class Server:
    """Takes questions until it is told to stop, is idle too long, or no longer is what clients ask for."""

    def __init__(
        self,
        listening: socket.socket,
        run: Callable[[list[str]], None],
        idle: float,
        stamp: dict[str, Any],
        *,
        has_gpu: bool = False,
    ) -> None:
        self.listening, self.run, self.idle, self.stamp, self.has_gpu = listening, run, idle, stamp, has_gpu
        self.started = self.asked_at = time.monotonic()
        self.questions = 0
        self.stopping = False
        self._answering: dict[int, _Answering] = {}
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self, *, quiet: bool = False) -> None:
        """Answer until it ends; questions that are being answered then are answered first."""
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._told_to_end)
        if not quiet:
            os.write(2, f"txinspect answers from process {os.getpid()} now; Ctrl-C ends it\n".encode())
        self._selector.register(self.listening, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        while not (self.stopping and not self._answering):
            for key, _ in self._selector.select(self._wait()):
                if key.fileobj is self.listening:
                    self._accept()
                elif key.fileobj == self._woken:
                    with suppress(BlockingIOError):
                        os.read(self._woken, 4096)
                else:
                    self._hear(key.data)
            self._reap()
            self._kill_the_late()
            if not self._answering and time.monotonic() - self.asked_at > self.idle:
                self._stop()

    def _told_to_end(self, *_: object) -> None:
        """Stop; told again, end what is being answered, too."""
        if self.stopping:
            for each in self._answering.values():
                _signal(each.pid, signal.SIGTERM)
        self._stop()

    def _stop(self) -> None:
        """Take no more questions."""
        if not self.stopping:
            self.stopping = True
            with suppress(KeyError, OSError):
                Path(self.listening.getsockname()).unlink()
            with suppress(KeyError):
                self._selector.unregister(self.listening)
            self.listening.close()

    def _wait(self) -> float:
        """Seconds until something is due."""
        now = time.monotonic()
        due = [each.kill_at - now for each in self._answering.values() if each.kill_at is not None]
        if not self._answering:
            due.append(self.asked_at + self.idle - now)
        return max(0.0, min(due, default=3600.0)) + 0.01

    def _accept(self) -> None:
        """Take a client's question, or do what it says."""
        try:
            client, _ = self.listening.accept()
        except OSError:
            return
        is_taken = False
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # it is gone, or speaks otherwise
            client.settimeout(PATIENCE)
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
        if other not in (None, "variables", "processors"):  # it is another program that clients run now
            self._stop()
        return other is None and why is None

    def _said(self, message: dict[str, Any]) -> dict[str, Any]:
        """What is answered to what is no question."""
        if message.get("stop"):
            self._stop()
        return {
            "pid": os.getpid(),
            "seconds": time.monotonic() - self.started,
            "idle": time.monotonic() - self.asked_at,
            "limit": self.idle,
            "questions": self.questions,
            "answering": len(self._answering),
            "memory": _private(os.getpid()),
        }

    def _take(self, client: socket.socket) -> bool:
        """Have a child answer a client's question; returns whether there was one."""
        heard = protocol.receive(client)
        if heard is None:
            return False
        message, descriptors = heard
        learned, tells = os.pipe()
        gc.freeze()  # a child that collects garbage would copy all pages
        pid = os.fork()
        if not pid:
            try:
                os.close(learned)
                self._leave()
                client.close()
                child.answer(self.run, message["ask"], descriptors, tells)
            finally:
                os._exit(1)
        os.close(tells)
        for each in descriptors:
            os.close(each)
        self.questions += 1
        self.asked_at = time.monotonic()
        answering = self._answering[pid] = _Answering(pid, client, learned)
        self._selector.register(client, selectors.EVENT_READ, answering)
        return True

    def _leave(self) -> None:
        """In a child: give back all that is the server's alone."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        for each in (self.listening, *(one.client for one in self._answering.values())):
            each.close()
        for number in (self._woken, self._wake, *(one.learned for one in self._answering.values())):
            os.close(number)

    def _hear(self, answering: _Answering) -> None:
        """Hand on the signal that a client got; end the child of a client that is gone."""
        try:
            heard = protocol.receive(answering.client)
        except (OSError, ValueError):
            heard = None
        if heard is not None:
            _signal(answering.pid, int(heard[0].get("signal", signal.SIGTERM)))
        elif answering.kill_at is None:
            self._selector.unregister(answering.client)
            _signal(answering.pid, signal.SIGTERM)
            _signal(answering.pid, signal.SIGCONT)
            answering.kill_at = time.monotonic() + GRACE

    def _reap(self) -> None:
        """Tell clients how their children ended, and import what these had to."""
        while self._answering:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            answering = self._answering.pop(pid, None)
            if answering is None:
                continue
            ended = {"killed": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else {"exit": os.WEXITSTATUS(status)}
            with suppress(OSError):
                protocol.send(answering.client, ended)
            with suppress(KeyError, ValueError):
                self._selector.unregister(answering.client)
            answering.client.close()
            self.asked_at = time.monotonic()
            _learn(answering.learned)

    def _kill_the_late(self) -> None:
        now = time.monotonic()
        for each in self._answering.values():
            if each.kill_at is not None and now > each.kill_at:
                _signal(each.pid, signal.SIGKILL)
                each.kill_at = now + GRACE


def _signal(pid: int, number: int) -> None:
    """Send a signal to a child and what it started, such as a pager."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _private(pid: int) -> int | None:
    """Bytes of memory that are a process's alone; None where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


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
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it dies with its holder
        except OSError:
            raise InspectError(
                "a server runs already", "'txinspect serve --status' tells of it, --stop ends it"
            ) from None
        yield folder
    finally:
        os.close(lock)


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


def stay(run: Callable[[list[str]], None], models: Sequence[str], idle: float, *, quiet: bool) -> None:
    """Be the process that stays, whose children `run` command lines, until it ends.

    Raises InspectError where it cannot be.
    """
    stamp = protocol.stamp()  # as of the start: what is imported changes variables
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)  # what is raised while a process forks is lost
    with alone() as folder:
        _import()
        _check_children()
        for words in (["attn", "--layer", "0"], *(["logits", "-m", each] for each in models)):
            _try_out(run, words)
        has_gpu = _has_gpu()
        with listening(folder / "socket") as made:
            Server(made, run, idle, stamp, has_gpu=has_gpu).serve(quiet=quiet)


def _try_out(run: Callable[[list[str]], None], words: list[str]) -> None:
    """Import what a question needs: a child answers it to nobody."""
    learned, tells = os.pipe()
    streams = [os.open(".", os.O_RDONLY | os.O_DIRECTORY), *(os.open(os.devnull, os.O_RDWR) for _ in range(3))]
    pid = os.fork()
    if not pid:
        child.answer(run, question(words, [0, 1, 2]), streams, tells)
    for each in (tells, *streams):
        os.close(each)
    os.waitpid(pid, 0)
    _learn(learned)


def _learn(told: int) -> None:
    """Import what a child needed, for the next one; nothing is computed."""
    with quieted():
        child.learn(told)


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


def _check_children(seconds: int = 20) -> None:
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
