"""Strangers' model.safetensors: headers that do not fit their data."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.making.bad_input import EMBED, EMBEDDING, FC1
from tests.making.checkpoints import rewrite_header
from tests.making.strangers.command_lines import PARAMS, PLAN, RUN
from tests.making.strangers.damaging import write
from tests.making.strangers.deep_files import DEEP
from tests.making.strangers.stranger import Damage, Stranger


def header(change: Callable[[Any], object]) -> Damage:
    """Change the header of model.safetensors."""
    return lambda folder: rewrite_header(folder / "model.safetensors", change)


def raw_header(text: str | bytes) -> Damage:
    """Put a text in the place of the header of model.safetensors."""
    raw = text if isinstance(text, bytes) else text.encode()
    return write("model.safetensors", struct.pack("<Q", len(raw)) + raw + bytes(256))


def entry(**values: Any) -> Damage:
    """Change what the header of model.safetensors says of one tensor."""
    return header(lambda content: content[FC1].update(values))


def renamed(name: str) -> Damage:
    """Give a tensor in model.safetensors another name."""
    return header(lambda content: content.update({name: content.pop(FC1)}))


def _says_of_header(
    id: str, damage: Damage, *more: str, arguments: tuple[str, ...] = PARAMS, apart: bool = False
) -> Stranger:
    return Stranger(f"header: {id}, {arguments[0]}", arguments, ("model.safetensors", *more), damage, apart=apart)


HEADERS = (
    _says_of_header("dtype a number", entry(dtype=5)),
    _says_of_header("dtype a list", entry(dtype=["F32"])),
    _says_of_header("dtype null", entry(dtype=None), arguments=EMBED),
    _says_of_header("dtype unknown", entry(dtype="F31"), arguments=EMBED),
    _says_of_header("dtype unknown", entry(dtype="F31")),
    _says_of_header("shape of strings", entry(shape=["96", "64"])),
    _says_of_header("shape of strings", entry(shape=["96", "64"]), arguments=PLAN),
    _says_of_header("shape negative", entry(shape=[-96, -64])),
    _says_of_header("shape huge", entry(shape=[2**63, 2])),
    _says_of_header("shape 2^32 by 2^32", entry(shape=[2**32, 2**32]), apart=True),
    _says_of_header("shape nested", entry(shape=[[96], [64]])),
    _says_of_header("shape a number", entry(shape=6144)),
    _says_of_header("shape null", entry(shape=None)),
    _says_of_header("shape fractional", entry(shape=[96.5, 64]), arguments=RUN),
    _says_of_header("shape smaller than its data", entry(shape=[1, 1]), arguments=RUN),
    _says_of_header("data_offsets of one", entry(data_offsets=[0])),
    _says_of_header("data_offsets of strings", entry(data_offsets=["0", "24576"])),
    _says_of_header(
        "data_offsets reversed", header(lambda h: h[FC1].update(data_offsets=h[FC1]["data_offsets"][::-1]))
    ),
    _says_of_header("data_offsets negative", entry(data_offsets=[-8, 24568])),
    _says_of_header(
        "data_offsets overlapping", header(lambda h: h[FC1].update(data_offsets=h[EMBEDDING]["data_offsets"]))
    ),
    _says_of_header("data_offsets null", entry(data_offsets=None), arguments=EMBED),
    _says_of_header("data_offsets huge", entry(data_offsets=[2**64, 2**65])),
    _says_of_header("a tensor that is a number", header(lambda h: h.update({FC1: 5}))),
    _says_of_header("a tensor that is null", header(lambda h: h.update({FC1: None})), arguments=EMBED),
    _says_of_header("metadata a list", header(lambda h: h.update(__metadata__=[1]))),
    _says_of_header("metadata of numbers", header(lambda h: h.update(__metadata__={"format": 5}))),
    _says_of_header("metadata a string", header(lambda h: h.update(__metadata__="pt")), arguments=EMBED),
    Stranger(
        "header: metadata null", PARAMS, ("tensor",), header(lambda h: h.update(__metadata__=None)), harmless=True
    ),
    Stranger(
        "header: no metadata, embed", EMBED, ("hi",), header(lambda h: h.pop("__metadata__", None)), harmless=True
    ),
    Stranger(
        "header: a format that is none, embed",
        EMBED,
        ("hi",),
        header(lambda h: h.update(__metadata__={"format": "frobnicate"})),
        harmless=True,
    ),
    Stranger(
        "header: format tf, embed",
        EMBED,
        ("hi",),
        header(lambda h: h.update(__metadata__={"format": "tf"})),
        harmless=True,
    ),
    _says_of_header("a list", raw_header("[]")),
    _says_of_header("null", raw_header("null")),
    _says_of_header("a list", raw_header("[1]"), arguments=EMBED),
    _says_of_header("not UTF-8", raw_header(b'{"\xff": 1}')),
    _says_of_header("not JSON", raw_header("{" * 64)),
    _says_of_header("nested 1e5 deep", raw_header('{"__metadata__": ' + DEEP + "}"), apart=True),
    _says_of_header("nested 1e5 deep", raw_header('{"__metadata__": ' + DEEP + "}"), arguments=EMBED, apart=True),
    _says_of_header(
        "a tensor twice",
        raw_header(
            '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}'
        ),
    ),
    _says_of_header("of length 0", write("model.safetensors", bytes(8) + b"{}")),
    _says_of_header("of seven bytes", write("model.safetensors", b"1234567")),
    _says_of_header("of length 2^64 - 1", write("model.safetensors", b"\xff" * 8 + b"{}"), apart=True),
    _says_of_header(
        "larger than 100 MB",
        lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 120_000_000) + b"{}" + b" " * 119_999_998),
        apart=True,
    ),
    _says_of_header(
        "data beyond the last tensor", lambda f: _append(f / "model.safetensors", bytes(100)), arguments=EMBED
    ),
    _says_of_header("data beyond the last tensor", lambda f: _append(f / "model.safetensors", bytes(100))),
    _says_of_header("a NaN in it", raw_header('{"a": NaN}')),
    _says_of_header("a lone surrogate in a name", renamed("\ud800")),
    Stranger("header: an empty name", PARAMS, ("tensor",), renamed(""), harmless=True),
    Stranger("header: a name of 10,000 characters", PARAMS, ("tensor",), renamed("x" * 10_000), harmless=True),
    Stranger("header: a name of 100,000 characters", PARAMS, ("100,000 characters",), renamed("x" * 100_000)),
    Stranger("header: a name of 100,000 characters, embed", EMBED, ("100,000 characters",), renamed("x" * 100_000)),
    Stranger("header: a name with a thousand dots, embed", EMBED, ("'./model'", FC1), renamed("." * 1000)),
)


def _append(file: Path, content: bytes) -> None:
    with file.open("ab") as stream:
        stream.write(content)
