"""Strangers' files that are no files: pipes, directories, links, devices, endless and empty ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.making.bad_input import EMBED, TREE
from tests.making.checkpoints import to_shards
from tests.making.strangers.adapters import adapter
from tests.making.strangers.command_lines import ADAPTED, GGUF_PARAMS, GGUF_TREE, PARAMS, RUN, TOKENIZE
from tests.making.strangers.damaging import all_of, gone, write
from tests.making.strangers.gguf_files import gguf
from tests.making.strangers.shard_indexes import index
from tests.making.strangers.stranger import Damage, Stranger


def place(folder: Path, name: str) -> Path:
    """The place of a file, which may stand beside the model, emptied."""
    file = folder / name
    if file.is_file():
        file.unlink()
    return file


def fifo(name: str) -> Damage:
    """A pipe in the place of a file."""
    return lambda folder: os.mkfifo(place(folder, name))


def directory(name: str) -> Damage:
    """A folder in the place of a file."""
    return lambda folder: place(folder, name).mkdir()


def dangling(name: str) -> Damage:
    """A link to nowhere in the place of a file."""
    return lambda folder: place(folder, name).symlink_to("nowhere at all")


def looping(name: str) -> Damage:
    """A link to itself in the place of a file."""
    return lambda folder: place(folder, name).symlink_to(Path(name).name)


def endless(name: str) -> Damage:
    """A device that never ends in the place of a file."""
    return lambda folder: place(folder, name).symlink_to("/dev/zero")


def sparse(name: str) -> Damage:
    """Twenty gigabytes of nothing, on no disk."""

    def damage(folder: Path) -> None:
        with (folder / name).open("ab") as stream:
            stream.truncate(20 << 30)

    return damage


_WAYS: tuple[tuple[str, Callable[[str], Damage]], ...] = (
    ("a FIFO", fifo),
    ("a directory", directory),
    ("a dangling link", dangling),
    ("a link to itself", looping),
    ("/dev/zero", endless),
    ("20 GB", sparse),
)


def _no_file(name: str, arguments: tuple[str, ...], ways: str, before: Damage | None = None) -> Iterable[Stranger]:
    for way, make in _WAYS:
        if way in ways:
            damage = all_of(before, make(name)) if before else make(name)
            unread = Path(name).name == "generation_config.json"
            yield Stranger(
                f"{Path(name).name} is {way}", arguments, (Path(name).name,), damage, apart=True, either=unread
            )


_ALL = "a FIFO, a directory, a dangling link, a link to itself, /dev/zero, 20 GB"

_GLANCED_AT = "a FIFO, a link to itself, /dev/zero"


NO_FILES = (
    *_no_file("config.json", TREE, _ALL),
    *_no_file("tokenizer.json", TOKENIZE, _ALL),
    *_no_file("tokenizer_config.json", TOKENIZE, _ALL),
    *_no_file("special_tokens_map.json", TOKENIZE, _GLANCED_AT),
    *_no_file("generation_config.json", RUN, "a FIFO, a link to itself, /dev/zero, 20 GB"),
    *_no_file("model.safetensors", PARAMS, _ALL),
    *_no_file("model.safetensors.index.json", EMBED, _ALL, lambda folder: to_shards(folder)),
    *_no_file("pytorch_model.bin", EMBED, "a FIFO, a directory, /dev/zero, 20 GB", gone("model.safetensors")),
    *_no_file(
        "../adapter/adapter_config.json", ADAPTED, "a FIFO, a directory, a link to itself, /dev/zero, 20 GB", adapter()
    ),
    *_no_file("../adapter/adapter_model.safetensors", ADAPTED, "a FIFO, a directory, /dev/zero", adapter()),
    *_no_file("../model.gguf", GGUF_TREE, "a FIFO, a directory, a dangling link, a link to itself, /dev/zero"),
    Stranger("a model that is a FIFO", ("tree", "./pipe"), ("'./pipe'",), fifo("../pipe"), apart=True),
    Stranger("model.safetensors is a FIFO, run", RUN, ("model.safetensors",), fifo("model.safetensors"), apart=True),
    Stranger(
        "a shard is a FIFO",
        EMBED,
        ("model-00002-of-00002",),
        all_of(to_shards, fifo("model-00002-of-00002.safetensors")),
        apart=True,
    ),
    Stranger(
        "a shard is a directory",
        PARAMS,
        ("model-00002-of-00002",),
        all_of(gone("config.json"), to_shards, directory("model-00002-of-00002.safetensors")),
    ),
    Stranger("tokenizer.json is empty", TOKENIZE, ("tokenizer", "'./model'"), write("tokenizer.json", b"")),
    Stranger(
        "tokenizer_config.json is empty",
        TOKENIZE,
        ("tokenizer_config.json", "'./model'"),
        write("tokenizer_config.json", b""),
    ),
    Stranger(
        "generation_config.json is empty",
        RUN,
        ("generation_config.json",),
        write("generation_config.json", b""),
        either=True,
    ),
    Stranger("index is empty", EMBED, ("index.json",), index("")),
    Stranger(
        "adapter_config.json is empty",
        ADAPTED,
        ("adapter_config.json",),
        adapter(lambda made: (made / "adapter_config.json").write_bytes(b"")),
    ),
    Stranger(
        "adapter_model.safetensors is empty",
        ADAPTED,
        ("adapter_model.safetensors",),
        adapter(lambda made: (made / "adapter_model.safetensors").write_bytes(b"")),
    ),
    Stranger(
        "gguf is empty", GGUF_PARAMS, ("model.gguf",), lambda folder: (folder.parent / "model.gguf").write_bytes(b"")
    ),
    Stranger(
        "gguf is 20 GB of nothing",
        GGUF_PARAMS,
        ("model.gguf",),
        lambda folder: sparse("model.gguf")(folder.parent),
        apart=True,
    ),
    Stranger(
        "gguf is a header and 20 GB",
        GGUF_PARAMS,
        ("tensor",),
        gguf(lambda file: sparse("model.gguf")(file.parent)),
        apart=True,
        harmless=True,
    ),
    Stranger(
        "config.json is a socket",
        TREE,
        ("config.json",),
        lambda folder: _socket(place(folder, "config.json")),
        apart=True,
    ),
    Stranger(
        "config.json is a link through a file",
        TREE,
        ("config.json",),
        lambda folder: place(folder, "config.json").symlink_to("tokenizer.json/config.json"),
    ),
)


def _socket(path: Path) -> None:
    import socket

    before = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(before)
