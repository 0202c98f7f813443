"""Models from strangers: damaged and hostile checkpoints, each made of a good one, and what must be said of them."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import resource
import shutil
import struct
import sys
import time
import traceback
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from tests.making.bad_input import EMBED, EMBEDDING, FC1, TREE, in_model
from tests.making.checkpoints import Attack, change_config, keep, legacy, rewrite_header, to_shards, to_torch

Damage = Callable[[Path], object]

TOKENIZE = in_model("tokenize", "hi")
STAGES = ("stages", "./model")
PLAN = in_model("plan", "hi")
RUN = in_model("run", "hi", "-s", "logits")
ATTN = in_model("attn", "hi")
LOGITS = in_model("logits", "hi")
PARAMS = ("params", "./model")
ADAPTED = ("embed", "hi", "-m", "./adapter")
ADAPTER_TREE = ("tree", "./adapter")
GGUF_TREE = ("tree", "./model.gguf")
GGUF_PARAMS = ("params", "./model.gguf")
GGUF_TOKENIZE = ("tokenize", "hi", "-m", "./model.gguf")

LONGEST = 15.0
"""Seconds that a case may take, imports aside."""

PATIENCE = float(os.environ.get("STRANGERS_PATIENCE", "60"))
"""Seconds after which a process of its own is ended."""

MEMORY = 8 << 30
"""Bytes that a process of its own may take, beyond what is mapped from files."""

RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that a terminal obeys, or that turn the order of a line."""


@dataclass(frozen=True)
class Stranger:
    """A model that no one should trust, and what is said of it."""

    id: str
    arguments: tuple[str, ...]
    says: tuple[str, ...]
    """What the one sentence must hold; of a report, what stands in it."""
    damage: Damage
    """What is done to a good checkpoint, which is the model `model`."""
    apart: bool = False
    """Whether it needs a process of its own: it may hang, crash or write to file descriptors."""
    harmless: bool = False
    """Whether the report is shown all the same."""
    either: bool = False
    """Whether a sentence and a report are both right."""


@dataclass(frozen=True)
class Said:
    """What the program did."""

    code: int | None
    """None where it did not end."""
    stdout: str
    stderr: str
    seconds: float


def judge(case: Stranger, said: Said) -> None:
    """Look at what the program did with a stranger's model."""
    told = f"{said.code} in {said.seconds:.1f} s: {said.stderr[:300]!r} {said.stdout[:60]!r}"
    assert said.code is not None, f"hang: {told}"
    raw = RAW.findall(said.stdout + said.stderr)
    assert not raw, f"raw {sorted(set(raw))!r}: {told}"
    shown = case.harmless or (case.either and said.code == 0)
    if shown:
        assert said.code == 0, told
    else:
        assert said.code in (1, 2), told
        assert not said.stdout, told
        assert said.stderr.startswith("txinspect: "), told
        assert said.stderr.count("\n") == 1, f"{said.stderr.count(chr(10))} lines: {told}"
        assert len(said.stderr) < 600, f"{len(said.stderr)} characters: {told}"
        # What a library says of an unexpected end of a file is no error that nobody foresaw.
        assert not re.search(r"unexpected [A-Z]\w+: ", said.stderr), told
        assert "Traceback" not in said.stderr, told
    wanted = () if shown and case.either else case.says
    missing = [fragment for fragment in wanted if fragment not in (said.stdout if shown else said.stderr)]
    assert not missing, f"lacks {missing}: {told}"
    assert said.seconds < LONGEST, f"slow: {told}"


def _no_tokenizer(id: str, damage: Damage) -> Stranger:
    return Stranger(id, TOKENIZE, ("'./model'", "tokenizer"), damage, apart=True)


def run_apart(arguments: tuple[str, ...], folder: Path) -> Said:
    """Run the command line in a process of its own, in `folder`, which has imported everything before it begins."""
    context = get_context("forkserver")
    context.set_forkserver_preload(
        [
            *("torch", "transformers", "peft", "gguf", "txinspect.cli.app"),
            *("transformers.models.opt.modeling_opt", "transformers.models.llama.modeling_llama"),
        ]
    )
    process = context.Process(target=_command, args=(arguments, str(folder), dict(os.environ)))
    process.start()
    process.join(PATIENCE)
    running = process.is_alive()
    if running:
        process.kill()
        process.join()
    began = folder / "began"
    seconds = PATIENCE if running else (folder / "ended").stat().st_mtime - began.stat().st_mtime
    stdout, stderr = ((folder / name).read_bytes().decode("utf-8", "replace") for name in ("stdout", "stderr"))
    return Said(None if running else int((folder / "ended").read_text()), stdout, stderr, seconds)


def _command(arguments: tuple[str, ...], folder: str, environment: dict[str, str]) -> None:
    """The command line in this process, its output in files, under a watch that says when it ended."""
    from txinspect.__main__ import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    Path("began").touch()
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        Path("ended").write_text(str(os.waitstatus_to_exitcode(status)))
        os._exit(0)
    os.setpgid(0, 0)
    _die_with_parent()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number, name in (1, "stdout"), (2, "stderr"):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    torch.set_num_threads(1)
    sys.argv = ["txinspect", *arguments]
    code = 70
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:  # a panic of a library in Rust is no Exception
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _die_with_parent() -> None:
    """Have the kernel end this process when the one that watches it is ended."""
    import ctypes
    import signal

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


# Ways to damage


def write(name: str, content: str | bytes) -> Damage:
    """Write a file of the model anew."""
    raw = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(raw)


def config(**values: Any) -> Damage:
    return lambda folder: change_config(folder, **values)


def config_made(make: Callable[[], dict[str, Any]]) -> Damage:
    """Set values of config.json that are too large to be made before they are needed."""
    return lambda folder: change_config(folder, **make())


def change_json(name: str, change: Callable[[Any], object]) -> Damage:
    """Change a JSON file of the model in place."""

    def damage(folder: Path) -> None:
        file = folder / name
        content = json.loads(file.read_text()) if file.exists() else {}
        change(content)
        file.write_text(json.dumps(content))

    return damage


def tokenizer(change: Callable[[Any], object]) -> Damage:
    return change_json("tokenizer.json", change)


def tokenizer_values(**values: Any) -> Damage:
    return tokenizer(lambda content: content.update(values))


def tokenizer_config(**values: Any) -> Damage:
    return change_json("tokenizer_config.json", lambda content: content.update(values))


def raw_config(entry: str) -> Damage:
    """Put an entry into config.json as it stands, such as one that json.dumps would not write."""

    def damage(folder: Path) -> None:
        file = folder / "config.json"
        file.write_bytes(("{" + entry + ", " + file.read_text().strip()[1:]).encode("utf-8", "surrogatepass"))

    return damage


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


def index(content: Any) -> Damage:
    """Give the model an index in the place of its weights."""

    def damage(folder: Path) -> None:
        to_shards(folder)
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / "model.safetensors.index.json").write_text(text)

    return damage


def index_changed(change: Callable[[Any], object]) -> Damage:
    """Turn the weights into shards and change their index."""

    def damage(folder: Path) -> None:
        to_shards(folder)
        change_json("model.safetensors.index.json", change)(folder)

    return damage


def adapter(change: Callable[[Path], object] = lambda _: None, **values: Any) -> Damage:
    """Put a LoRA on the model into ./adapter, with changed values in its config."""

    def damage(folder: Path) -> None:
        made = folder.parent / "adapter"
        made.mkdir()
        told: dict[str, Any] = {
            "base_model_name_or_path": "./model",
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["q_proj"],
        }
        (made / "adapter_config.json").write_text(json.dumps(told | values))
        stem = "base_model.model.model.decoder.layers.{}.self_attn.q_proj.lora_{}.weight"
        tensors = {stem.format(layer, "A"): torch.ones(4, 64) for layer in range(3)}
        tensors |= {stem.format(layer, "B"): torch.ones(64, 4) for layer in range(3)}
        save_file(tensors, made / "adapter_model.safetensors")
        change(made)

    return damage


def gguf(change: Callable[[Path], object] = lambda _: None, **settings: Any) -> Damage:
    """Write the header of a small Llama and one tensor into ./model.gguf; `__` in a setting stands for a dot."""

    def damage(folder: Path) -> None:
        from gguf import GGUFWriter

        file = folder.parent / "model.gguf"
        numbers = {
            "llama.block_count": 1,
            "llama.embedding_length": 64,
            "llama.feed_forward_length": 96,
            "llama.context_length": 128,
            "llama.attention.head_count": 4,
            "llama.attention.head_count_kv": 4,
        } | {name.replace("__", "."): value for name, value in settings.items()}
        writer = GGUFWriter(file, "llama")
        writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        writer.add_tokenizer_model("llama")
        writer.add_token_list(["<unk>", "<s>", "</s>", "▁", "h", "i"])
        writer.add_token_scores([0.0] * 6)
        writer.add_token_types([2, 3, 3, 1, 1, 1])
        for name, value in numbers.items():
            if isinstance(value, str):
                writer.add_string(name, value)
            elif isinstance(value, int):
                writer.add_uint64(name, value) if value >= 2**32 else writer.add_uint32(name, value)
            else:
                writer.add_array(name, value)
        writer.add_tensor("output_norm.weight", np.ones(64, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        change(file)

    return damage


def raw_gguf(*settings: bytes, tensors: bytes = b"", count: int = 0) -> Damage:
    """Write ./model.gguf of settings and tensors as they stand."""
    whole = b"GGUF" + struct.pack("<IQQ", 3, count, len(settings)) + b"".join(settings) + tensors + bytes(64)
    return lambda folder: (folder.parent / "model.gguf").write_bytes(whole)


def gguf_text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def all_of(*damages: Damage) -> Damage:
    def damage(folder: Path) -> None:
        for each in damages:
            each(folder)

    return damage


def cut(name: str, share: float) -> Damage:
    """Cut a file off after a share of it."""
    return lambda folder: keep(folder / name, share)


def gone(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def place(folder: Path, name: str) -> Path:
    """The place of a file, which may stand beside the model, emptied."""
    file = folder / name
    if file.is_file():
        file.unlink()
    return file


def fifo(name: str) -> Damage:
    return lambda folder: os.mkfifo(place(folder, name))


def directory(name: str) -> Damage:
    return lambda folder: place(folder, name).mkdir()


def dangling(name: str) -> Damage:
    return lambda folder: place(folder, name).symlink_to("nowhere at all")


def looping(name: str) -> Damage:
    return lambda folder: place(folder, name).symlink_to(Path(name).name)


def endless(name: str) -> Damage:
    return lambda folder: place(folder, name).symlink_to("/dev/zero")


def sparse(name: str) -> Damage:
    """Twenty gigabytes of nothing, on no disk."""

    def damage(folder: Path) -> None:
        with (folder / name).open("ab") as stream:
            stream.truncate(20 << 30)

    return damage


def nested(depth: int, inner: str = "") -> str:
    return "[" * depth + inner + "]" * depth


DEEP = nested(100_000)


def deep_in(name: str) -> Damage:
    """A JSON file with one value that is nested a hundred thousand deep."""

    def damage(folder: Path) -> None:
        file = folder / name
        text = file.read_text().strip() if file.exists() else "{}"
        inner = text[1:] if text != "{}" else '"x": 1}'
        file.write_text('{"deep": ' + DEEP + ", " + inner)

    return damage


# 1. Files that are no files

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


# 2. Too large to be true

_TOO_LARGE: tuple[tuple[tuple[str, ...], str, int], ...] = (
    (TREE, "num_hidden_layers", 10**5),
    (STAGES, "num_hidden_layers", 10**6),
    (PLAN, "num_hidden_layers", 10**9),
    (RUN, "num_hidden_layers", 10**5),
    (TREE, "num_hidden_layers", 10**30),
    (TREE, "hidden_size", 10**12),
    (EMBED, "vocab_size", 10**12),
    (TREE, "vocab_size", 10**18),
    (RUN, "ffn_dim", 10**12),
    (STAGES, "num_attention_heads", 10**12),
    (RUN, "max_position_embeddings", 10**12),
    (TREE, "word_embed_proj_dim", 10**12),
    (LOGITS, "vocab_size", 2**63),
)


def _many_tokens(count: int) -> list[dict[str, Any]]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return [{"id": 384 + number, "content": f"<extra_{number}>", **plain} for number in range(count)]


TOO_LARGE = (
    *(
        Stranger(
            f"{key} {value:.0e}, {arguments[0]}",
            arguments,
            ("'./model'", key, str(value)[:6]),
            config(**{key: value}),
            apart=True,
            either=arguments in (TREE, STAGES, PLAN) and key != "num_hidden_layers",  # nothing is built of numbers
        )
        for arguments, key, value in _TOO_LARGE
    ),
    Stranger(
        "tokenize beside 1e9 layers", TOKENIZE, ("index",), config(num_hidden_layers=10**9), apart=True, harmless=True
    ),
    Stranger(
        "two million keys",
        TREE,
        ("config.json",),
        config_made(lambda: {f"key_{n}": n for n in range(2_000_000)}),
        apart=True,
    ),
    Stranger("num_labels 1e8", TREE, ("config.json", "num_labels", "100000000"), config(num_labels=10**8), apart=True),
    Stranger("num_labels 1e30", TREE, ("config.json", "num_labels"), config(num_labels=10**30), apart=True),
    Stranger(
        "id2label of a million",
        TREE,
        ("OPTForCausalLM",),
        config_made(lambda: {"id2label": {str(n): "x" for n in range(1_000_000)}}),
        apart=True,
        harmless=True,
    ),
    Stranger("a number of 5000 digits", TREE, ("config.json",), raw_config('"hidden_size": ' + "9" * 5000), apart=True),
    Stranger("a model_type of a megabyte", TREE, ("'./model'",), config(model_type="x" * 10**6)),
    Stranger(
        "an activation of a megabyte",
        TREE,
        ("'./model'", "activation_function"),
        config(activation_function="x" * 10**6),
    ),
    Stranger(
        "100,000 special tokens in tokenizer_config.json",
        TOKENIZE,
        ("tokenizer_config.json", "'./model'", "extra_special_tokens", "100,000"),
        lambda f: tokenizer_config(extra_special_tokens=[f"<e{n}>" for n in range(100_000)])(f),
        apart=True,
    ),
    Stranger(
        "100,000 decoded tokens in tokenizer_config.json",
        TOKENIZE,
        ("tokenizer_config.json", "'./model'", "added_tokens_decoder", "100,000"),
        lambda f: tokenizer_config(added_tokens_decoder={str(each.pop("id")): each for each in _many_tokens(100_000)})(
            f
        ),
        apart=True,
    ),
    Stranger(
        "100,000 added tokens in tokenizer.json",
        TOKENIZE,
        ("tokenizer.json", "'./model'", "added_tokens"),
        tokenizer(lambda t: t["added_tokens"].extend(_many_tokens(100_000))),
        apart=True,
    ),
    Stranger(
        "added_tokens.json of 100,000",
        TOKENIZE,
        ("index",),
        lambda f: (f / "added_tokens.json").write_text(json.dumps({f"<e{n}>": 384 + n for n in range(100_000)})),
        apart=True,
        harmless=True,
    ),
    Stranger(
        "a vocabulary of a million",
        TOKENIZE,
        ("index",),
        tokenizer(lambda t: t["model"]["vocab"].update({f"w{n}": 384 + n for n in range(1_000_000)})),
        apart=True,
        harmless=True,
    ),
    Stranger(
        "an id of 2^32 in the vocabulary",
        TOKENIZE,
        ("tokenizer",),
        tokenizer(lambda t: t["model"]["vocab"].update(h=2**32)),
        apart=True,
    ),
    Stranger(
        "an id of 2^32 - 1 in the vocabulary, run",
        RUN,
        ("4294967295",),
        tokenizer(lambda t: t["model"]["vocab"].update(h=2**32 - 1)),
        apart=True,
    ),
    Stranger(
        "target_modules that backtracks for ever",
        ADAPTED,
        ("'./adapter'", "target_modules"),
        adapter(target_modules="((([a-z_.]|[0-9])+)+)+$!"),
        apart=True,
    ),
    Stranger(
        "target_modules that backtracks for ever, tree",
        ADAPTER_TREE,
        ("'./adapter'", "target_modules"),
        adapter(target_modules="(.*.*)*(.*.*)*x!"),
        apart=True,
    ),
    Stranger(
        "exclude_modules that backtracks for ever",
        ADAPTED,
        ("'./adapter'", "exclude_modules"),
        adapter(exclude_modules="(([a-z_.0-9]+)+)+!"),
        apart=True,
    ),
    Stranger(
        "target_modules that is no regex",
        ADAPTED,
        ("'./adapter'", "target_modules"),
        adapter(target_modules="((("),
        apart=True,
    ),
    Stranger("a rank of 1e12", ADAPTED, ("'./adapter'", "1000000000000"), adapter(r=10**12), apart=True),
    Stranger(
        "a rank of 1e12, tree",
        ADAPTER_TREE,
        ("'./adapter'", "1000000000000"),
        adapter(r=10**12),
        apart=True,
        either=True,
    ),
    Stranger(
        "gguf block_count 1e5", GGUF_TREE, ("'./model.gguf'", "100000"), gguf(llama__block_count=10**5), apart=True
    ),
    Stranger(
        "gguf block_count 2^32 - 1, stages",
        ("stages", "./model.gguf"),
        ("'./model.gguf'", "4294967295"),
        gguf(llama__block_count=2**32 - 1),
        apart=True,
    ),
    Stranger(
        "gguf block_count 1e18, embed",
        ("embed", "hi", "-m", "./model.gguf"),
        ("'./model.gguf'",),
        gguf(llama__block_count=10**18),
        apart=True,
    ),
    Stranger(
        "gguf embedding_length 1e12", GGUF_TREE, ("'./model.gguf'",), gguf(llama__embedding_length=10**12), apart=True
    ),
    Stranger("gguf head_count 0", GGUF_TREE, ("'./model.gguf'",), gguf(llama__attention__head_count=0), apart=True),
    Stranger("gguf block_count a string", GGUF_TREE, ("'./model.gguf'",), gguf(llama__block_count="many"), apart=True),
    Stranger(
        "gguf block_count an array",
        GGUF_PARAMS,
        ("tensor",),
        gguf(llama__block_count=[1, 2, 3]),
        apart=True,
        harmless=True,
    ),
    Stranger(
        "gguf of 2^60 settings",
        GGUF_PARAMS,
        ("model.gguf",),
        lambda f: (f.parent / "model.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60)),
        apart=True,
    ),
    Stranger(
        "gguf with a string of 2^62", GGUF_PARAMS, ("model.gguf",), raw_gguf(struct.pack("<Q", 2**62)), apart=True
    ),
    Stranger(
        "gguf with an array of 2^60",
        GGUF_PARAMS,
        ("model.gguf",),
        raw_gguf(gguf_text("x") + struct.pack("<IIQ", 9, 8, 2**60)),
        apart=True,
    ),
    Stranger(
        "gguf with arrays 5000 deep",
        GGUF_PARAMS,
        ("model.gguf",),
        raw_gguf(gguf_text("x") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5000 + struct.pack("<IQ", 0, 0)),
        apart=True,
    ),
    Stranger(
        "gguf with an array of 2^40 empty arrays",
        GGUF_PARAMS,
        ("model.gguf",),
        raw_gguf(gguf_text("x") + struct.pack("<IIQ", 9, 9, 2**40) + struct.pack("<IQ", 0, 0) * 100_000),
        apart=True,
    ),
    Stranger("gguf alignment 0", GGUF_PARAMS, ("model.gguf",), gguf(general__alignment=0), apart=True),
    Stranger(
        "gguf alignment a string",
        GGUF_PARAMS,
        ("model.gguf",),
        raw_gguf(gguf_text("general.alignment") + struct.pack("<I", 8) + gguf_text("x")),
        apart=True,
    ),
    Stranger(
        "gguf tensor of 2^32 dimensions",
        GGUF_PARAMS,
        ("model.gguf",),
        raw_gguf(tensors=gguf_text("t") + struct.pack("<I", 2**32 - 1), count=1),
        apart=True,
    ),
    Stranger(
        "gguf tensor of a type that is none",
        GGUF_PARAMS,
        ("model.gguf",),
        raw_gguf(tensors=gguf_text("t") + struct.pack("<IQIQ", 1, 1, 999, 0), count=1),
    ),
)


# 3. Values of the wrong kind


def _wrong(
    arguments: tuple[str, ...], key: str, value: Any, *more: str, harmless: bool = False, either: bool = False
) -> Stranger:
    says = more if harmless else ("'./model'", key, *more)
    name = f"config: {key} {str(value)[:60]!r}, {arguments[0]}"
    return Stranger(name, arguments, says, config(**{key: value}), harmless=harmless, either=either)


def _only_torch_dtype(value: Any) -> Damage:
    """Name the type by the key that came before `dtype`."""
    return change_json("config.json", lambda content: content.pop("dtype") and content.update(torch_dtype=value))


def _quantized(arguments: tuple[str, ...], *more: str, **values: Any) -> Stranger:
    name = f"config: quantization_config {str(values)[:80]!r}, {arguments[0]}"
    return Stranger(name, arguments, ("'./model'", "quantiz"), config(quantization_config=values))


def llama(**values: Any) -> Damage:
    """A Llama's config in the place of OPT's."""
    return lambda folder: _other(folder, "llama", "LlamaForCausalLM", values)


def qwen3(**values: Any) -> Damage:
    """A Qwen3's config in the place of OPT's."""
    return lambda folder: _other(folder, "qwen3", "Qwen3ForCausalLM", values)


def _other(folder: Path, model_type: str, kind: str, values: dict[str, Any]) -> None:
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": 384,
        "max_position_embeddings": 128,
    }
    whole = {"model_type": model_type, "architectures": [kind], **sizes, **values}
    (folder / "config.json").write_text(json.dumps(whole))


_HARMLESS_BUT_ODD: tuple[tuple[str, Any], ...] = (
    ("head_dim", 10**12),
    ("num_key_value_heads", 3),
    ("rope_parameters", {"rope_type": "default", "rope_theta": 0}),
    ("rope_parameters", {"rope_type": "linear", "rope_theta": 1e4, "factor": 0}),
)
"""Values that no pass would go well with, which a tree and a list of stages can be shown with."""


CONFIGS = (
    _wrong(TREE, "architectures", [1, 2], "OPTForCausalLM", harmless=True),
    _wrong(PARAMS, "architectures", 5, "tensor", harmless=True),
    _wrong(TREE, "architectures", {"a": 1}, "OPTForCausalLM", harmless=True),
    _wrong(TREE, "architectures", None, "OPTForCausalLM", harmless=True),
    _wrong(TREE, "dtype", {"a": "float32"}),
    _wrong(TREE, "dtype", 5, "5"),
    _wrong(EMBED, "dtype", ["float32"]),
    _wrong(EMBED, "dtype", "nn", "nn"),
    _wrong(PLAN, "dtype", "int8", "int8"),
    *(
        Stranger(
            f"config: torch_dtype {value!r} alone, {arguments[0]}",
            arguments,
            ("'./model'", "dtype"),
            _only_torch_dtype(value),
        )
        for arguments, value in ((TREE, {"a": 1}), (TREE, 16), (EMBED, ["float32"]), (RUN, "float33"))
    ),
    _wrong(TREE, "auto_map", 5, "5"),
    _wrong(TREE, "auto_map", [], "OPTForCausalLM", harmless=True),
    _wrong(EMBED, "auto_map", "own.py", "hi", harmless=True),
    _wrong(TREE, "auto_map", {"AutoConfig": 5}, "5"),
    _wrong(TREE, "auto_map", {"AutoConfig": [None]}, "OPTForCausalLM", harmless=True),
    Stranger(
        "config: auto_map of a number, trusting",
        (*TREE, "--trust-remote-code"),
        ("'./model'", "auto_map"),
        config(model_type="own", auto_map={"AutoConfig": 5}),
    ),
    Stranger(
        "config: auto_map of a list, trusting",
        (*TREE, "--trust-remote-code"),
        ("'./model'", "auto_map"),
        config(model_type="own", auto_map={"AutoConfig": ["a", "b"]}),
    ),
    Stranger(
        "config: auto_map of another repository",
        (*TREE, "--trust-remote-code"),
        ("'./model'",),
        config(model_type="own", auto_map={"AutoConfig": "evil/repo--own.OwnConfig"}),
    ),
    Stranger(
        "config: auto_map that climbs out",
        (*TREE, "--trust-remote-code"),
        ("'./model'",),
        config(model_type="own", auto_map={"AutoConfig": "../../own.OwnConfig"}),
    ),
    _wrong(TREE, "attribute_map", 5),
    _wrong(TREE, "attribute_map", {"hidden_size": "hidden_size"}, "OPTForCausalLM", harmless=True),
    _wrong(RUN, "attribute_map", {"hidden_size": "nowhere"}),
    _wrong(TREE, "id2label", 5, "5"),
    _wrong(TREE, "id2label", ["a"]),
    _wrong(TREE, "id2label", {"a": "b"}),
    _wrong(TREE, "num_labels", "many", "many"),
    _wrong(TREE, "num_labels", -1, "-1", either=True),
    _wrong(TREE, "quantization_config", 5, "5"),
    _wrong(EMBED, "quantization_config", [1], "[1]"),
    _wrong(EMBED, "quantization_config", "int8", "int8"),
    _wrong(TREE, "quantization_config", {}, either=True),
    _quantized(EMBED, "5", quant_method=5),
    _quantized(PLAN, "bitsandbytes", quant_method=["bitsandbytes"]),
    _quantized(RUN, "load_in_4bit", quant_method="bitsandbytes", load_in_4bit="yes"),
    _quantized(RUN, "llm_int8_threshold", quant_method="bitsandbytes", load_in_8bit=True, llm_int8_threshold=[]),
    _quantized(EMBED, "gptq", quant_method="gptq", bits="x"),
    _quantized(EMBED, "weight_block_size", quant_method="fp8", weight_block_size="x"),
    _quantized(EMBED, "config_groups", quant_method="compressed-tensors", config_groups=5),
    _wrong(TREE, "tie_word_embeddings", "yes", "yes"),
    _wrong(RUN, "tie_word_embeddings", 5, "5"),
    _wrong(RUN, "tie_word_embeddings", {}),
    Stranger(
        "config: model_type ../opt, tree", TREE, ("'./model'", "model type", "'../opt'"), config(model_type="../opt")
    ),
    _wrong(TREE, "model_type", {"opt": 1}),
    _wrong(TREE, "model_type", True),
    Stranger("config: model_type OPT, tree", TREE, ("'./model'", "model type", "'OPT'"), config(model_type="OPT")),
    _wrong(TREE, "hidden_size", 64.0, "64.0"),
    _wrong(TREE, "hidden_size", True),
    _wrong(TREE, "num_hidden_layers", "3", "'3'"),
    _wrong(RUN, "num_attention_heads", {"a": 1}),
    _wrong(STAGES, "activation_function", 5, "5"),
    _wrong(STAGES, "activation_function", None),
    _wrong(RUN, "do_layer_norm_before", "no", "no"),
    _wrong(RUN, "enable_bias", []),
    _wrong(RUN, "dropout", "x", "x"),
    _wrong(RUN, "layerdrop", 7, "7", either=True),
    _wrong(RUN, "pad_token_id", "x", "x"),
    _wrong(RUN, "pad_token_id", -5, "-5", either=True),
    _wrong(RUN, "bos_token_id", [[]]),
    _wrong(RUN, "eos_token_id", {"a": 1}),
    _wrong(LOGITS, "eos_token_id", "x", "x"),
    _wrong(TREE, "init_std", "x", "x"),
    _wrong(TREE, "use_cache", "x", "x"),
    _wrong(RUN, "text_config", 5, "5"),
    _wrong(EMBED, "transformers_version", 5, "hi", harmless=True),
    _wrong(EMBED, "transformers_version", "99.0.0", "hi", harmless=True),
    _wrong(RUN, "attn_implementation", "frobnicate", "frobnicate"),
    _wrong(RUN, "_attn_implementation", 5),
    _wrong(RUN, "output_attentions", "x", "x", either=True),
    _wrong(RUN, "return_dict", False, either=True),
    _wrong(RUN, "output_hidden_states", True, "logits", harmless=True),
    _wrong(RUN, "name_or_path", 5, "logits", harmless=True),
    _wrong(RUN, "gradient_checkpointing", True, "logits", harmless=True),
    _wrong(RUN, "per_layer_config", {"0": 5}, "5"),
    Stranger("config: hidden_size NaN", TREE, ("'./model'", "hidden_size", "nan"), config(hidden_size=float("nan"))),
    Stranger("config: dropout Infinity", RUN, ("'./model'", "dropout", "inf"), config(dropout=float("inf"))),
    Stranger(
        "config: dropout 1e999",
        RUN,
        ("'./model'", "dropout", "inf"),
        lambda f: _replaced(f / "config.json", b'"dropout": 0.1', b'"dropout": 1e999'),
    ),
    Stranger("config: init_std NaN", TREE, ("OPTForCausalLM",), config(init_std=float("nan")), harmless=True),
    Stranger(
        "config with a byte order mark", TREE, ("config.json",), lambda f: _recoded(f / "config.json", "utf-8-sig")
    ),
    Stranger("config in UTF-16", TREE, ("config.json",), lambda f: _recoded(f / "config.json", "utf-16")),
    Stranger(
        "config with a lone surrogate", TREE, ("'./model'", "activation_function"), config(activation_function="\ud800")
    ),
    Stranger(
        "config with a lone surrogate as a key", TREE, ("OPTForCausalLM",), config(**{"\ud800": 1}), harmless=True
    ),
    Stranger("config with a surrogate in UTF-8", TREE, ("config.json",), raw_config('"x": "\ud800"')),
    Stranger("config with a key twice", TREE, ("OPTForCausalLM",), raw_config('"hidden_size": 5'), harmless=True),
    Stranger("config with self among its keys", TREE, ("'./model'", "self"), config(self=1)),
    Stranger("config with __class__ among its keys", TREE, ("'./model'", "__class__"), config(__class__="x")),
    Stranger("config with __dict__ among its keys", TREE, ("'./model'", "__dict__"), config(__dict__={})),
    Stranger("config with to_dict among its keys", TREE, ("'./model'", "to_dict"), config(to_dict=5)),
    Stranger("config with an empty key", TREE, ("OPTForCausalLM",), config(**{"": 5}), harmless=True),
    Stranger(
        "config with a key of another family",
        RUN,
        ("'./model'", "num_key_value_heads"),
        config(num_key_value_heads="x"),
        either=True,
    ),
    *(
        Stranger(
            f"llama: {key} {str(value)[:60]!r}, {arguments[0]}",
            arguments,
            ("'./model'", key, *more),
            llama(**{key: value}),
            either=(key, value) in _HARMLESS_BUT_ODD,
        )
        for arguments, key, value, *more in (
            (TREE, "rope_parameters", 5, "5"),
            (TREE, "rope_parameters", []),
            (TREE, "rope_parameters", {"rope_type": 5, "rope_theta": 1e4}),
            (TREE, "rope_parameters", {"rope_type": "frobnicate", "rope_theta": 1e4}, "frobnicate"),
            (STAGES, "rope_parameters", {"rope_type": "default", "rope_theta": "x"}),
            (TREE, "rope_parameters", {"rope_type": "default", "rope_theta": 0}),
            (TREE, "rope_parameters", {"rope_type": "linear", "rope_theta": 1e4, "factor": 0}),
            (TREE, "rope_parameters", {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8}),
            (TREE, "rope_parameters", {"rope_type": "yarn", "rope_theta": 1e4, "factor": [1]}),
            (TREE, "rope_parameters", "x", "x"),
            (TREE, "rope_theta", "x"),
            (TREE, "head_dim", 0, "0"),
            (TREE, "head_dim", "x", "x"),
            (TREE, "head_dim", 10**12),
            (STAGES, "num_key_value_heads", 3, "3"),
            (STAGES, "num_key_value_heads", 0, "0"),
            (TREE, "rms_norm_eps", "x", "x"),
            (TREE, "hidden_act", {"a": 1}),
            (TREE, "pretraining_tp", "x", "x"),
            (TREE, "attention_bias", "x", "x"),
            (TREE, "mlp_bias", 5, "5"),
        )
    ),
    *(
        Stranger(
            f"qwen3: {key} {str(value)[:60]!r}, {arguments[0]}",
            arguments,
            ("'./model'", key, *more),
            qwen3(**{key: value}),
            either=(key, value) in _HARMLESS_BUT_ODD,
        )
        for arguments, key, value, *more in (
            (TREE, "layer_types", 5, "5"),
            (TREE, "layer_types", [1, 2]),
            (TREE, "layer_types", ["full_attention"]),
            (STAGES, "layer_types", ["frobnicate", "full_attention"], "frobnicate"),
            (STAGES, "layer_types", {"0": "full_attention"}),
            (TREE, "sliding_window", "x", "x"),
            (STAGES, "layer_types", ["full_attention"] * 100_000),
            (TREE, "max_window_layers", "x", "x"),
        )
    ),
)


def _replaced(file: Path, old: bytes, new: bytes) -> None:
    content = file.read_bytes()
    assert old in content
    file.write_bytes(content.replace(old, new))


def _recoded(file: Path, encoding: str) -> None:
    file.write_text(file.read_text(), encoding=encoding)


_NO_OBJECTS = (("a list", "[1, 2]"), ("null", "null"), ("a number", "5"), ("a string", '"x"'))


def _token_setting(
    key: str, value: Any, *more: str, harmless: bool = False, either: bool = False, apart: bool = False
) -> Stranger:
    says = ("index",) if harmless else ("'./model'", key, *more)
    name = f"tokenizer_config: {key} {str(value)[:40]!r}"
    return Stranger(
        name, TOKENIZE, says, tokenizer_config(**{key: value}), apart=apart, harmless=harmless, either=either
    )


TOKENIZER_CONFIGS = (
    *(
        Stranger(f"{name} is {what}", TOKENIZE, ("'./model'", name), write(name, text))
        for name in ("tokenizer_config.json", "tokenizer.json")
        for what, text in _NO_OBJECTS
    ),
    *(
        Stranger(f"{name} is {what}, {arguments[0]}", arguments, (name,), write(name, text), either=arguments is RUN)
        for name, arguments in (("special_tokens_map.json", TOKENIZE), ("generation_config.json", RUN))
        for what, text in _NO_OBJECTS[:3]
    ),
    Stranger("added_tokens.json is a list", TOKENIZE, ("added_tokens.json",), write("added_tokens.json", "[1]")),
    Stranger(
        "generation_config.json of odd values",
        RUN,
        ("logits",),
        write("generation_config.json", '{"max_length": "x", "temperature": []}'),
        harmless=True,
    ),
    _token_setting("tokenizer_class", 5, "5"),
    _token_setting("tokenizer_class", ["a"]),
    _token_setting("tokenizer_class", {"a": 1}),
    _token_setting("tokenizer_class", "Frobnicate", harmless=True),
    _token_setting("tokenizer_class", "../x", harmless=True),
    _token_setting("bos_token", 5, "5"),
    _token_setting("bos_token", ["<eos>"]),
    _token_setting("bos_token", {"a": 1}),
    _token_setting("bos_token", {"content": 5}),
    _token_setting("bos_token", {"__type": "AddedToken"}, either=True),
    _token_setting("bos_token", True),
    _token_setting("pad_token", {"__type": "AddedToken", "content": "x" * 10**6}, harmless=True, apart=True),
    _token_setting("unk_token", [[]]),
    _token_setting("eos_token", "", harmless=True),
    _token_setting("extra_special_tokens", 5, "5"),
    _token_setting("extra_special_tokens", {"a": 5}),
    _token_setting("additional_special_tokens", 5, "5"),
    _token_setting("additional_special_tokens", [5], "5"),
    _token_setting("added_tokens_decoder", 5, "5"),
    _token_setting("added_tokens_decoder", []),
    _token_setting("added_tokens_decoder", {"x": {"content": "y"}}),
    _token_setting("added_tokens_decoder", {"5": "y"}),
    _token_setting("added_tokens_decoder", {"-5": {"content": "y"}}, either=True, apart=True),
    _token_setting("added_tokens_decoder", {"99999999999": {"content": "y"}}, either=True, apart=True),
    _token_setting("model_max_length", "x", "x", either=True),
    _token_setting("model_max_length", -1, harmless=True),
    _token_setting("model_max_length", 10**40, harmless=True),
    _token_setting("model_max_length", None, harmless=True),
    Stranger(
        "tokenizer_config: padding_side up",
        TOKENIZE,
        ("'./model'", "adding side", "up"),
        tokenizer_config(padding_side="up"),
    ),
    Stranger(
        "tokenizer_config: truncation_side 5",
        TOKENIZE,
        ("'./model'", "runcation side", "5"),
        tokenizer_config(truncation_side=5),
    ),
    _token_setting("clean_up_tokenization_spaces", "x", harmless=True),
    _token_setting("add_bos_token", "x", "x", either=True),
    _token_setting("backend", 5, "5", either=True),
    _token_setting("backend", "frobnicate", "frobnicate", either=True),
    _token_setting("auto_map", 5, either=True),
    Stranger(
        "tokenizer_config: auto_map a list",
        TOKENIZE,
        ("'./model'", "tokenizer"),
        tokenizer_config(auto_map=["AutoTokenizer"]),
        either=True,
    ),
    Stranger(
        "tokenizer_config: auto_map a string",
        TOKENIZE,
        ("'./model'", "tokenizer"),
        tokenizer_config(auto_map="AutoTokenizer"),
        either=True,
    ),
    Stranger(
        "tokenizer_config: auto_map of a number",
        TOKENIZE,
        ("'./model'", "tokenizer"),
        tokenizer_config(auto_map={"AutoTokenizer": 5}),
    ),
    _token_setting("chat_template", 5, harmless=True),
    _token_setting("chat_template", "{% for %}", harmless=True),
    _token_setting("chat_template", [1], either=True),
    _token_setting("chat_template", [{"name": "a"}], either=True),
    _token_setting("tokenizer_file", "/etc/passwd", harmless=True),
    _token_setting("vocab_file", 5, harmless=True),
    _token_setting("name_or_path", 5, harmless=True),
    _token_setting("model_input_names", 5, "5"),
    _token_setting("init_inputs", 5, "5"),
    _token_setting("self", 5, "self"),
    _token_setting("fix_mistral_regex", "x", harmless=True),
    Stranger(
        "special_tokens_map of numbers",
        TOKENIZE,
        ("special_tokens_map.json", "5"),
        all_of(write("tokenizer_config.json", "{}"), write("special_tokens_map.json", '{"bos_token": 5}')),
    ),
    Stranger(
        "special_tokens_map of objects",
        TOKENIZE,
        ("special_tokens_map.json",),
        all_of(write("tokenizer_config.json", "{}"), write("special_tokens_map.json", '{"bos_token": {"a": 1}}')),
        either=True,
    ),
    Stranger(
        "chat_template.jinja is no text",
        TOKENIZE,
        ("chat_template.jinja",),
        write("chat_template.jinja", b"\xff\xfe"),
        either=True,
    ),
    Stranger(
        "tokenizer.json with a byte order mark",
        TOKENIZE,
        ("tokenizer.json",),
        lambda f: _recoded(f / "tokenizer.json", "utf-8-sig"),
    ),
    Stranger(
        "tokenizer.json in UTF-16", TOKENIZE, ("tokenizer.json",), lambda f: _recoded(f / "tokenizer.json", "utf-16")
    ),
    Stranger(
        "tokenizer_config.json with a byte order mark",
        TOKENIZE,
        ("tokenizer_config.json",),
        lambda f: _recoded(f / "tokenizer_config.json", "utf-8-sig"),
    ),
    Stranger(
        "tokenizer_config.json in UTF-16",
        EMBED,
        ("tokenizer_config.json",),
        lambda f: _recoded(f / "tokenizer_config.json", "utf-16"),
    ),
    Stranger(
        "tokenizer.json with a lone surrogate",
        TOKENIZE,
        ("'./model'", "tokenizer"),
        tokenizer(lambda t: t["model"]["vocab"].update({"\ud800": 384})),
    ),
    Stranger(
        "tokenizer_config.json with a lone surrogate",
        TOKENIZE,
        ("'./model'", "tokenizer"),
        tokenizer_config(bos_token="\ud800"),
    ),
)


def _section(key: str, value: Any, *more: str, harmless: bool = False) -> Stranger:
    says = more if harmless else ("'./model'", "tokenizer", *more)
    return Stranger(
        f"tokenizer: {key} {str(value)[:40]!r}",
        TOKENIZE,
        says,
        tokenizer_values(**{key: value}),
        apart=True,
        harmless=harmless,
    )


def _vocabulary(value: Any) -> Damage:
    return tokenizer(lambda content: content["model"].update(vocab=value))


TOKENIZERS = (
    _section("version", 5),
    _section("version", "99"),
    _section("truncation", 5),
    _section("padding", "x"),
    _section("added_tokens", {}),
    _section("added_tokens", [5]),
    _section("added_tokens", [{"id": -1, "content": "x"}]),
    _section("added_tokens", [{"id": 9, "content": 5}]),
    _section("normalizer", 5),
    _section("normalizer", {"type": "Frobnicate"}),
    _section("normalizer", {"type": "Sequence", "normalizers": 5}),
    _section("pre_tokenizer", []),
    _section("pre_tokenizer", {"type": "Split", "pattern": 5}),
    _section("post_processor", "x"),
    _section("post_processor", {"type": "TemplateProcessing"}),
    _section("decoder", 5),
    _section("decoder", {"type": "ByteLevel", "add_prefix_space": 5}),
    _section("decoder", None, "index", harmless=True),
    _section("model", None),
    _section("model", 5),
    _section("model", {}),
    _section("model", {"type": "Frobnicate"}),
    _section("model", {"type": "BPE", "vocab": [], "merges": []}),
    _section("model", {"type": "Unigram", "vocab": [], "unk_id": 7}),
    _section("model", {"type": "Unigram", "vocab": [["a", "b"]], "unk_id": 0}),
    _section("model", {"type": "WordLevel", "vocab": {}, "unk_token": "[UNK]"}),
    _section(
        "model",
        {
            "type": "WordPiece",
            "vocab": {"a": 0},
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        },
    ),
    Stranger("tokenizer: vocab of strings", TOKENIZE, ("'./model'", "tokenizer"), _vocabulary({"a": "b"}), apart=True),
    Stranger(
        "tokenizer: vocab of negative ids", TOKENIZE, ("'./model'", "tokenizer"), _vocabulary({"a": -1}), apart=True
    ),
    Stranger(
        "tokenizer: vocab empty",
        in_model("tokenize", "hi", "--no-special"),
        ("'hi'", "no tokens"),
        tokenizer(lambda t: t["model"].update(vocab={})),
        apart=True,
    ),
    _no_tokenizer(
        "tokenizer: merges of what is not there",
        tokenizer(lambda t: t["model"].update(merges=[["zz", "yy"]])),
    ),
    _no_tokenizer(
        "tokenizer: merges of three",
        tokenizer(lambda t: t["model"].update(merges=[["h", "i", "h"]])),
    ),
    Stranger(
        "tokenizer: two tokens of one id",
        TOKENIZE,
        ("index",),
        tokenizer(lambda t: t["model"]["vocab"].update(h=t["model"]["vocab"]["i"])),
        apart=True,
        harmless=True,
    ),
    Stranger(
        "tokenizer: ids beyond the embeddings, run",
        RUN,
        ("'./model'", "5000"),
        tokenizer(lambda t: t["model"]["vocab"].update(h=5000)),
        apart=True,
    ),
    Stranger(
        "tokenizer: a byte-level decoder without byte-level tokens",
        TOKENIZE,
        ("index",),
        tokenizer_values(
            pre_tokenizer=None, model={"type": "WordLevel", "vocab": {"hi": 8, "€": 9}, "unk_token": "hi"}
        ),
        apart=True,
        harmless=True,
    ),
)


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


def _mapped(target: Any) -> Damage:
    """An index that says that one tensor is in another place."""
    return index_changed(lambda content: content["weight_map"].update({FC1: target}))


INDEX = "model.safetensors.index.json"

INDEXES = (
    Stranger("index: weight_map of numbers", EMBED, (INDEX, FC1, "5"), _mapped(5)),
    Stranger("index: weight_map of null", PARAMS, (INDEX, FC1), _mapped(None)),
    Stranger("index: weight_map of lists", PLAN, (INDEX, FC1), _mapped(["model-00001-of-00002.safetensors"])),
    Stranger(
        "index: a path that climbs out",
        EMBED,
        (INDEX, FC1, "../secret.safetensors"),
        all_of(
            lambda f: shutil.copy(f / "model.safetensors", f.parent / "secret.safetensors"),
            _mapped("../secret.safetensors"),
        ),
    ),
    Stranger(
        "index: a path that climbs out, params",
        PARAMS,
        (INDEX, FC1, "../secret.safetensors"),
        all_of(
            lambda f: shutil.copy(f / "model.safetensors", f.parent / "secret.safetensors"),
            _mapped("../secret.safetensors"),
        ),
    ),
    Stranger("index: an absolute path", PARAMS, (INDEX, FC1, "/etc/passwd"), _mapped("/etc/passwd")),
    Stranger("index: an absolute path, run", RUN, (INDEX, FC1, "/dev/zero"), _mapped("/dev/zero"), apart=True),
    Stranger("index: the folder itself", EMBED, (INDEX, FC1, "'.'"), _mapped(".")),
    Stranger("index: an empty name", EMBED, (INDEX, FC1, "''"), _mapped("")),
    Stranger("index: a NUL in a name", EMBED, (INDEX,), _mapped("a\0b")),
    Stranger("index: a name of 5000 characters", EMBED, (INDEX,), _mapped("x" * 5000)),
    Stranger("index: a lone surrogate in a name", EMBED, (INDEX,), _mapped("\ud800.safetensors")),
    Stranger("index: config.json as a shard", EMBED, ("config.json",), _mapped("config.json")),
    Stranger("index: itself as a shard", PARAMS, (INDEX,), _mapped(INDEX)),
    Stranger("index: weight_map a list", EMBED, (INDEX,), index({"weight_map": []})),
    Stranger("index: weight_map a string", PARAMS, (INDEX,), index({"weight_map": "x"})),
    Stranger("index: no weight_map", PLAN, (INDEX,), index({"metadata": {}})),
    Stranger("index: null", PARAMS, (INDEX,), index("null")),
    Stranger("index: metadata null", EMBED, ("hi",), index_changed(lambda c: c.update(metadata=None)), harmless=True),
    Stranger(
        "index: metadata a list", RUN, ("logits",), index_changed(lambda c: c.update(metadata=[1])), harmless=True
    ),
    Stranger("index: no metadata", RUN, ("logits",), index_changed(lambda c: c.pop("metadata")), harmless=True),
    Stranger(
        "index: total_size a string",
        PLAN,
        ("model-00001",),
        index_changed(lambda c: c.update(metadata={"total_size": "x"})),
        harmless=True,
    ),
    Stranger(
        "index: NaN in metadata",
        EMBED,
        ("hi",),
        index_changed(lambda c: c.update(metadata={"x": float("nan")})),
        harmless=True,
    ),
    Stranger(
        "index: tensors in the wrong shard",
        RUN,
        ("'./model'",),
        index_changed(lambda c: c["weight_map"].update({EMBEDDING: "model-00002-of-00002.safetensors"})),
        either=True,
    ),
    Stranger(
        "index: a tensor that is in no shard",
        EMBED,
        ("hi",),
        index_changed(lambda c: c["weight_map"].update(ghost="model-00001-of-00002.safetensors")),
        harmless=True,
    ),
    Stranger(
        "index: 100,000 shards",
        EMBED,
        (INDEX,),
        index_changed(lambda c: c["weight_map"].update({f"t{n}": f"s{n}.safetensors" for n in range(100_000)})),
        apart=True,
    ),
    Stranger("index in UTF-16", EMBED, (INDEX,), all_of(to_shards, lambda f: _recoded(f / INDEX, "utf-16"))),
    Stranger(
        "index with a byte order mark", EMBED, (INDEX,), all_of(to_shards, lambda f: _recoded(f / INDEX, "utf-8-sig"))
    ),
)

DEEP_FILES = tuple(
    Stranger(f"{name} 1e5 deep", arguments, (name,), before, apart=True, either=arguments is RUN)
    for name, arguments, before in (
        ("config.json", TREE, deep_in("config.json")),
        ("tokenizer.json", TOKENIZE, deep_in("tokenizer.json")),
        ("tokenizer_config.json", TOKENIZE, deep_in("tokenizer_config.json")),
        ("special_tokens_map.json", TOKENIZE, deep_in("special_tokens_map.json")),
        ("generation_config.json", RUN, deep_in("generation_config.json")),
        (INDEX, EMBED, all_of(to_shards, deep_in(INDEX))),
        ("adapter_config.json", ADAPTED, all_of(adapter(), deep_in("../adapter/adapter_config.json"))),
    )
)

_ADAPTER_VALUES: tuple[tuple[tuple[str, ...], str, Any, str], ...] = (
    (ADAPTED, "peft_type", 5, "peft_type"),
    (ADAPTED, "peft_type", None, "peft_type"),
    (ADAPTED, "peft_type", "FROBNICATE", "FROBNICATE"),
    (ADAPTER_TREE, "peft_type", [], "peft_type"),
    (ADAPTED, "target_modules", 5, "target_modules"),
    (ADAPTED, "target_modules", [5], "target_modules"),
    (ADAPTED, "target_modules", {"a": 1}, "target_modules"),
    (ADAPTED, "target_modules", [], "target_modules"),
    (ADAPTED, "r", "x", "r"),
    (ADAPTED, "r", 0, "0"),
    (ADAPTER_TREE, "r", -4, "-4"),
    (ADAPTED, "lora_alpha", "x", "lora_alpha"),
    (ADAPTED, "lora_alpha", None, "lora_alpha"),
    (ADAPTED, "lora_dropout", "x", "lora_dropout"),
    (ADAPTED, "rank_pattern", 5, "rank_pattern"),
    (ADAPTED, "layers_to_transform", "x", "layers_to_transform"),
    (ADAPTED, "modules_to_save", 5, "modules_to_save"),
    (ADAPTED, "bias", "x", "bias"),
    (ADAPTED, "init_lora_weights", "pissa", "base"),
    (ADAPTER_TREE, "use_dora", "x", "use_dora"),
)

ADAPTERS = (
    *(
        Stranger(
            f"adapter: {key} {str(value)[:40]!r}",
            arguments,
            ("'./adapter'", *more),
            adapter(**{key: value}),
            either=key == "use_dora",
        )
        for arguments, key, value, *more in _ADAPTER_VALUES
    ),
    *(
        Stranger(
            f"adapter: base {value!r}",
            ADAPTED,
            ("base_model_name_or_path", *more),
            adapter(base_model_name_or_path=value),
        )
        for value, *more in (
            (5,),
            (["./model"],),
            ("",),
            ("\0",),
            ("a" * 5000,),
            ("/dev/zero", "/dev/zero"),
            ("\ud800",),
        )
    ),
    *(
        Stranger(
            f"adapter_config.json is {what}",
            ADAPTED,
            ("adapter_config.json",),
            all_of(adapter(), write("../adapter/adapter_config.json", text)),
        )
        for what, text in _NO_OBJECTS
    ),
    Stranger(
        "adapter: odd keys",
        ADAPTED,
        ("hi",),
        adapter(frobnicate=5, auto_mapping={"base_model_class": 5}),
        harmless=True,
    ),
    Stranger(
        "adapter_model.safetensors truncated",
        ADAPTED,
        ("adapter_model.safetensors",),
        adapter(lambda made: keep(made / "adapter_model.safetensors", 0.5)),
    ),
    Stranger(
        "adapter_model.safetensors truncated, params",
        ("params", "./adapter"),
        ("adapter_model.safetensors",),
        adapter(lambda made: keep(made / "adapter_model.safetensors", 0.5)),
    ),
    Stranger(
        "adapter_model.bin of code",
        ADAPTED,
        ("adapter_model.bin", "code"),
        adapter(lambda made: _pickled_code(made / "adapter_model.safetensors", made / "adapter_model.bin")),
        apart=True,
    ),
)


def _pickled_code(before: Path, file: Path) -> None:
    before.unlink()
    torch.save({"attack": Attack(EFFECT)}, file)


EFFECT = Path("it ran")
"""What code from a stranger would leave behind in the working directory."""


# 4. Tokenizers on which the library panics or explodes


def _doubling(times: int) -> list[dict[str, Any]]:
    return [{"type": "Replace", "pattern": {"String": "h"}, "content": "hh"}] * times


def _normalizer(value: Any) -> Damage:
    return tokenizer_values(normalizer=value)


def _split(regex: str) -> Damage:
    return tokenizer_values(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    )


LONG_TEXT = in_model("tokenize", "a" * 5000)

PANICS = (
    Stranger("split on an empty regex", TOKENIZE, ("index",), _split(""), apart=True, harmless=True),
    Stranger("split on a regex that is none", TOKENIZE, ("'./model'", "tokenizer"), _split("((("), apart=True),
    Stranger("split on a regex of a megabyte", TOKENIZE, ("'./model'", "tokenizer"), _split("(" * 10**6), apart=True),
    Stranger(
        "split on a regex that backtracks for ever",
        in_model("tokenize", "a" * 60),
        ("'./model'", "tokenizer"),
        _split("(a|aa|a?)+(a|aa|a?)+(a|aa|a?)+$!"),
        apart=True,
        either=True,
    ),
    Stranger(
        "split on a regex that backtracks for ever, run",
        in_model("run", "a" * 60, "-s", "logits"),
        ("'./model'", "tokenizer"),
        _split("(((a|aa)+)+)+!"),
        apart=True,
    ),
    Stranger(
        "split on a regex that calls itself",
        TOKENIZE,
        ("'./model'", "tokenizer"),
        _split(r"(?<x>h\g<x>*)+\g<x>\g<x>!"),
        apart=True,
        either=True,
    ),
    Stranger(
        "replace an empty string",
        TOKENIZE,
        ("tokenizer", "'./model'"),
        _normalizer({"type": "Replace", "pattern": {"String": ""}, "content": "x"}),
        apart=True,
    ),
    Stranger(
        "replace an empty regex",
        TOKENIZE,
        ("tokenizer", "'./model'"),
        _normalizer({"type": "Replace", "pattern": {"Regex": ""}, "content": "x"}),
        apart=True,
    ),
    Stranger(
        "replace a regex that backtracks for ever",
        in_model("tokenize", "a" * 60),
        ("'./model'", "tokenizer"),
        _normalizer({"type": "Replace", "pattern": {"Regex": "(((a|aa)+)+)+!"}, "content": "x"}),
        apart=True,
    ),
    _no_tokenizer(
        "a normalizer that doubles 20 times",
        _normalizer({"type": "Sequence", "normalizers": _doubling(20)}),
    ),
    _no_tokenizer(
        "a normalizer that doubles 34 times",
        _normalizer({"type": "Sequence", "normalizers": _doubling(34)}),
    ),
    Stranger(
        "a normalizer that doubles 60 times",
        EMBED,
        ("'./model'", "tokenizer"),
        _normalizer({"type": "Sequence", "normalizers": _doubling(60)}),
        apart=True,
    ),
    _no_tokenizer(
        "a normalizer that puts a megabyte before",
        _normalizer({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "x" * 10**6}] * 50}),
    ),
    _no_tokenizer(
        "normalizers in normalizers",
        lambda f: _replaced(
            f / "tokenizer.json",
            b'"normalizer": null',
            b'"normalizer": ' + b'{"type": "Sequence", "normalizers": [' * 50_000 + b"]}" * 50_000,
        ),
    ),
    _no_tokenizer(
        "a charsmap that is no base64",
        _normalizer({"type": "Precompiled", "precompiled_charsmap": "!!!"}),
    ),
    _no_tokenizer(
        "a charsmap that is empty",
        _normalizer({"type": "Precompiled", "precompiled_charsmap": ""}),
    ),
    _no_tokenizer(
        "a charsmap of four bytes",
        _normalizer({"type": "Precompiled", "precompiled_charsmap": "/////w=="}),
    ),
    _no_tokenizer(
        "a charsmap of noise",
        _normalizer({"type": "Precompiled", "precompiled_charsmap": "CAAAAP////8AAAAA////f2FiY2RlZmc="}),
    ),
    _no_tokenizer(
        "a charsmap null",
        _normalizer({"type": "Precompiled", "precompiled_charsmap": None}),
    ),
    _no_tokenizer(
        "a template without its token",
        tokenizer(lambda t: t["post_processor"].update(special_tokens={})),
    ),
    Stranger(
        "a template whose token has no ids",
        TOKENIZE,
        ("index",),
        tokenizer(lambda t: t["post_processor"]["special_tokens"]["<eos>"].update(ids=[], tokens=[])),
        apart=True,
        harmless=True,
    ),
    _no_tokenizer(
        "a template of ids and tokens of two lengths",
        tokenizer(lambda t: t["post_processor"]["special_tokens"]["<eos>"].update(ids=[2, 2, 2])),
    ),
    _no_tokenizer(
        "a template of a million pieces",
        tokenizer(
            lambda t: t["post_processor"].update(single=[{"SpecialToken": {"id": "<eos>", "type_id": 0}}] * 10**6)
        ),
    ),
    Stranger(
        "a template of no piece",
        TOKENIZE,
        ("'hi'", "no tokens"),
        tokenizer(lambda t: t["post_processor"].update(single=[])),
        apart=True,
    ),
    _no_tokenizer(
        "a template that repeats the text 100,000 times",
        tokenizer(lambda t: t["post_processor"].update(single=[{"Sequence": {"id": "A", "type_id": 0}}] * 10**5)),
    ),
    _no_tokenizer(
        "a template of B alone",
        tokenizer(lambda t: t["post_processor"].update(single=[{"Sequence": {"id": "B", "type_id": 0}}])),
    ),
    Stranger(
        "a template with an id beyond the vocabulary, run",
        RUN,
        ("'./model'", "99999"),
        tokenizer(lambda t: t["post_processor"]["special_tokens"]["<eos>"].update(ids=[99999])),
        apart=True,
    ),
    Stranger(
        "a unigram of empty pieces",
        TOKENIZE,
        ("'./model'", "tokenizer"),
        tokenizer_values(
            model={"type": "Unigram", "vocab": [["", 0.0], ["h", -1.0]], "unk_id": 0, "byte_fallback": False}
        ),
        apart=True,
        either=True,
    ),
    _no_tokenizer(
        "a unigram without what is unknown",
        tokenizer_values(
            pre_tokenizer=None, model={"type": "Unigram", "vocab": [["x", 0.0]], "unk_id": None, "byte_fallback": False}
        ),
    ),
    Stranger(
        "a truncation to nothing",
        TOKENIZE,
        ("index",),
        tokenizer_values(truncation={"max_length": 0, "strategy": "LongestFirst", "stride": 5, "direction": "Right"}),
        apart=True,
        harmless=True,
    ),
    Stranger(
        "a padding to 2^40",
        TOKENIZE,
        ("index",),
        tokenizer_values(
            padding={
                "strategy": {"Fixed": 2**40},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 1,
                "pad_type_id": 0,
                "pad_token": "<pad>",
            }
        ),
        apart=True,
        harmless=True,
    ),
    Stranger(
        "a padding to 2^40, run",
        RUN,
        ("logits",),
        tokenizer_values(
            padding={
                "strategy": {"Fixed": 2**40},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 1,
                "pad_type_id": 0,
                "pad_token": "<pad>",
            }
        ),
        apart=True,
        harmless=True,
    ),
    Stranger(
        "a padding to a multiple of 0",
        TOKENIZE,
        ("index",),
        tokenizer_values(
            padding={
                "strategy": "BatchLongest",
                "direction": "Right",
                "pad_to_multiple_of": 0,
                "pad_id": 1,
                "pad_type_id": 0,
                "pad_token": "<pad>",
            }
        ),
        apart=True,
        harmless=True,
    ),
    Stranger(
        "a dropout of 1",
        LONG_TEXT,
        ("index",),
        tokenizer(lambda t: t["model"].update(dropout=1.0)),
        apart=True,
        harmless=True,
    ),
    _no_tokenizer(
        "a dropout of 7",
        tokenizer(lambda t: t["model"].update(dropout=7.0)),
    ),
    Stranger(
        "an added token that is empty",
        TOKENIZE,
        ("index",),
        tokenizer(lambda t: t["added_tokens"].append({**_many_tokens(1)[0], "content": ""})),
        apart=True,
        harmless=True,
    ),
    _no_tokenizer(
        "a word-level vocabulary without its unknown",
        tokenizer_values(pre_tokenizer=None, model={"type": "WordLevel", "vocab": {"x": 8}, "unk_token": "[UNK]"}),
    ),
)


# 5. torch files


def torch_file(content: bytes | Callable[[dict[str, torch.Tensor], Path], object]) -> Damage:
    """A pytorch_model.bin in the place of model.safetensors."""

    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        file = folder / "pytorch_model.bin"
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            content(tensors, file)

    return damage


def rezipped(change: Callable[[str, bytes], bytes | None]) -> Damage:
    """A pytorch_model.bin each of whose members is changed, or left out where None comes."""

    def damage(folder: Path) -> None:
        to_torch(folder)
        file = folder / "pytorch_model.bin"
        with zipfile.ZipFile(file) as before:
            members = {name: before.read(name) for name in before.namelist()}
        with zipfile.ZipFile(file, "w") as after:
            for name, content in members.items():
                if (changed := change(name, content)) is not None:
                    after.writestr(name, changed)

    return damage


def pickled(stream: bytes) -> Damage:
    """A pytorch_model.bin whose pickle is this."""
    return rezipped(lambda name, content: stream if name.endswith("data.pkl") else content)


def _opcodes(*arguments: object, storage: int = 4, key: str = "0") -> bytes:
    """The pickle of one tensor {'a': …} in torch's manner: offset, size and stride as they are given."""

    class Tensor:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (_Storage(), *arguments, False, {})

    class _Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            if isinstance(value, _Storage):
                return "storage", torch.FloatStorage, key, "cpu", storage
            return None

    written = io.BytesIO()
    Pickler(written, 2).dump({"a": Tensor()})
    return written.getvalue()


def crafted(*arguments: object, storage: int = 4, key: str = "0", held: int = 16) -> Damage:
    """A pytorch_model.bin of one tensor whose description does not fit its storage."""

    def damage(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as file:
            file.writestr("archive/data.pkl", _opcodes(*arguments, storage=storage, key=key))
            file.writestr("archive/byteorder", "little")
            file.writestr("archive/data/0", bytes(held))
            file.writestr("archive/version", "3\n")

    return damage


def _memo(stream: bytes) -> bytes:
    return b"\x80\x02" + stream + b"."


def _bomb(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/version", "3\n")
        with file.open("archive/data.pkl", "w", force_zip64=True) as member:
            for _ in range(2000):
                member.write(bytes(1 << 20))


def _big(name: str, content: bytes) -> bytes:
    return b"big" if name.endswith("byteorder") else content


BIN = "pytorch_model.bin"


def _bin(id: str, damage: Damage, *more: str, arguments: tuple[str, ...] = EMBED, either: bool = False) -> Stranger:
    return Stranger(f"bin: {id}, {arguments[0]}", arguments, (BIN, *more), damage, apart=True, either=either)


def _named(id: str, damage: Damage, *, arguments: tuple[str, ...] = EMBED) -> Stranger:
    """A pytorch_model.bin that can be read, and does not hold what it should: the model is named."""
    return Stranger(f"bin: {id}, {arguments[0]}", arguments, ("'./model'",), damage, apart=True)


TORCH_FILES = (
    _bin("byteorder big", rezipped(_big)),
    _bin("byteorder big", rezipped(_big), arguments=PARAMS),
    _bin("byteorder odd", rezipped(lambda n, c: b"middle" if n.endswith("byteorder") else c)),
    _bin("pickle of protocol 0", torch_file(lambda t, f: torch.save(t, f, pickle_protocol=0)), arguments=PARAMS),
    _bin(
        "pickle of protocol 4",
        torch_file(lambda t, f: torch.save(t, f, pickle_protocol=4)),
        arguments=PARAMS,
        either=True,
    ),
    _bin("pickle of protocol 5", torch_file(lambda t, f: torch.save(t, f, pickle_protocol=5))),
    _bin("pickle of protocol 200", pickled(b"\x80\xc8}.")),
    _bin("TorchScript", rezipped(lambda n, c: None if n.endswith("data.pkl") else c)),
    _bin("TorchScript with constants", torch_file(lambda _, f: _script(f))),
    _bin("TorchScript with constants", torch_file(lambda _, f: _script(f)), arguments=PARAMS),
    _bin(
        "quantized tensors",
        torch_file(lambda t, f: torch.save(t | {FC1: torch.quantize_per_tensor(t[FC1], 0.1, 0, torch.qint8)}, f)),
        FC1,
    ),
    _bin(
        "quantized tensors",
        torch_file(lambda t, f: torch.save(t | {FC1: torch.quantize_per_tensor(t[FC1], 0.1, 0, torch.qint8)}, f)),
        FC1,
        arguments=PARAMS,
    ),
    _bin("sparse tensors", torch_file(lambda t, f: torch.save(t | {FC1: t[FC1].to_sparse()}, f)), FC1, arguments=RUN),
    _bin(
        "sparse tensors", torch_file(lambda t, f: torch.save(t | {FC1: t[FC1].to_sparse()}, f)), FC1, arguments=PARAMS
    ),
    _bin(
        "sparse rows", torch_file(lambda t, f: torch.save(t | {FC1: t[FC1].to_sparse_csr()}, f)), FC1, arguments=PARAMS
    ),
    _bin(
        "complex tensors",
        torch_file(lambda t, f: torch.save(t | {FC1: t[FC1].to(torch.complex64)}, f)),
        FC1,
        arguments=RUN,
        either=True,
    ),
    _bin(
        "nested tensors",
        torch_file(lambda t, f: torch.save(t | {FC1: torch.nested.nested_tensor([t[FC1], t[FC1][:2]])}, f)),
        arguments=PARAMS,
    ),
    _bin("tensors of meta", torch_file(lambda t, f: torch.save(t | {FC1: t[FC1].to("meta")}, f)), FC1, arguments=RUN),
    _bin(
        "tensors of meta", torch_file(lambda t, f: torch.save(t | {FC1: t[FC1].to("meta")}, f)), FC1, arguments=PARAMS
    ),
    _bin("offset beyond its storage", crafted(100, (4,), (1,)), arguments=PARAMS),
    _bin("offset negative", crafted(-4, (4,), (1,)), arguments=PARAMS),
    _bin("size beyond its storage", crafted(0, (10**6,), (1,)), arguments=PARAMS),
    _bin("size of 2^62", crafted(0, (2**62,), (1,)), arguments=PARAMS),
    _bin("size negative", crafted(0, (-4,), (1,)), arguments=PARAMS),
    _bin("size beyond 64 bits", crafted(0, (2**70,), (1,)), arguments=PARAMS),
    _bin("size of strings", crafted(0, ("x",), (1,)), arguments=PARAMS),
    _bin("stride beyond its storage", crafted(0, (4,), (10**9,)), arguments=PARAMS),
    _bin("stride negative", crafted(0, (4,), (-1,)), arguments=PARAMS),
    _bin("stride of 0 and a size of 2^40", crafted(0, (2**40,), (0,)), arguments=PARAMS),
    _bin("strides of another length", crafted(0, (2, 2), (1,)), arguments=PARAMS),
    _bin("storage larger than its member", crafted(0, (1000,), (1,), storage=1000), arguments=PARAMS),
    _bin("storage of 2^60", crafted(0, (2**60,), (1,), storage=2**60), arguments=PARAMS),
    _bin("storage negative", crafted(0, (4,), (1,), storage=-4), arguments=PARAMS),
    _bin("storage that climbs out", crafted(0, (4,), (1,), key="../../x"), arguments=PARAMS),
    _bin("storage missing", rezipped(lambda n, c: None if n.endswith("data/0") else c)),
    _bin("storage missing", rezipped(lambda n, c: None if n.endswith("data/0") else c), arguments=PARAMS),
    _bin("storage short", rezipped(lambda n, c: c[:16] if "/data/" in n else c), arguments=RUN),
    _bin("zip bomb", _bomb),
    _bin("zip bomb", _bomb, arguments=PARAMS),
    _bin("zip of nothing", torch_file(b"PK\x05\x06" + bytes(18))),
    _bin("zip of a text", torch_file(lambda _, f: zipfile.ZipFile(f, "w").writestr("a.txt", "x"))),
    _named("huge memo index", pickled(_memo(b"}r\xff\xff\xff\x7f"))),
    _bin("memo that is not there", pickled(_memo(b"j\xff\xff\xff\x7f"))),
    _bin("string of 2^31", pickled(_memo(b"X\xff\xff\xff\x7fabc"))),
    _bin("pickle that is endless", pickled(b"\x80\x02" + b"(" * 10**6)),
    _bin("pickle that pops from nothing", pickled(_memo(b"0000"))),
    _bin("pickle that is empty", pickled(b"")),
    _bin("pickle nested 1e5 deep", pickled(_memo(b"]" * 10**5 + b"a" * (10**5 - 1)))),
    _named("pickle of itself", pickled(_memo(b"}q\x00X\x01\x00\x00\x00ah\x00s")), arguments=PARAMS),
    _bin("code by REDUCE", pickled(_memo(b"cos\nmkdir\nX\x06\x00\x00\x00it ran\x85R")), "code"),
    _bin("code by REDUCE", pickled(_memo(b"cos\nmkdir\nX\x06\x00\x00\x00it ran\x85R")), "code", arguments=PARAMS),
    _bin("code by INST", pickled(_memo(b"(X\x06\x00\x00\x00it ranios\nmkdir\n")), arguments=PLAN),
    _bin("code by BUILD", pickled(_memo(b"ccollections\nOrderedDict\n)RX\x01\x00\x00\x00x}b")), arguments=PARAMS),
    _bin("code before 1.6", torch_file(lambda t, f: legacy({**t, "x": Attack(EFFECT)}, f)), "code", arguments=PARAMS),
    *(_bin(f"{share:.2%} of it", all_of(to_torch, cut(BIN, share))) for share in (0.0001, 0.1, 0.9, 0.999)),
    *(
        _bin(
            f"{share:.2%} of a file of before 1.6",
            all_of(lambda f: to_torch(f, legacy), cut(BIN, share)),
            arguments=PARAMS,
        )
        for share in (0.0001, 0.01, 0.1, 0.999)
    ),
    _bin("magic of before 1.6 alone", torch_file(pickle.dumps(0x1950A86A20F9469CFC6C, 2))),
    _bin("magic of before 1.6 that is odd", torch_file(pickle.dumps(0xBAD, 2) + bytes(100))),
    _bin(
        "protocol of before 1.6 that is odd",
        torch_file(
            pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(7, 2) + pickle.dumps({}, 2) + pickle.dumps({}, 2)
        ),
    ),
    _bin("tar of before 0.1.10", torch_file(b"storages" + bytes(249) + b"ustar\x00" + bytes(1024))),
    _named("keys that are numbers", torch_file(lambda t, f: torch.save(dict(enumerate(t.values())), f))),
    _named("tensors within lists", torch_file(lambda t, f: torch.save({name: [each] for name, each in t.items()}, f))),
    Stranger(
        "bin: a state_dict within a dictionary, params",
        PARAMS,
        (BIN,),
        torch_file(lambda t, f: torch.save({"state_dict": t, "epoch": 1}, f)),
        apart=True,
    ),
)


def _script(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/constants.pkl", b"\x80\x02).")
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/code/__torch__.py", "print('it ran')")
        archive.writestr("archive/version", "3\n")


# 6. Strangers' bytes

NASTY = "\x1b]0;title\x07\x1b[2J\x9b31m\r\u202egpj\u2066\x7f"
"""What sets a terminal's title, clears it, colours it, goes back to the start of a line and turns its order."""

NUL = "a\0b"


def _nasty_token(content: str) -> Damage:
    token = {**_many_tokens(1)[0], "content": content, "special": True, "id": 384}
    return tokenizer(lambda t: t["added_tokens"].append(token))


def _into(name: str) -> Damage:
    """Move the model into a folder of another name."""
    return lambda folder: shutil.copytree(folder, folder.parent / name)


BYTES = (
    *(
        Stranger(f"bytes: header dtype, {' '.join(arguments)}", arguments, ("model.safetensors",), entry(dtype=NASTY))
        for arguments in (PARAMS, (*PARAMS, "--json"), EMBED, PLAN)
    ),
    Stranger("bytes: tensor name, params", PARAMS, ("tensor",), renamed(NASTY), harmless=True),
    Stranger("bytes: tensor name, params --json", (*PARAMS, "--json"), ("tensor",), renamed(NASTY), harmless=True),
    Stranger("bytes: tensor name, embed", EMBED, ("'./model'", FC1), renamed(NASTY)),
    Stranger("bytes: tensor name of NUL, params", PARAMS, ("tensor",), renamed(NUL), harmless=True),
    Stranger(
        "bytes: a tensor of NaN with that name, params",
        PARAMS,
        ("NaN",),
        all_of(lambda f: _of_nan(f), renamed(NASTY)),
        harmless=True,
    ),
    Stranger(
        "bytes: a tensor of that name in another shape, run",
        RUN,
        ("'./model'",),
        header(lambda h: h.update({FC1 + NASTY: h.pop(FC1)})),
    ),
    Stranger(
        "bytes: metadata",
        PARAMS,
        ("tensor",),
        header(lambda h: h.update(__metadata__={NASTY: NASTY, "format": "pt"})),
        harmless=True,
    ),
    Stranger(
        "bytes: metadata format, embed",
        EMBED,
        ("hi",),
        header(lambda h: h.update(__metadata__={"format": NASTY})),
        harmless=True,
    ),
    *(
        Stranger(f"bytes: {key}, {' '.join(arguments)}", arguments, ("'./model'",), config(**{key: value}))
        for arguments, key, value in (
            (TREE, "model_type", NASTY),
            ((*TREE, "--json"), "model_type", NASTY),
            (EMBED, "model_type", "opt" + NUL),
            (TREE, "dtype", NASTY),
            (TREE, "activation_function", NASTY),
            (RUN, "attn_implementation", NASTY),
            (EMBED, "quantization_config", {"quant_method": NASTY}),
            (TREE, "num_hidden_layers", NASTY),
        )
    ),
    *(
        Stranger(
            f"bytes: architectures, {' '.join(arguments)}", arguments, (), config(architectures=[NASTY]), harmless=True
        )
        for arguments in (TREE, (*TREE, "--json"), EMBED, PARAMS, (*PARAMS, "--json"), PLAN)
    ),
    Stranger("bytes: model_type, params", PARAMS, ("tensor",), config(model_type=NASTY), harmless=True),
    Stranger(
        "bytes: model_type, params --json", (*PARAMS, "--json"), ("tensor",), config(model_type=NASTY), harmless=True
    ),
    Stranger("bytes: a key of config.json", TREE, ("OPTForCausalLM",), config(**{NASTY: NASTY}), harmless=True),
    Stranger(
        "bytes: layer types, stages",
        STAGES,
        ("'./model'", "layer_types"),
        qwen3(layer_types=[NASTY, "full_attention"]),
    ),
    Stranger(
        "bytes: rope type, tree",
        TREE,
        ("'./model'", "rope_parameters"),
        llama(rope_parameters={"rope_type": NASTY, "rope_theta": 1e4}),
    ),
    *(
        Stranger(
            f"bytes: added token, tokenize{' --json' if '--json' in arguments else ''}",
            arguments,
            ("264",),
            _nasty_token("hi" + NASTY),
            apart=True,
            harmless=True,
        )
        for arguments in (in_model("tokenize", "hi" + NASTY), in_model("tokenize", "hi" + NASTY, "--json"))
    ),
    *(
        Stranger(
            f"bytes: bos token, {' '.join(arguments)}",
            arguments,
            (),
            all_of(
                tokenizer(lambda t: _rename_token(t, "<eos>", NASTY)),
                tokenizer_config(bos_token=NASTY, eos_token=NASTY),
            ),
            apart=True,
            harmless=True,
        )
        for arguments in (TOKENIZE, (*TOKENIZE, "--json"), EMBED, LOGITS, (*LOGITS, "--json"), ATTN)
    ),
    *(
        Stranger(
            f"bytes: tokens of the vocabulary, {' '.join(arguments)}",
            arguments,
            (),
            tokenizer(lambda t: _all_nasty(t)),
            apart=True,
            harmless=True,
        )
        for arguments in (in_model("tokenize", "hi", "--no-special"), in_model("logits", "hi", "--json"), LOGITS)
    ),
    _no_tokenizer(
        "bytes: pre_tokenizer's type",
        tokenizer_values(pre_tokenizer={"type": NASTY}),
    ),
    Stranger("bytes: tokenizer_class", TOKENIZE, ("index",), tokenizer_config(tokenizer_class=NASTY), harmless=True),
    Stranger("bytes: padding_side", TOKENIZE, ("'./model'", "adding side"), tokenizer_config(padding_side=NASTY)),
    Stranger("bytes: adapter's base", ADAPTED, ("base_model_name_or_path",), adapter(base_model_name_or_path=NASTY)),
    Stranger(
        "bytes: adapter's base on the Hub",
        ADAPTED,
        ("base_model_name_or_path",),
        adapter(base_model_name_or_path="team/\u202emodel"),
    ),
    Stranger(
        "bytes: adapter's base, params",
        ("params", "./adapter"),
        ("tensor",),
        adapter(base_model_name_or_path=NASTY),
        harmless=True,
    ),
    Stranger(
        "bytes: adapter's base, params --json",
        ("params", "./adapter", "--json"),
        ("tensor",),
        adapter(base_model_name_or_path=NASTY),
        harmless=True,
    ),
    Stranger("bytes: adapter's target_modules", ADAPTED, ("'./adapter'",), adapter(target_modules=[NASTY])),
    Stranger("bytes: adapter's peft_type", ADAPTED, ("'./adapter'", "peft_type"), adapter(peft_type=NASTY)),
    *(
        Stranger(
            f"bytes: folder's name, {arguments[0]} {arguments[-1] if arguments[-1] == '--json' else ''}".strip(),
            arguments,
            (),
            _into(f"x{NASTY.replace('/', '')}"),
            harmless=True,
        )
        for arguments in (
            ("tree", f"./x{NASTY}"),
            ("tree", f"./x{NASTY}", "--json"),
            ("params", f"./x{NASTY}"),
            ("embed", "hi", "-m", f"./x{NASTY}"),
            ("plan", "hi", "-m", f"./x{NASTY}"),
            ("plan", "hi", "-m", f"./x{NASTY}", "--json"),
        )
    ),
    Stranger(
        "bytes: folder's name without weights",
        ("params", f"./x{NASTY}"),
        ("no weights",),
        all_of(gone("model.safetensors"), _into(f"x{NASTY}")),
    ),
    Stranger(
        "bytes: folder's name that is long",
        ("tree", "./" + "x" * 250),
        ("config.json",),
        all_of(gone("config.json"), _into("x" * 250)),
    ),
    Stranger("bytes: index's file name", EMBED, (INDEX,), _mapped(NASTY + ".safetensors")),
    Stranger("bytes: index's file name, params --json", (*PARAMS, "--json"), (INDEX,), _mapped("\u202e.safetensors")),
    Stranger("bytes: a shard of that name, plan", PLAN, (), lambda f: _nasty_shard(f), harmless=True),
    Stranger("bytes: a shard of that name, params", PARAMS, ("tensor",), lambda f: _nasty_shard(f), harmless=True),
    Stranger(
        "bytes: index's tensor name", EMBED, (INDEX,), index_changed(lambda c: c["weight_map"].update({NASTY: 5}))
    ),
    Stranger(
        "bytes: gguf architecture",
        GGUF_TREE,
        ("'./model.gguf'",),
        raw_gguf(gguf_text("general.architecture") + struct.pack("<I", 8) + gguf_text(NASTY)),
    ),
    Stranger(
        "bytes: gguf tensor name that is cut off, params",
        GGUF_PARAMS,
        ("model.gguf",),
        raw_gguf(tensors=gguf_text(NASTY) + struct.pack("<IQIQ", 1, 2**40, 0, 0), count=1),
    ),
    Stranger(
        "bytes: gguf tensor name, params",
        GGUF_PARAMS,
        ("8",),
        raw_gguf(tensors=gguf_text(NASTY) + struct.pack("<IQIQ", 1, 8, 0, 0), count=1),
        harmless=True,
    ),
    Stranger("bytes: gguf name, params", GGUF_PARAMS, ("tensor",), gguf(general__name=NASTY), harmless=True),
    Stranger(
        "bytes: bin tensor name, params",
        PARAMS,
        (),
        torch_file(lambda t, f: torch.save(t | {NASTY: t[FC1]}, f)),
        harmless=True,
    ),
    Stranger("bytes: pickled global, embed", EMBED, (BIN,), pickled(_memo(b"c\x1b]0;title\x07\nx\r\n)R")), apart=True),
)


def _of_nan(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors[FC1].fill_(float("nan"))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _rename_token(content: Any, old: str, new: str) -> None:
    """Give a special token of a tokenizer another name, wherever it stands."""
    vocabulary = content["model"]["vocab"]
    vocabulary[new] = vocabulary.pop(old)
    for each in content["added_tokens"]:
        if each["content"] == old:
            each["content"] = new
    template = content["post_processor"]
    template["special_tokens"] = {new: {"id": new, "ids": [vocabulary[new]], "tokens": [new]}}
    for piece in template["single"] + template["pair"]:
        if "SpecialToken" in piece:
            piece["SpecialToken"]["id"] = new


def _all_nasty(content: Any) -> None:
    """Give every token of a vocabulary but the special ones a nasty name, in a tokenizer that is not byte-level."""
    content["model"]["vocab"] = {
        token if id < 8 else {ord("h") + 8: "h", ord("i") + 8: "i"}.get(id, f"{NASTY}{id}"): id
        for token, id in content["model"]["vocab"].items()
    }
    content["pre_tokenizer"] = content["decoder"] = None
    content["model"]["merges"] = []


def _nasty_shard(folder: Path) -> None:
    to_shards(folder)
    old, new = "model-00001-of-00002.safetensors", f"{NASTY}.safetensors"
    (folder / old).rename(folder / new)

    def change(content: Any) -> None:
        content["weight_map"] = {name: new if file == old else file for name, file in content["weight_map"].items()}

    change_json(INDEX, change)(folder)


STRANGERS = (
    *NO_FILES,
    *TOO_LARGE,
    *CONFIGS,
    *TOKENIZER_CONFIGS,
    *TOKENIZERS,
    *HEADERS,
    *INDEXES,
    *DEEP_FILES,
    *ADAPTERS,
    *PANICS,
    *TORCH_FILES,
    *BYTES,
)
"""All of them."""


def run_here(run: Callable[..., Any], arguments: tuple[str, ...]) -> Said:
    """Run the command line in this process."""
    began = time.perf_counter()
    result = run(*arguments)
    seconds = time.perf_counter() - began
    return Said(result.exit_code, result.stdout, result.stderr, seconds)
