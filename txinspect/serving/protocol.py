"""What a client and the process that stays say to each other, and where: a Unix socket of the user's own.

Imports the standard library alone: a client that is answered by the other process waits for nothing else.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

VERSION = 1

APART = ("serve", "shell", "mcp")
"""Commands that no other process answers."""

SURROUNDINGS = (
    *("OMP_", "MKL_", "KMP_", "GOMP_", "OPENBLAS_", "BLIS_", "ATEN_", "DNNL_", "ONEDNN_", "NUMEXPR_"),
    *(
        "TORCH",
        "PYTORCH_",
        "TRANSFORMERS_",
        "TOKENIZERS_",
        "SAFETENSORS_",
        "BITSANDBYTES_",
        "BNB_",
        "PEFT_",
        "ACCELERATE_",
    ),
    *("HF_", "HUGGINGFACE_", "HUGGING_FACE_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "XPU_"),
    *("PYTHON", "LD_", "MALLOC_", "GLIBC_", "HOME"),
)
"""How variables begin that libraries read when they are imported: a process that has imported them cannot follow."""

FOLLOWED = {
    *("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_DISABLE_IMPLICIT_TOKEN"),
    *("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"),
}
"""Variables among them that huggingface_hub keeps in one module, which is read again."""

_LENGTH = struct.Struct("!I")

PATIENCE = 1.0
"""Seconds that the rest of a message may take once it has begun."""

MOST_BYTES = 1 << 24
"""Of a message."""

STREAMS = ("stdin", "stdout", "stderr")

MOST_DESCRIPTORS = 2 + len(STREAMS)
"""Of a message: a client that is handed on, its folder and its streams."""


def folder() -> Path | None:
    """The user's own folder that the socket is in; None where there is none, or its path is too long for a socket."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_absolute():
        found = Path(runtime, "txinspect")
    elif cache := os.environ.get("TXINSPECT_CACHE"):
        found = Path(cache).absolute() / "serve"
    else:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111, of a user without one
        found = Path(home, "txinspect", "serve")
    return found if found.is_absolute() and len(os.fsencode(found / "socket")) < 100 else None


def is_own(path: Path) -> bool:
    """Whether a path is the user's own, and nobody else may write to it."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o022


def stamp() -> dict[str, Any]:
    """What client and server must agree on, for the answer to be the same: versions, sources, what was read at start.

    Versions are told by the file that holds them, its size and its time: reading metadata takes a client's whole time.
    """
    own = Path(__file__).parents[1]
    flags = sys.flags
    return {
        "protocol": VERSION,
        "python": [sys.prefix, sys.version, list(flags), sorted(map(str, sys._xoptions)), sys.warnoptions],
        "txinspect": [str(own), _newest(own)],
        "torch": _file("torch", "version.py"),
        "transformers": _file("transformers", "__init__.py"),
        "encoding": [sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()],
        "processors": sorted(os.sched_getaffinity(0)),
        "variables": {
            name: value for name, value in os.environ.items() if name.startswith(SURROUNDINGS) and name not in FOLLOWED
        },
    }


def _newest(folder: Path) -> int:
    """The time of a folder's newest source, in nanoseconds: a checkout changes without another version."""
    newest = 0
    for parent, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if each != "__pycache__"]
        times = (os.stat(os.path.join(parent, each)).st_mtime_ns for each in files if each.endswith(".py"))  # noqa: PTH116, PTH118
        newest = max(newest, max(times, default=0))
    return newest


def _file(package: str, name: str) -> list[Any]:
    """Where a package's file is, how long, and of what time; none where there is none."""
    spec = find_spec(package)
    try:
        path = Path(str(spec.origin)).parent / name if spec is not None else None
        return [str(path), path.stat().st_size, path.stat().st_mtime_ns] if path is not None else []
    except OSError:
        return []


def send(to: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send a message, with descriptors that the other process gets copies of. Raises OSError where it is gone."""
    content = json.dumps(message).encode()
    whole = _LENGTH.pack(len(content)) + content
    sent = socket.send_fds(to, [whole], list(descriptors)) if descriptors else 0
    to.sendall(whole[sent:])


def receive(of: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """A message and its descriptors; None where the other process is gone. Raises ValueError for what is no message."""
    first, descriptors, _, _ = socket.recv_fds(of, _LENGTH.size, MOST_DESCRIPTORS)
    if not first:
        return None
    try:
        first += _exactly(of, _LENGTH.size - len(first))
        (length,) = _LENGTH.unpack(first)
        if length > MOST_BYTES:
            raise ValueError(f"a message of {length} bytes")
        message = json.loads(_exactly(of, length))
        if not isinstance(message, dict):
            raise ValueError("no record")
    except BaseException:
        for each in descriptors:
            os.close(each)
        raise
    return message, descriptors


def _exactly(of: socket.socket, length: int) -> bytes:
    parts = []
    while length:
        part = of.recv(length)
        if not part:
            raise ValueError("the message ends early")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def peer(of: socket.socket) -> int:
    """The user whose process is at the other end."""
    found: int = struct.unpack("3i", of.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[1]
    return found
