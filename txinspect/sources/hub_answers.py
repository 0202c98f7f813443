"""What a Hub, a mirror or a proxy answers: looked at before anything is written by it, and never waited for in vain."""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from txinspect.errors import SourceError, first_line
from txinspect.guards.patching import patched
from txinspect.wording import short_bytes, shown

SLOWEST, PATIENCE = 1_000, 30
"""Bytes a second below which an answer is given up, and the seconds over which they are counted."""

MOST_SAID, MOST_PACKED = 64 << 20, 64 << 10
"""Bytes of an answer that is no file, and of one that is packed, a thousand times smaller at most."""

_HASH = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,255}")
"""What a server may call a commit or the content of a file: huggingface_hub makes paths of both."""

_ADVICE = "check HF_ENDPOINT and the network's proxy"


def unclear(name: str, error: BaseException) -> str:
    """The sentence about an answer of the Hub that makes no sense."""
    token = next(
        (each for each in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if not os.environ.get(each, "").isascii()), ""
    )
    if token:
        return f"{token} holds a character beyond ASCII, which no token of the Hub has: set it again"
    return f"what the Hub answered about {name!r} makes no sense ({first_line(error)}): {_ADVICE}"


def check_endpoint() -> None:
    """Raise SourceError for an HF_ENDPOINT that is no address, which the Hub's client reads when it is imported."""
    given = os.environ.get("HF_ENDPOINT", "")
    try:
        parts = urlsplit(given)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and given.isprintable()
        valid = valid and (parts.port or 0) >= 0  # asking for one that is none raises
    except ValueError:
        valid = False
    if given and not valid:
        raise SourceError(
            f"HF_ENDPOINT is {shown(given)}, which is no address: give one such as https://huggingface.co"
        )


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """While open, what the Hub answers is looked at before it is used: nothing is written but into the cache, and
    nothing is waited for, read or unpacked without end. Raises SourceError."""
    from huggingface_hub import HfApi, constants, file_download, get_session

    metadata_of, info_of, tree_of = file_download.get_hf_file_metadata, HfApi.repo_info, HfApi.list_repo_tree
    fetch = file_download.http_get

    def checked_metadata(*arguments: Any, **options: Any) -> Any:
        found = metadata_of(*arguments, **options)
        _check_hash(name, "the ETag", found.etag)
        _check_hash(name, "the commit", found.commit_hash)
        return found

    def checked_info(*arguments: Any, **options: Any) -> Any:
        found = info_of(*arguments, **options)
        _check_hash(name, "the commit", found.sha, needed=True)
        for each in getattr(found, "siblings", None) or ():
            _check_name(name, each.rfilename)
        return found

    def checked_tree(*arguments: Any, **options: Any) -> Iterator[Any]:
        for each in tree_of(*arguments, **options):
            _check_name(name, each.path)
            yield each

    def checked_fetch(url: str, temp_file: Any, *, expected_size: int | None = None, **options: Any) -> None:
        bounded: Any = _Bounded(temp_file, name, expected_size)
        fetch(url=url, temp_file=bounded, expected_size=expected_size, **options)

    with (
        warnings.catch_warnings(),
        # Its telemetry asks for a list of programs, keeps any answer for a day, and raises where that is no list.
        patched(constants, "HF_HUB_DISABLE_TELEMETRY", True),
        patched(file_download, "get_hf_file_metadata", checked_metadata),
        patched(file_download, "http_get", checked_fetch),
        patched(HfApi, "repo_info", checked_info),
        patched(HfApi, "list_repo_tree", checked_tree),
        _watched(get_session(), name),
    ):
        # huggingface_hub only warns of a disk that is too small, and then fills it.
        warnings.filterwarnings("error", message="Not enough free disk space")
        yield


def _check_hash(name: str, what: str, value: object, *, needed: bool = False) -> None:
    """Raise SourceError for an answer's hash that is none, which the cache takes for a file's or a folder's name."""
    if (needed or value is not None) and not (isinstance(value, str) and _HASH.fullmatch(value)):
        raise _refused(name, what, value)


def _check_name(name: str, file: object) -> None:
    """Raise SourceError for an answer that names a file which leads out of its repository."""
    if not is_safe(file):
        raise _refused(name, "a file", file)


def _refused(name: str, what: str, value: object) -> SourceError:
    return SourceError(
        f"the Hub answered for {name!r} with {what} {shown(value)}, which would be written elsewhere than in its "
        f"cache: nothing was fetched; {_ADVICE}"
    )


def is_safe(name: object) -> bool:
    """Whether the name of a file in a Hub's answer stays within its repository, wherever it is written."""
    if not isinstance(name, str) or not name.isprintable() or "\\" in name:
        return False
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and ":" not in parts[0]


class _Bounded:
    """A file of which no more is written than was announced."""

    def __init__(self, file: Any, name: str, most: int | None) -> None:
        self._file, self._name, self._most = file, name, most

    def write(self, content: bytes) -> int:
        """Write some bytes of a Hub's answer. Raises SourceError beyond what was announced."""
        if self._most is not None and self._file.tell() + len(content) > self._most:
            raise SourceError(
                f"the Hub sends more for a file of {self._name!r} than the {short_bytes(self._most)} that it "
                f"announced: nothing was kept; {_ADVICE}"
            )
        return int(self._file.write(content))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def _watched(client: Any, name: str) -> Iterator[None]:
    """While open, each answer of the Hub that a client of HTTP gets is watched as it comes."""
    library = import_module(type(client).__module__.partition(".")[0])  # httpx, or what comes after it

    def wrong(what: str) -> SourceError:
        return SourceError(f"the Hub {what} about {name!r}: {_ADVICE}, or try later")

    class Stream(library.SyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, inner: Any, most: int | None) -> None:
            self.inner, self.most = inner, most

        def __iter__(self) -> Iterator[bytes]:
            count, before, since = 0, 0, time.monotonic()
            for chunk in self.inner:
                count += len(chunk)
                if self.most is not None and count > self.most:
                    raise wrong(f"answers with more than {short_bytes(self.most)}")
                now = time.monotonic()
                if now - since > PATIENCE:
                    if count - before < SLOWEST * PATIENCE:
                        raise wrong(f"sends less than {short_bytes(SLOWEST)} a second")
                    before, since = count, now
                yield chunk

        def close(self) -> None:
            self.inner.close()

    def asked(request: Any) -> None:
        given = request.extensions.get("timeout") or {}
        patience = {each: min(given.get(each) or PATIENCE, PATIENCE) for each in ("connect", "read", "write", "pool")}
        request.extensions = {**request.extensions, "timeout": patience}
        if "/api/" in request.url.path:
            request.headers["Accept-Encoding"] = "identity"

    def answered(response: Any) -> None:
        said = "/api/" in response.request.url.path
        packed = response.headers.get("Content-Encoding", "identity") != "identity"
        most = MOST_PACKED if said and packed else MOST_SAID if said else None
        response.stream = Stream(response.stream, most)

    hooks = client.event_hooks
    client.event_hooks = {
        "request": [*hooks["request"], asked],
        "response": [*hooks["response"], answered],
    }
    try:
        yield
    finally:
        client.event_hooks = hooks
