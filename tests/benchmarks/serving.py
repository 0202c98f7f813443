"""How long a command takes: cold, answered by `txinspect serve`, plain transformers, an empty interpreter.

python -m tests.benchmarks.serving            times, medians of 20
python -m tests.benchmarks.serving --soak 1000  mixed questions of eight clients over five models, against cold answers
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

PROGRAM = [sys.executable, "-m", "txinspect"]

PLAIN = """
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
name = {name!r}
model = AutoModelForCausalLM.from_pretrained(name, attn_implementation="eager").eval()
ids = AutoTokenizer.from_pretrained(name)("The quick brown fox jumps over the lazy dog", return_tensors="pt")
with torch.no_grad():
    print(model(**ids, output_attentions=True).attentions[0].shape)
"""

QUESTIONS = (
    ("attn", "--layer", "0", "--json"),
    ("logits", "The capital of France is", "--json", "-k", "3"),
    ("heads", "--json"),
    ("tokenize", "a text", "--json"),
    ("tree", "--json"),
    ("stages", "--json"),
    ("lens", "--position", "-1"),
    ("embed", "--json"),
)


def timed(command: list[str], variables: dict[str, str]) -> float:
    """Seconds of a whole process."""
    begin = time.perf_counter()
    subprocess.run(command, env=variables, capture_output=True, check=True)
    return time.perf_counter() - begin


@contextmanager
def serving(variables: dict[str, str], *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server that takes questions."""
    server = subprocess.Popen([*PROGRAM, "serve", *options], env=variables, stderr=subprocess.PIPE)
    assert server.stderr is not None
    server.stderr.readline()
    try:
        yield server
    finally:
        server.terminate()
        server.wait()


def state(variables: dict[str, str]) -> dict[str, int]:
    """What the server says of itself."""
    told = subprocess.run([*PROGRAM, "serve", "--status", "--json"], env=variables, capture_output=True, check=True)
    found: dict[str, int] = json.loads(told.stdout)
    return found


def times(runtime: Path, model: str, rounds: int) -> None:
    """Print how long each way takes, and its ratio to a cold run."""
    cold = os.environ | {"TXINSPECT_SERVE": "0"}
    warm = os.environ | {"TXINSPECT_SERVE": "1", "XDG_RUNTIME_DIR": str(runtime)}
    attn = [*PROGRAM, "attn", "--layer", "0", "-m", model]
    rows = {
        "python -c pass": [timed([sys.executable, "-c", "pass"], cold) for _ in range(rounds)],
        "plain transformers": [timed([sys.executable, "-c", PLAIN.format(name=_path(model))], cold) for _ in range(5)],
        "cold, --json": [timed([*attn, "--json"], cold) for _ in range(5)],
        "cold, table": [timed(attn, cold) for _ in range(5)],
    }
    with serving(warm):
        first = timed([*attn, "--json"], warm)
        second = timed([*attn, "--json"], warm)
        rows["second to twentieth, --json"] = [timed([*attn, "--json"], warm) for _ in range(rounds)]
        rows["table"] = [timed(attn, warm) for _ in range(rounds)]
    reference = statistics.median(rows["cold, --json"])
    for name, found in rows.items():
        median = statistics.median(found)
        print(f"{name:28} {median:6.3f} s  {median / reference:5.3f} × cold  ({min(found):.3f} to {max(found):.3f})")
    print(f"{'first question':28} {first:6.3f} s  {first / reference:5.3f} × cold")
    print(f"{'second question':28} {second:6.3f} s  {second / reference:5.3f} × cold")


def soak(runtime: Path, count: int, models: list[str]) -> None:
    """Ask mixed questions of eight clients, and compare each answer with a cold one's bytes."""
    warm = os.environ | {"TXINSPECT_SERVE": "1", "XDG_RUNTIME_DIR": str(runtime)}
    lines = [[*words, "-m", model] for model in models for words in QUESTIONS]
    expected = {}
    for line in lines:
        done = subprocess.run([*PROGRAM, *line], env=warm | {"TXINSPECT_SERVE": "0"}, capture_output=True, check=False)
        expected[tuple(line)] = (done.returncode, done.stdout, done.stderr)
    with serving(warm) as server, ThreadPoolExecutor(8) as pool:

        def asked(number: int) -> bool:
            line = lines[number * 7 % len(lines)]
            done = subprocess.run([*PROGRAM, *line], env=warm, capture_output=True, check=False)
            return (done.returncode, done.stdout, done.stderr) == expected[tuple(line)]

        for _ in pool.map(asked, range(2 * len(lines))):
            pass
        before, begin = state(warm), time.perf_counter()
        right = sum(pool.map(asked, range(count)))
        seconds, after = time.perf_counter() - begin, state(warm)
        print(f"{right} of {count} answers are equal, byte for byte, to cold ones; {count / seconds:.1f} a second")
        print(f"answered by the server: {after['questions'] - before['questions']}")
        print(f"memory of the server: {before['memory'] / 1e6:.1f} MB before, {after['memory'] / 1e6:.1f} MB after")
        assert server.poll() is None


def _path(model: str) -> str:
    """Where transformers finds a bundled model."""
    import txinspect

    bundled = Path(txinspect.__file__).parent / "bundled" / model
    return str(bundled) if bundled.is_dir() else model


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="opt-mini")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--soak", type=int, default=0, metavar="N")
    parser.add_argument("--models", nargs="*", default=["opt-mini", "transformer-mini"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.soak:
            soak(Path(folder), asked.soak, asked.models)
        else:
            times(Path(folder), asked.model, asked.rounds)


if __name__ == "__main__":
    main()
