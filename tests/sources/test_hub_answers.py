"""What a Hub, a mirror or a proxy may answer in the place of what it should: one sentence, soon, and nothing kept."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from tests.making.bad_input import Run, sentence
from tests.making.hub import Answer, LoopbackHub
from txinspect.sources import hub_answers

pytestmark = pytest.mark.strangers

NAME = "lab/model"
COMMIT = "a" * 40
GOOD = {"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": "config.json"}]}
TREE = [{"type": "file", "path": "config.json", "size": 2, "oid": "abc"}]
FILE = {"ETag": '"abc"', "X-Repo-Commit": COMMIT}
ASKED = ("tokenize", "hi", "-m", NAME)


def packed(size: int) -> bytes:
    """Zeros, packed as gzip does."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()


def slowly() -> Iterator[bytes]:
    """A byte now and then."""
    for _ in range(1000):
        time.sleep(0.05)
        yield b" "


def endlessly() -> Iterator[bytes]:
    """Blanks without end."""
    while True:
        yield bytes(1 << 20)


def of_json(value: Any) -> Answer:
    return Answer(json.dumps(value).encode())


NONSENSE = "makes no sense ("
LOST = "could not be fetched from the Hub: "

SAID: dict[str, tuple[Answer, str]] = {
    "a page": (Answer(b"<html>log in"), NONSENSE),
    "nothing": (Answer(b""), NONSENSE),
    "no content": (Answer(b"", status=204), NONSENSE),
    "a list": (of_json([]), NONSENSE),
    "null": (of_json(None), NONSENSE),
    "a number": (of_json(3), NONSENSE),
    "nested": (Answer(b"[" * 100_000 + b"]" * 100_000), NONSENSE),
    "nested objects": (Answer(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), NONSENSE),
    "no text": (Answer(b'{"a": "\xff"}'), NONSENSE),
    "files null": (of_json(GOOD | {"siblings": 5}), NONSENSE),
    "files numbers": (of_json(GOOD | {"siblings": [5]}), NONSENSE),
    "a date": (of_json(GOOD | {"lastModified": 5}), NONSENSE),
    "a date of words": (of_json(GOOD | {"createdAt": "x"}), NONSENSE),
    "a commit": (of_json(GOOD | {"sha": 5}), "with the commit 5"),
    "no commit": (of_json({"id": NAME}), "with the commit None"),
    "a file": (of_json(GOOD | {"siblings": [{"rfilename": 5}]}), "with a file 5"),
    "a terabyte": (Answer(b"{}", {"Content-Length": str(1 << 40)}), LOST),
    "not packed": (Answer(b"{}", {"Content-Encoding": "gzip"}), LOST),
    "packed": (Answer(packed(1 << 28), {"Content-Encoding": "gzip"}), "the Hub answers with more than 65.5 kB about"),
    "endless": (Answer(endlessly()), "the Hub answers with more than 67.1 MB about"),
    "slow": (Answer(slowly(), {"Content-Length": "1000"}), "the Hub sends less than 1 kB a second about"),
    "elsewhere": (Answer(b"", {"Location": "http://127.0.0.1:1/\x01\x1b[31m"}, 302), LOST),
    "a file of here": (Answer(b"", {"Location": "file:///etc/passwd"}, 302), LOST),
    "no address": (Answer(b"", {"Location": "http://[::1"}, 302), LOST),
    "too much": (Answer(b"", {"Retry-After": "100000"}, 418), "the Hub answered with status 418: try again later"),
    "red": (Answer(b"", {"X-Error-Code": "\x1b[31m", "X-Error-Message": "\x1b[31mred"}, 400), "with status 400"),
}
"""What is said of a repository."""

FILES: dict[str, tuple[Answer, str]] = {
    "no commit": (Answer(b"{}", {"ETag": '"abc"'}), NONSENSE),
    "no ETag": (Answer(b"{}", {"X-Repo-Commit": COMMIT}), NONSENSE),
    "a terabyte": (Answer(b"{}", {**FILE, "Content-Length": str(1 << 40)}), "Not enough free disk space"),
    "no number": (Answer(b"{}", {**FILE, "Content-Length": "x"}), LOST),
    "less than nothing": (Answer(b"{}", {**FILE, "Content-Length": "-5"}), LOST),
    "a page": (Answer(b"<html>", FILE), "config.json of 'lab/model' is not JSON"),
    "packed": (Answer(packed(1 << 28), {**FILE, "Content-Encoding": "gzip"}), "than the 2 B that it announced"),
    "endless": (Answer(endlessly(), FILE), "than the 2 B that it announced"),
    "slow": (Answer(slowly(), FILE), "the Hub sends less than 1 kB a second about"),
    "elsewhere": (Answer(b"", {**FILE, "Location": "http://127.0.0.1:1/\x01"}, 302), ""),
}
"""What is sent for a file that was announced with two bytes, or at once."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_answers, "PATIENCE", 0.3)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", SAID)
def test_what_is_said_of_a_repository(kind: str, online: LoopbackHub, run_cli: Run) -> None:
    answer, says = SAID[kind]
    online.odd = lambda _method, _path: answer
    assert says in sentence(run_cli(*ASKED))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", FILES)
def test_what_is_sent_for_a_file(kind: str, online: LoopbackHub, run_cli: Run, tmp_path: Path) -> None:
    answer, says = FILES[kind]

    def odd(method: str, path: str) -> Answer:
        if path.startswith("/api/"):
            return of_json(TREE if "/tree/" in path else GOOD)
        announced = method == "HEAD" and ("announced" in says or kind == "slow")
        return Answer(b"{}", FILE) if announced else answer

    online.odd = odd
    assert says in sentence(run_cli(*ASKED))
    assert not [each for each in tmp_path.rglob("*") if each.is_file() and each.stat().st_size > 1 << 20]


def test_nothing_but_the_repository_is_asked_for(
    online: LoopbackHub, run_cli: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """huggingface_hub's telemetry would keep whatever is answered for a day, and then fail on it."""
    aside = tmp_path / "asked-of-the-hub.json"
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(aside), raising=False)
    monkeypatch.setattr("huggingface_hub.utils._detect_agent._registry", None, raising=False)
    online.add(NAME, {"config.json": b"{}"})
    run_cli(*ASKED)
    asked = [path for _, path in online.requests]
    assert asked == [path for path in asked if NAME in path] != []
    assert not aside.exists()
    assert constants.HF_HUB_DISABLE_TELEMETRY is False


def test_a_token_that_is_none(online: LoopbackHub, run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    online.add(NAME, {"config.json": b"{}"})
    monkeypatch.setenv("HF_TOKEN", "hf_ü")
    assert "HF_TOKEN holds a character beyond ASCII" in sentence(run_cli(*ASKED))


@pytest.mark.parametrize(
    "address", ["http://x\x01\x1b[31m", "ftp://x", "x", "http://", "http://[::1", "http://x:99999"]
)
def test_an_address_that_is_none(address: str, run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert "HF_ENDPOINT is 'http" in sentence(run_cli(*ASKED)).replace("'ftp", "'http").replace("'x'", "'http'")
