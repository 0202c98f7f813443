"""A Hub on 127.0.0.1 that answers what huggingface_hub asks for a snapshot, and remembers what it was asked."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Refusal:
    """An answer that the Hub gives instead of a file: its status and its error code."""

    status: int
    code: str


GATED = Refusal(403, "GatedRepo")
PRIVATE = Refusal(401, "RepoNotFound")
BROKEN = Refusal(500, "")


@dataclass(frozen=True)
class Answer:
    """Any answer."""

    content: bytes | Iterator[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


@dataclass
class Repository:
    """The files of each commit, the commit of each branch or tag, and a refusal where nobody is let in."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    refusal: Refusal | None = None

    def commit(self, revision: str) -> str | None:
        """The commit that a branch, a tag or a commit names."""
        found = self.references.get(revision, revision)
        return found if found in self.commits else None


class LoopbackHub:
    """A Hub with the repositories that a test adds; open while the `with` block lasts."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str]] = []
        self.ranges: list[tuple[str, int]] = []
        """Parts of files that were asked for, and how many bytes each is."""
        self.dies_in: str | None = None
        """The file in the middle of which the server closes the connection and answers nothing from then on."""
        self.dead = False
        self.odd: Callable[[str, str], Answer | None] | None = None
        """What is answered in the place of what a Hub would, by method and path."""
        hub = self

        class Handler(_Handler):
            owner = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False  # a handler may close the server: it would wait for itself
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        """What HF_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def add(self, name: str, files: Mapping[str, bytes], revision: str = "main") -> str:
        """Put files under a branch or tag of a repository; returns the commit."""
        digest = hashlib.sha1(repr((name, sorted(files.items()))).encode(), usedforsecurity=False).hexdigest()
        repository = self.repositories.setdefault(name, Repository())
        repository.commits[digest] = dict(files)
        repository.references[revision] = digest
        return digest

    def refuse(self, name: str, refusal: Refusal) -> None:
        """Let nobody into a repository."""
        self.repositories.setdefault(name, Repository()).refusal = refusal

    def fetched(self) -> list[str]:
        """Names of the files that were fetched, in alphabetical order."""
        paths = [path for method, path in self.requests if method == "GET" and "/resolve/" in path]
        return sorted(path.split("/resolve/")[1].partition("/")[2] for path in paths)

    def close(self) -> None:
        """Stop answering: a connection is refused from now on."""
        if not self.dead:
            self.dead = True
            self._server.shutdown()
            self._server.server_close()

    def __enter__(self) -> LoopbackHub:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


class _Handler(BaseHTTPRequestHandler):
    owner: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        if self.owner.dead:  # a connection that was open before
            self.close_connection = True
            return
        path = unquote(urlsplit(self.path).path)
        self.owner.requests.append((self.command, path))
        if self.owner.odd and (odd := self.owner.odd(self.command, path)):
            self._say(odd)
            return
        asked = re.fullmatch(r"/api/models/(.+?)/(revision|tree)/(.+)", path)
        if asked:
            self._describe(asked[1], asked[2], asked[3])
            return
        asked = re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path)
        if asked:
            self._file(asked[1], asked[2], asked[3])
            return
        self._refuse(Refusal(404, ""))

    def _commit(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit asked for and its files; None when the refusal has been sent."""
        repository = self.owner.repositories.get(name)
        if repository is None:
            self._refuse(PRIVATE)  # the Hub answers 401, not 404, to those who are not logged in
            return None
        if repository.refusal:
            self._refuse(repository.refusal)
            return None
        commit = repository.commit(revision)
        if commit is None:
            self._refuse(Refusal(404, "RevisionNotFound"))
            return None
        return commit, repository.commits[commit]

    def _describe(self, name: str, what: str, revision: str) -> None:
        found = self._commit(name, revision)
        if found is None:
            return
        commit, files = found
        if what == "revision":
            siblings = [{"rfilename": file, "size": len(content)} for file, content in sorted(files.items())]
            answer: Any = {"id": name, "sha": commit, "siblings": siblings}
        else:
            answer = [
                {"type": "file", "path": file, "size": len(content), "oid": _etag(content)}
                for file, content in sorted(files.items())
            ]
        self._send(json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str, revision: str, file: str) -> None:
        found = self._commit(name, revision)
        if found is None:
            return
        commit, files = found
        if file not in files:
            self._refuse(Refusal(404, "EntryNotFound"), {"X-Repo-Commit": commit})
            return
        content = files[file]
        headers = {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": commit}
        if self.command == "GET" and file == self.owner.dies_in:
            self._send(content, headers, only=len(content) // 2)
            self.owner.close()
            self.close_connection = True
            return
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if span:
            low, high = int(span[1]), min(int(span[2]), len(content) - 1)
            headers["Content-Range"] = f"bytes {low}-{high}/{len(content)}"
            self.owner.ranges.append((file, high + 1 - low))
            self._send(content[low : high + 1], headers, 206)
            return
        self._send(content, headers)

    def _say(self, answer: Answer) -> None:
        parts: Iterable[bytes] = [answer.content] if isinstance(answer.content, bytes) else answer.content
        length = {"Content-Length": str(len(answer.content))} if isinstance(answer.content, bytes) else {}
        self.send_response(answer.status)
        for name, value in (length | dict(answer.headers)).items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        if self.command == "GET":
            with suppress(OSError):
                for part in parts:
                    self.wfile.write(part)

    def _refuse(self, refusal: Refusal, headers: Mapping[str, str] | None = None) -> None:
        code = {"X-Error-Code": refusal.code, "X-Error-Message": "refused by a test"} if refusal.code else {}
        self._send(b"", {**code, **(headers or {})}, refusal.status)

    def _send(self, content: bytes, headers: Mapping[str, str], status: int = 200, only: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[:only])


def _etag(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a folder as a repository holds them."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
