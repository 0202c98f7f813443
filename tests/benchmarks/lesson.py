"""Time and peak memory of the lesson's commands, beside the same work in plain transformers.

    python -m tests.benchmarks.lesson [--runs 5] [--checkpoint FOLDER]

Every command, its plain counterpart and their floor run in turn, each as a process of its own on an OPT-1.3b-shaped
checkpoint with random weights (2.6 GB, float16), written to a temporary folder unless one is given. The floor is a bare
interpreter beside an empty Typer program, else a process that only imports what the plain script imports: what is
loaded is what is compared. Seconds and megabytes are medians; the ratios are of what these are above the floor's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.table import Table

TEXT = "The quick brown fox jumps over the lazy dog"

IMPORTS = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer, OPTForCausalLM
"""
"""All that plain transformers imports to run the model."""

_MODEL = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
ids = AutoTokenizer.from_pretrained(sys.argv[1])(sys.argv[2], return_tensors="pt")
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
decoder = model.model.decoder
"""

EMPTY = """
import typer
app = typer.Typer()
@app.command()
def one(count: int = 0) -> None: pass
@app.command()
def two(count: int = 0) -> None: pass
app()
"""
"""An empty Typer program with two commands."""

PLAIN = {
    "tokenize": """
import sys
from transformers import AutoTokenizer
ids = AutoTokenizer.from_pretrained(sys.argv[1])(sys.argv[2], return_tensors="pt")
print(ids["input_ids"].size(), ids)
""",
    "tree": """
import sys
from transformers import AutoModelForCausalLM
print(AutoModelForCausalLM.from_pretrained(sys.argv[1]))
""",
    "embed": _MODEL
    + """
with torch.no_grad():
    embeddings = decoder.embed_tokens(ids["input_ids"])
print(embeddings.size(), embeddings)
""",
    "attn": _MODEL
    + """
with torch.no_grad():
    embeddings = decoder.embed_tokens(ids["input_ids"]) + decoder.embed_positions(ids["attention_mask"])
    layer = decoder.layers[0]
    output, _ = layer.self_attn(layer.self_attn_layer_norm(embeddings))
print(output.size(), output)
""",
}
"""The same work as the lesson does it, by hand."""

FLOORS = {
    "tokenize": "import sys\nfrom transformers import AutoTokenizer",
    "tree": IMPORTS,
    "embed": IMPORTS,
    "attn": IMPORTS,
}
"""What it imports."""


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    seconds: float
    megabytes: float


@dataclass(frozen=True)
class Pair:
    """A command and what it is compared with."""

    name: str
    ours: Sequence[str]
    theirs: Sequence[str]
    floor: Sequence[str]


def pairs(checkpoint: Path) -> list[Pair]:
    """The comparisons, on a checkpoint."""
    ours = [sys.executable, "-m", "txinspect"]
    empty, bare = [sys.executable, "-c", EMPTY], [sys.executable, "-c", ""]
    one = [*empty, "one", "--count", "1"]
    start = [
        *(
            Pair(f"{flag} | empty Typer --help", [*ours, flag], [*empty, "--help"], bare)
            for flag in ("--help", "--version")
        ),
        Pair("schema attn | empty Typer command", [*ours, "schema", "attn"], one, bare),
        Pair("tokenize opt-mini | empty Typer command", [*ours, "tokenize"], one, bare),
    ]
    model = ["-m", str(checkpoint)]
    commands = {
        "tokenize": ["tokenize", TEXT, *model],
        "tree": ["tree", str(checkpoint)],
        "embed": ["embed", TEXT, *model],
        "attn": ["attn", TEXT, "--layer", "0", *model],
    }
    return start + [
        Pair(
            f"{' '.join(arguments[:1])}{' --layer 0' if name == 'attn' else ''} | plain transformers",
            [*ours, *arguments],
            [sys.executable, "-c", PLAIN[name], str(checkpoint), TEXT],
            [sys.executable, "-c", FLOORS[name]],
        )
        for name, arguments in commands.items()
    ]


def measure(command: Sequence[str]) -> Cost:
    """Run a process to its end. Raises RuntimeError if it fails."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if status:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed: {said.read().decode()}")
    return Cost(seconds, usage.ru_maxrss / 1024 if sys.platform != "darwin" else usage.ru_maxrss / 1024**2)


def above(floor: float, ours: float, plain: float) -> str:
    """How many times as much ours is above a floor as plain is; a dash where plain is no more than the floor."""
    return f"{max(0, ours - floor) / (plain - floor):.2f}" if plain > floor else "-"


def write_checkpoint(folder: Path) -> None:
    """An OPT of opt-1.3b's shape with random weights and opt-mini's tokenizer, in float16 safetensors.

    In a process of its own: what this one has held counts in the peak memory of those that it starts.
    """
    writer = get_context("spawn").Process(target=_write, args=(folder,))
    writer.start()
    writer.join()


def _write(folder: Path) -> None:
    import shutil

    import torch
    from transformers import OPTConfig, OPTForCausalLM

    from txinspect.sources.bundled_models import BUNDLED

    config = OPTConfig(
        hidden_size=2048,
        word_embed_proj_dim=2048,
        ffn_dim=8192,
        num_hidden_layers=24,
        num_attention_heads=32,
        dtype=torch.float16,
    )
    with torch.device("meta"):
        model = OPTForCausalLM(config).half()
    model = model.to_empty(device="cpu")
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.02)
    model.tie_weights()
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED / "opt-mini" / name, folder)


def main() -> None:
    """Print a table of the comparisons."""
    parser = argparse.ArgumentParser(description="Time and peak memory beside plain transformers.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--checkpoint", type=Path)
    options = parser.parse_args()
    table = Table("ours | compared with", *("s", "s", "floor", "time ratio"), *("MB", "MB", "floor", "memory ratio"))
    with tempfile.TemporaryDirectory() as temporary:
        checkpoint = options.checkpoint or Path(temporary)
        if not options.checkpoint:
            write_checkpoint(checkpoint)
        for pair in pairs(checkpoint):
            sides = (pair.ours, pair.theirs, pair.floor)
            [measure(side) for side in sides]  # the files are in the page cache from here on
            costs = [[measure(side) for side in sides] for _ in range(options.runs)]
            row = []
            for unit, digits in (("seconds", 2), ("megabytes", 0)):
                ours, theirs, floor = (
                    statistics.median(getattr(cost[side], unit) for cost in costs) for side in range(3)
                )
                row += [f"{value:.{digits}f}" for value in (ours, theirs, floor)] + [above(floor, ours, theirs)]
            table.add_row(pair.name, *row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
