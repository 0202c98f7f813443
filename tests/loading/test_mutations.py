"""Good files changed at random: one sentence or a report, never an error that nobody foresaw, never a hang.

TRIES, by default 2,000, is the number of mutated models.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.making.bad_input import Run
from tests.making.checkpoints import to_shards, to_torch
from tests.making.strangers.judging import judge
from tests.making.strangers.running import run_here
from tests.making.strangers.stranger import Stranger

pytestmark = pytest.mark.strangers

TRIES = int(os.environ.get("TRIES", "2000"))

JSON_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "index/model.safetensors.index.json")
BYTE_FILES = (*JSON_FILES, "model.safetensors", "bin/pytorch_model.bin")

COMMANDS = (
    ("tokenize", "hi", "-m"),
    ("tree",),
    ("stages",),
    ("plan", "hi", "-m"),
    ("params",),
    ("embed", "hi", "-m"),
    ("run", "hi", "-s", "logits", "-m"),
)

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**63, 10**30, 10**5, -(2**40)]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["", "\x1b[2J", "float16", "../x", "a" * 3000]),
    st.lists(st.integers(-1, 5), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(-1, 5), max_size=2),
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a value of JSON, of long lists and objects the first few."""
    yield path
    if isinstance(value, dict):
        for key in list(value)[:40]:
            yield from paths(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(min(3, len(value))):
            yield from paths(value[index], (*path, index))


def changed(value: Any, path: tuple[Any, ...], new: Any, *, gone: bool) -> Any:
    """A value with another one in one place, or with nothing there."""
    if not path:
        return new
    found = copy.deepcopy(value)
    inner = found
    for key in path[:-1]:
        inner = inner[key]
    if gone:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return found


Mutation = tuple[str, tuple[str, ...], Callable[[bytes], bytes]]


@st.composite
def mutations(draw: st.DrawFn) -> Mutation:
    """A file, a command about the model that it is of, and what is done to the file."""
    command = draw(st.sampled_from(COMMANDS))
    if draw(st.booleans()):
        file = draw(st.sampled_from(JSON_FILES))
        places = draw(st.lists(st.tuples(st.integers(0, 10**6), VALUES, st.booleans()), min_size=1, max_size=2))

        def change(content: bytes) -> bytes:
            value = json.loads(content)
            for number, other, gone in places:
                every = list(paths(value))
                value = changed(value, every[number % len(every)], other, gone=gone)
            return json.dumps(value).encode()

        return file, command, change
    file = draw(st.sampled_from(BYTE_FILES))
    cuts = draw(st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=4), st.integers(0, 4)), max_size=3))
    kept = draw(st.one_of(st.none(), st.floats(0, 1)))

    def cut(content: bytes) -> bytes:
        # Most of a weight file is numbers: what is looked at is its beginning and its end.
        for place, new, length in cuts:
            within = [place % min(len(content), 3000), len(content) - 1 - place % min(len(content), 2000)][place % 2]
            content = content[:within] + new + content[within + length :]
        return content if kept is None else content[: int(kept * len(content))]

    return file, command, cut


@pytest.fixture(scope="module")
def good(opt_variant: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good checkpoint, one in shards and one of torch."""
    folder = tmp_path_factory.mktemp("good")
    shutil.copytree(opt_variant("pre_norm"), folder / "model")
    to_shards(Path(shutil.copytree(folder / "model", folder / "index")))
    import torch

    to_torch(Path(shutil.copytree(folder / "model", folder / "bin")), torch.save)
    return folder


@pytest.mark.filterwarnings("ignore")
@settings(
    max_examples=TRIES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)
@given(mutations())
def test_a_mutated_model(
    good: Path, run_cli: Run, mutation: tuple[str, tuple[str, ...], Callable[[bytes], bytes]]
) -> None:
    name, command, change = mutation
    file = good / (name if "/" in name else f"model/{name}")
    content = file.read_bytes()
    # A file of its own: what is mapped of the good one stays.
    file.unlink()
    file.write_bytes(change(content))
    try:
        said = run_here(run_cli, (*command, str(file.parent)))
    finally:
        file.unlink()
        file.write_bytes(content)
    judge(Stranger(name, command, (), lambda _: None, either=True), said)
